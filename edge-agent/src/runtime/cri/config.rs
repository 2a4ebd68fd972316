//! From the agent's descriptions to CRI's: pure translation, in the kubelet's shape.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edge_agent_core::step::{SandboxSpec, StartContainer};
use edge_agent_cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol, SecurityProfile,
    security_profile::ProfileType,
};
use edge_protocol::v1::{EnvVar, PortProtocol, PortSpec, QosClass, Resources};
use edge_protocol::{DeviceId, PodUid};

use super::labels;
use crate::runtime::cgroup::Cgroups;
use crate::runtime::resources::{CPU_PERIOD_US, cpu_quota_us, cpu_request_milli, cpu_shares, oom_score_adj};

/// What a container may not see of `/proc` and `/sys`, and may not write there (pkg/securitycontext/util.go).
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What is the same for every workload of this agent.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) agent: DeviceId,
    pub(super) log_root: PathBuf,
    pub(super) cgroups: Cgroups,
    pub(super) memory_capacity_bytes: u64,
}

/// A name cannot be part of a path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no name of a namespace, pod or container")]
pub(super) struct InvalidName(pub(super) String);

impl Settings {
    /// Where a workload's logs are: `<root>/<namespace>_<name>_<uid>`.
    pub(super) fn log_directory(&self, spec: &SandboxSpec) -> Result<PathBuf, InvalidName> {
        let (namespace, name) = (path_part(&spec.namespace)?, path_part(&spec.name)?);
        Ok(self.log_root.join(format!("{namespace}_{name}_{}", spec.uid)))
    }

    /// What every log directory of a workload ends in; neither names nor uids hold an underscore.
    pub(super) fn log_directory_suffix(uid: &PodUid) -> String {
        format!("_{uid}")
    }

    pub(super) fn sandbox(&self, spec: &SandboxSpec) -> Result<PodSandboxConfig, InvalidName> {
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
            hostname: spec.hostname.clone(),
            log_directory: self.log_directory(spec)?.display().to_string(),
            // None lets the runtime use the device's own resolv.conf.
            dns_config: None,
            port_mappings: spec.ports.iter().filter_map(port_mapping).collect(),
            labels: all_labels,
            annotations: spec.annotations.clone(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroups.pod(spec.qos, &spec.uid),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    seccomp: Some(SecurityProfile {
                        profile_type: ProfileType::RuntimeDefault.into(),
                        localhost_ref: String::new(),
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        })
    }

    pub(super) fn container(&self, start: &StartContainer) -> Result<ContainerConfig, InvalidName> {
        let StartContainer {
            sandbox_id: _,
            sandbox,
            attempt,
            container,
            pod_ip: _,
        } = start;
        let identity = labels::identity(&self.agent, &sandbox.uid, &sandbox.namespace, &sandbox.name);
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
            command: container.command.clone(),
            args: container.args.clone(),
            working_dir: container.working_dir.clone().unwrap_or_default(),
            envs: environment(&container.env),
            labels: labels::container(identity, &container.name),
            annotations: labels::container_annotations(&container.restart_digest, *attempt),
            log_path: log_path(&container.name, *attempt)?.display().to_string(),
            linux: Some(LinuxContainerConfig {
                resources: Some(self.resources(sandbox.qos, &container.resources)),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    masked_paths: MASKED_PATHS.map(str::to_owned).into(),
                    readonly_paths: READONLY_PATHS.map(str::to_owned).into(),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        })
    }

    fn resources(&self, qos: QosClass, resources: &Resources) -> LinuxContainerResources {
        let memory = resources.memory_limit_bytes.map_or(0, signed);
        let mut unified = BTreeMap::new();
        if self.cgroups.is_v2() {
            // One process out of memory ends the container, not a random child of it.
            unified.insert("memory.oom.group".to_owned(), "1".to_owned());
        }
        LinuxContainerResources {
            cpu_period: signed(CPU_PERIOD_US),
            cpu_quota: resources.cpu_limit_milli.and_then(cpu_quota_us).map_or(0, signed),
            cpu_shares: signed(cpu_shares(cpu_request_milli(resources))),
            memory_limit_in_bytes: memory,
            // Memory and swap together no more than memory alone: no swap.
            memory_swap_limit_in_bytes: if self.cgroups.limits_swap() { memory } else { 0 },
            oom_score_adj: oom_score_adj(qos, resources, self.memory_capacity_bytes),
            unified,
            ..Default::default()
        }
    }
}

/// Where a container logs, below its workload's directory: `<container>/<attempt>.log`.
pub(super) fn log_path(container: &str, attempt: u32) -> Result<PathBuf, InvalidName> {
    Ok(Path::new(path_part(container)?).join(format!("{attempt}.log")))
}

/// A network and IPC of the pod's own, processes of each container's own.
fn namespaces() -> NamespaceOption {
    NamespaceOption {
        network: NamespaceMode::Pod.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        target_id: String::new(),
    }
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

/// The variables in order; of several with one name the last has the say, at the place of the first.
fn environment(variables: &[EnvVar]) -> Vec<KeyValue> {
    let mut result: Vec<KeyValue> = Vec::with_capacity(variables.len());
    let mut places = BTreeMap::new();
    for EnvVar { name, value, from: _ } in variables {
        let place = *places.entry(name.as_str()).or_insert(result.len());
        let value = value.clone().into_bytes();
        match result.get_mut(place) {
            Some(earlier) => earlier.value = value,
            None => result.push(KeyValue {
                key: name.clone(),
                value,
            }),
        }
    }
    result
}

/// Names come from a manifest: one that is not a DNS name could lead out of the log directory.
fn path_part(name: &str) -> Result<&str, InvalidName> {
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
    fn the_last_variable_of_a_name_wins() {
        let env = environment(&[
            EnvVar::literal("A", "1"),
            EnvVar::literal("B", "2"),
            EnvVar::literal("A", "3"),
        ]);
        let pairs: Vec<_> = env
            .iter()
            .map(|pair| (pair.key.as_str(), pair.value.as_slice()))
            .collect();
        assert_eq!(pairs, [("A", b"3".as_slice()), ("B", b"2")]);
    }

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
