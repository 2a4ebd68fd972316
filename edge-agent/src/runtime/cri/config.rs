//! From the agent's descriptions to CRI's: pure translation, in the kubelet's shape.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edge_agent_core::step::{SandboxSpec, StartContainer};
use edge_agent_cri::v1::{
    ContainerConfig, ContainerMetadata, DnsConfig, ImageSpec, KeyValue, LinuxContainerConfig,
    LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig, Mount, PodSandboxConfig,
    PodSandboxMetadata, PortMapping, Protocol,
};
use edge_protocol::expand::Environment;
use edge_protocol::v1::{ContainerSpec, PortProtocol, PortSpec, QosClass, WorkloadSpec};
use edge_protocol::{DeviceId, PodUid};

use super::labels;
use super::security::{self, SecurityFault};
use crate::runtime::cgroup::Cgroups;
use crate::runtime::names::{self, NameTooLong, ResolvConf, Resolver, kernel_hostname};
use crate::runtime::resources::{CPU_PERIOD_US, cpu_quota_us, cpu_shares, oom_score_adj};
use crate::runtime::volumes::Volumes;
use edge_protocol::v1::Amounts;

/// What is the same for every workload of this agent.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) agent: DeviceId,
    pub(super) log_root: PathBuf,
    pub(super) cgroups: Cgroups,
    pub(super) capacity: Amounts,
    pub(super) volumes: Volumes,
    pub(super) resolver: Resolver,
    pub(super) seccomp_dir: PathBuf,
}

/// A sandbox or container cannot be described.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigFault {
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Hostname(#[from] NameTooLong),
    #[error("cannot read {path}")]
    ResolvConf {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Security(#[from] SecurityFault),
}

/// A name cannot be part of a path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no name of a namespace, pod or container")]
pub(super) struct InvalidName(pub(super) String);

impl Settings {
    /// Where a workload's logs are: `<root>/<namespace>_<name>_<uid>`.
    pub(super) fn log_directory(&self, spec: &SandboxSpec) -> Result<PathBuf, InvalidName> {
        self.log_directory_of(&spec.namespace, &spec.name, &spec.uid)
    }

    pub(super) fn log_directory_of(
        &self,
        namespace: &str,
        name: &str,
        uid: &PodUid,
    ) -> Result<PathBuf, InvalidName> {
        let (namespace, name) = (path_part(namespace)?, path_part(name)?);
        Ok(self.log_root.join(format!("{namespace}_{name}_{uid}")))
    }

    /// What every log directory of a workload ends in; neither names nor uids hold an underscore.
    pub(super) fn log_directory_suffix(uid: &PodUid) -> String {
        format!("_{uid}")
    }

    /// Whose log directory has this name.
    pub(super) fn log_directory_uid(name: &str) -> Option<PodUid> {
        name.rsplit_once('_')?.1.parse().ok()
    }

    /// Not for the same call twice: the device's own resolv.conf is read anew.
    pub(super) fn sandbox(&self, spec: &SandboxSpec) -> Result<PodSandboxConfig, ConfigFault> {
        let workload = &spec.manifest.workload;
        let ResolvConf {
            servers,
            searches,
            options,
            left_out: _,
        } = self.resolv_conf(spec)?;
        let hostname = if workload.namespaces.host_network {
            String::new()
        } else {
            kernel_hostname(&spec.hostname, &workload.names)?
        };
        let mut all_labels = spec.labels.clone();
        all_labels.extend(labels::identity(
            &self.agent,
            &spec.uid,
            &spec.namespace,
            &spec.name,
        ));
        Ok(PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: spec.name.clone(),
                // Names must be unique in the runtime, and the same fleet pod runs on several agents that share one.
                uid: format!("{}.{}", spec.uid, self.agent),
                namespace: spec.namespace.clone(),
                attempt: spec.attempt,
            }),
            hostname,
            log_directory: self.log_directory(spec)?.display().to_string(),
            dns_config: Some(DnsConfig {
                servers,
                searches,
                options,
            }),
            port_mappings: spec.ports.iter().filter_map(port_mapping).collect(),
            labels: all_labels,
            annotations: spec.annotations.clone(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroups.pod(spec.qos, &spec.uid),
                security_context: Some(security::sandbox(&spec.manifest)),
                sysctls: workload.security.sysctls.clone(),
                ..Default::default()
            }),
        })
    }

    /// What its resolv.conf is to hold.
    pub(super) fn resolv_conf(&self, spec: &SandboxSpec) -> Result<ResolvConf, ConfigFault> {
        let of_device = self.resolver.resolv_conf.as_ref().map(|path| {
            std::fs::read_to_string(path).map_err(|source| ConfigFault::ResolvConf {
                path: path.clone(),
                source,
            })
        });
        let of_device = of_device.transpose()?;
        let dns = &spec.manifest.workload.names.dns;
        Ok(names::resolv_conf(
            &spec.namespace,
            dns,
            &self.resolver,
            of_device.as_deref(),
        ))
    }

    pub(super) fn container(
        &self,
        start: &StartContainer,
        environment: &Environment,
        security: LinuxContainerSecurityContext,
        mounts: Vec<Mount>,
    ) -> Result<ContainerConfig, InvalidName> {
        let StartContainer {
            sandbox_id: _,
            sandbox,
            attempt,
            container,
            target: _,
            pod_ips: _,
        } = start;
        let identity = labels::identity(&self.agent, &sandbox.uid, &sandbox.namespace, &sandbox.name);
        let expanded = |texts: &[String]| -> Vec<String> {
            let expand = |text: &String| {
                if container.expand {
                    environment.expand(text)
                } else {
                    text.clone()
                }
            };
            texts.iter().map(expand).collect()
        };
        let image = ImageSpec {
            image: container.image.clone(),
            annotations: BTreeMap::new(),
        };
        Ok(ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: container.name.clone(),
                attempt: *attempt,
            }),
            image: Some(image),
            command: expanded(&container.command),
            args: expanded(&container.args),
            working_dir: container.working_dir.clone().unwrap_or_default(),
            envs: environment.iter().map(key_value).collect(),
            labels: labels::container(identity, &container.name),
            annotations: labels::container_annotations(container, *attempt),
            log_path: log_path(&container.name, *attempt)?.display().to_string(),
            linux: Some(LinuxContainerConfig {
                resources: Some(self.resources(&sandbox.manifest.workload, sandbox.qos, container)),
                security_context: Some(security),
            }),
            mounts,
            stdin: container.terminal.stdin,
            stdin_once: container.terminal.stdin_once,
            tty: container.terminal.tty,
        })
    }

    /// `generateLinuxContainerResources` of `pkg/kubelet/kuberuntime/kuberuntime_container_linux.go`: what a container does not limit, the
    /// workload as a whole may.
    pub(super) fn resources(
        &self,
        workload: &WorkloadSpec,
        qos: QosClass,
        container: &ContainerSpec,
    ) -> LinuxContainerResources {
        let held = container.resources.within(workload.resources.as_ref());
        let cpu_limit = held.cpu_limit_milli;
        let memory = held.memory_limit_bytes.map_or(0, signed);
        let cpu_request = held.cpu_request_milli.or(cpu_limit).unwrap_or(0);
        let mut unified = BTreeMap::new();
        if self.cgroups.is_v2() {
            // One process out of memory ends the container, not a random child of it.
            unified.insert("memory.oom.group".to_owned(), "1".to_owned());
        }
        LinuxContainerResources {
            cpu_period: signed(CPU_PERIOD_US),
            cpu_quota: cpu_limit.and_then(cpu_quota_us).map_or(0, signed),
            cpu_shares: signed(cpu_shares(cpu_request)),
            memory_limit_in_bytes: memory,
            // Memory and swap together no more than memory alone: no swap.
            memory_swap_limit_in_bytes: if self.cgroups.limits_swap() { memory } else { 0 },
            oom_score_adj: oom_score_adj(workload, qos, container, self.capacity.memory_bytes),
            unified,
            ..Default::default()
        }
    }
}

/// Where a container logs, below its workload's directory: `<container>/<attempt>.log`.
pub(super) fn log_path(container: &str, attempt: u32) -> Result<PathBuf, InvalidName> {
    Ok(Path::new(path_part(container)?).join(format!("{attempt}.log")))
}

fn port_mapping(port: &PortSpec) -> Option<PortMapping> {
    let protocol = match port.protocol {
        PortProtocol::Tcp => Protocol::Tcp,
        PortProtocol::Udp => Protocol::Udp,
        PortProtocol::Sctp => Protocol::Sctp,
    };
    Some(PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port.into(),
        host_port: port.host_port.filter(|port| *port > 0)?.into(),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    })
}

fn key_value((name, value): (&str, &str)) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: value.as_bytes().to_vec(),
    }
}

/// Names come from a manifest: one that is not a DNS name could lead out of the log directory.
pub(super) fn path_part(name: &str) -> Result<&str, InvalidName> {
    let dns = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let valid = (1..=253).contains(&name.len()) && name.bytes().all(dns) && !name.starts_with('.');
    if valid {
        Ok(name)
    } else {
        Err(InvalidName(name.chars().take(80).collect()))
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_log_directory() {
        for (name, valid) in [
            ("web-0", true),
            ("a.b", true),
            ("", false),
            (".", false),
            ("..", false),
            ("../x", false),
            ("a/b", false),
            ("A", false),
            ("a_b", false),
        ] {
            assert_eq!(path_part(name).is_ok(), valid, "{name:?}");
        }
    }

    #[test]
    fn only_host_ports_are_mapped() {
        let port = |host_port| PortSpec {
            name: None,
            container_port: 80,
            host_port,
            host_ip: None,
            protocol: PortProtocol::Udp,
        };
        assert_eq!(port_mapping(&port(None)), None);
        assert_eq!(port_mapping(&port(Some(0))), None);
        let mapping = port_mapping(&port(Some(8080))).unwrap();
        assert_eq!(
            (mapping.host_port, mapping.container_port, mapping.protocol()),
            (8080, 80, Protocol::Udp)
        );
    }
}
