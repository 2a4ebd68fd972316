//! One container of a pod, initial or not → one container of a manifest.

use std::collections::BTreeSet;

use edge_protocol::Digest;
use edge_protocol::v1::{
    ContainerSpec, PortProtocol, PortSpec, PullPolicy, ResizeResource, RestartAction, RestartRule, Terminal,
    TerminationMessage,
};
use k8s_openapi::api::core::v1::{Container, ContainerPort, ContainerRestartRule, PodSpec};

use super::environment::{Services, variables};
use super::{accept, image, mount, probe, resources, restart_policy, security, stated};
use crate::api_access::ApiAccess;
use crate::node::{Context, NodeKind};
use crate::qos::Ask;
use crate::refusal::{Path, Refusal};

/// What the API server writes when the author says nothing.
const MESSAGE_PATH: &str = "/dev/termination-log";

/// The pod around a container.
pub(super) struct Scope<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) context: Context<'a>,
    /// What of the pod does not reach a device.
    pub(super) withheld: &'a ApiAccess<'a>,
    /// The names of those volumes that do.
    pub(super) volumes: BTreeSet<&'a str>,
}

/// The container and what it asks for. `None` only together with a new refusal.
pub(super) fn build(
    container: &Container,
    scope: &Scope<'_>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<(ContainerSpec, Ask)> {
    let image = container.image.clone().unwrap_or_default();
    for (field, value) in [("name", &container.name), ("image", &image)] {
        if value.is_empty() {
            refused.push(path.field(field).refuse("is missing"));
        }
    }
    let policy = pull_policy(container.image_pull_policy.as_deref(), &image);
    let policy = accept(policy, &path.field("imagePullPolicy"), refused);
    let ports = ports(
        container.ports.as_deref().unwrap_or_default(),
        scope,
        &path.field("ports"),
        refused,
    );
    let at = path.field("resources");
    let requirements = container.resources.clone().unwrap_or_default();
    let asked = resources::of_container(&requirements, &at, refused);
    let services = match scope.context.kind {
        NodeKind::Fleet => Services::Absent,
        NodeKind::Device => Services::Present,
    };
    let variables = variables(container, services, path, refused);
    let mounts = container.volume_mounts.iter().flatten().enumerate();
    let mounts = mounts.filter(|(_, mount)| !scope.withheld.is_typed_mount(mount));
    let mounts = mount::mounts(mounts, &scope.volumes, &path.field("volumeMounts"), refused);
    let conduct = conduct(container, scope, path, refused);
    let (ask, resources) = asked?;
    let variables = variables?;
    let built = ContainerSpec {
        restart_digest: restart_digest(&container.name, &image),
        image,
        pull_policy: policy?,
        command: variables.command,
        args: variables.args,
        working_dir: stated(container.working_dir.as_ref()),
        env: variables.env,
        env_from: variables.env_from,
        expand: variables.expand,
        ports: ports?,
        resources,
        mounts: mounts?,
        ..conduct?
    };
    Some((built, ask))
}

/// How a container is watched, restarted, stopped and confined; nothing of what it is.
fn conduct(
    container: &Container,
    scope: &Scope<'_>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<ContainerSpec> {
    let probes = probe::probes(container, path, refused);
    let lifecycle = probe::lifecycle(container, path, refused);
    let of_pod = scope.spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let security = security::of_container(&of_pod, &own, &path.field("securityContext"), refused);
    let restart = match stated(container.restart_policy.as_ref()) {
        None => Some(None),
        Some(policy) => accept(restart_policy(&policy), &path.field("restartPolicy"), refused).map(Some),
    };
    let rules = restart_rules(container, &path.field("restartPolicyRules"), refused);
    let message = termination_message(container, scope.context.kind);
    let message = accept(message, &path.field("terminationMessagePolicy"), refused);
    let resize_restarts = match scope.context.kind {
        // Refused by its line.
        NodeKind::Fleet => Some(Vec::new()),
        NodeKind::Device => resize_restarts(container, &path.field("resizePolicy"), refused),
    };
    Some(ContainerSpec {
        probes: probes?,
        lifecycle: lifecycle?,
        security: security?,
        restart_policy: restart?,
        restart_rules: rules?,
        terminal: Terminal {
            stdin: container.stdin.unwrap_or_default(),
            stdin_once: container.stdin_once.unwrap_or_default(),
            tty: container.tty.unwrap_or_default(),
        },
        termination_message: message?,
        resize_restarts: resize_restarts?,
        ..ContainerSpec::new(container.name.as_str(), "")
    })
}

/// What restarts a running container when it changes: its name and its image, nothing else.
///
/// The rule is `HashContainer` with `pickFieldsToHash` in `pkg/kubelet/container/helpers.go` of Kubernetes 1.37. The API
/// server lets nothing else of a container change, except resources, which change in place or by `resizePolicy`.
fn restart_digest(name: &str, image: &str) -> Digest {
    Digest::of_parts([name.as_bytes(), image.as_bytes()])
}

fn restart_rules(
    container: &Container,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Vec<RestartRule>> {
    let rules = container.restart_policy_rules.iter().flatten().enumerate();
    let built: Vec<_> = rules
        .map(|(index, rule)| restart_rule(rule, &path.index(index), refused))
        .collect();
    built.into_iter().collect()
}

fn restart_rule(
    rule: &ContainerRestartRule,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<RestartRule> {
    let action = match rule.action.as_str() {
        "Restart" => Ok(RestartAction::Restart),
        "RestartAllContainers" => Ok(RestartAction::RestartAll),
        _ => Err("must be Restart or RestartAllContainers"),
    };
    let action = accept(action, &path.field("action"), refused);
    let codes = rule.exit_codes.clone().unwrap_or_default();
    let among = match codes.operator.as_str() {
        "In" => Ok(true),
        "NotIn" => Ok(false),
        _ => Err("must be In or NotIn"),
    };
    let among = accept(among, &path.field("exitCodes").field("operator"), refused);
    Some(RestartRule {
        action: action?,
        among: among?,
        exit_codes: codes.values.unwrap_or_default(),
    })
}

/// What the API server writes by itself is as good as absent on a fleet.
fn termination_message(
    container: &Container,
    kind: NodeKind,
) -> Result<Option<TerminationMessage>, &'static str> {
    let place = stated(container.termination_message_path.as_ref());
    let place = place.unwrap_or_else(|| MESSAGE_PATH.to_owned());
    let fall_back_to_log = match container.termination_message_policy.as_deref() {
        None | Some("" | "File") => false,
        Some("FallbackToLogsOnError") => true,
        Some(_) => return Err("must be File or FallbackToLogsOnError"),
    };
    let is_default = place == MESSAGE_PATH && !fall_back_to_log;
    let wanted = !(kind == NodeKind::Fleet && is_default);
    Ok(wanted.then_some(TerminationMessage {
        path: place,
        fall_back_to_log,
    }))
}

fn resize_restarts(
    container: &Container,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Vec<ResizeResource>> {
    let mut restarts = Some(Vec::new());
    for (index, policy) in container.resize_policy.iter().flatten().enumerate() {
        let at = path.index(index);
        let resource = match policy.resource_name.as_str() {
            "cpu" => Ok(ResizeResource::Cpu),
            "memory" => Ok(ResizeResource::Memory),
            _ => Err("must be cpu or memory"),
        };
        let resource = accept(resource, &at.field("resourceName"), refused);
        let restart = match policy.restart_policy.as_str() {
            "NotRequired" => Ok(false),
            "RestartContainer" => Ok(true),
            _ => Err("must be NotRequired or RestartContainer"),
        };
        let restart = accept(restart, &at.field("restartPolicy"), refused);
        restarts = restarts
            .zip(resource.zip(restart))
            .map(|(mut all, (resource, restart))| {
                all.extend(restart.then_some(resource));
                all
            });
    }
    restarts
}

/// The policy of an image, stated or by default.
pub(super) fn pull_policy(policy: Option<&str>, image: &str) -> Result<PullPolicy, &'static str> {
    match policy {
        None | Some("") => Ok(image::default_policy(image)),
        Some("Always") => Ok(PullPolicy::Always),
        Some("IfNotPresent") => Ok(PullPolicy::IfNotPresent),
        Some("Never") => Ok(PullPolicy::Never),
        Some(_) => Err("must be Always, IfNotPresent or Never"),
    }
}

fn ports(
    ports: &[ContainerPort],
    scope: &Scope<'_>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Vec<PortSpec>> {
    let ports = ports.iter().enumerate();
    let built: Vec<_> = ports
        .map(|(index, port)| build_port(port, scope, &path.index(index), refused))
        .collect();
    built.into_iter().collect()
}

fn build_port(
    port: &ContainerPort,
    scope: &Scope<'_>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<PortSpec> {
    let number = |value: i32| {
        u16::try_from(value)
            .ok()
            .filter(|port| *port > 0)
            .ok_or("must be 1 to 65535")
    };
    let container_port = accept(number(port.container_port), &path.field("containerPort"), refused);
    // Zero is how Go writes an absent host port. On the host's network the API server writes the port itself (`SetDefaults_Pod`).
    let on_host = scope.spec.host_network.unwrap_or_default();
    let host_port = match port.host_port {
        None | Some(0) if on_host => Some(container_port),
        None | Some(0) => Some(None),
        Some(value) => accept(number(value).map(Some), &path.field("hostPort"), refused),
    };
    let protocol = match port.protocol.as_deref() {
        None | Some("" | "TCP") => Ok(PortProtocol::Tcp),
        Some("UDP") => Ok(PortProtocol::Udp),
        Some("SCTP") => Ok(PortProtocol::Sctp),
        Some(_) => Err("must be TCP, UDP or SCTP"),
    };
    let protocol = accept(protocol, &path.field("protocol"), refused);
    Some(PortSpec {
        name: stated(port.name.as_ref()),
        container_port: container_port?,
        host_port: host_port?,
        host_ip: stated(port.host_ip.as_ref()),
        protocol: protocol?,
    })
}
