//! One container of a pod → one container of a manifest.

use std::collections::BTreeMap;

use edge_protocol::Digest;
use edge_protocol::v1::{ContainerSpec, PortProtocol, PortSpec, PullPolicy, Resources};
use k8s_openapi::api::core::v1::{Container, ContainerPort, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{accept, image};
use crate::qos::{Ask, Bounds};
use crate::quantity::Amount;
use crate::refusal::{Path, Refusal};
use edge_protocol::expand::Environment;

/// The container and what it asks for. `None` only together with a new refusal.
pub(super) fn build(
    container: Container,
    path: &Path<'_>,
    held: &[ContainerSpec],
    refused: &mut Vec<Refusal>,
) -> Option<(ContainerSpec, Ask)> {
    let name = container.name;
    let image = container.image.unwrap_or_default();
    for (field, value) in [("name", &name), ("image", &image)] {
        if value.is_empty() {
            refused.push(path.field(field).refuse("is missing"));
        }
    }
    let policy = pull_policy(container.image_pull_policy.as_deref(), &image);
    let policy = accept(policy, &path.field("imagePullPolicy"), refused);
    let ports = ports(container.ports.unwrap_or_default(), &path.field("ports"), refused);
    let at = path.field("resources");
    let ask = ask(&container.resources.unwrap_or_default(), &at, refused)?;
    let resources = resources(&ask);
    if held
        .iter()
        .any(|held| held.name == name && held.resources != resources)
    {
        refused.push(at.refuse("resources of a fleet pod cannot be changed in place"));
    }

    let env = container.env.unwrap_or_default();
    let declared = env
        .iter()
        .map(|var| (var.name.as_str(), var.value.as_deref().unwrap_or_default()));
    let environment = Environment::resolve(declared);
    let expand = |texts: Option<Vec<String>>| {
        texts
            .unwrap_or_default()
            .iter()
            .map(|text| environment.expand(text))
            .collect::<Vec<_>>()
    };
    let built = ContainerSpec {
        restart_digest: restart_digest(&name, &image),
        pull_policy: policy?,
        command: expand(container.command),
        args: expand(container.args),
        working_dir: container.working_dir.filter(|dir| !dir.is_empty()),
        env: environment.into_vars(),
        ports: ports?,
        resources,
        ..ContainerSpec::new(name, image)
    };
    Some((built, ask))
}

/// What restarts a running container when it changes: its name and its image, nothing else.
///
/// The rule is `HashContainer` with `pickFieldsToHash` in `pkg/kubelet/container/helpers.go` of Kubernetes 1.37. The API
/// server lets nothing else of a container change, except resources, which are refused.
fn restart_digest(name: &str, image: &str) -> Digest {
    Digest::of_parts([name.as_bytes(), image.as_bytes()])
}

fn pull_policy(policy: Option<&str>, image: &str) -> Result<PullPolicy, &'static str> {
    match policy {
        None | Some("") => Ok(image::default_policy(image)),
        Some("Always") => Ok(PullPolicy::Always),
        Some("IfNotPresent") => Ok(PullPolicy::IfNotPresent),
        Some("Never") => Ok(PullPolicy::Never),
        Some(_) => Err("must be Always, IfNotPresent or Never"),
    }
}

fn ports(ports: Vec<ContainerPort>, path: &Path<'_>, refused: &mut Vec<Refusal>) -> Option<Vec<PortSpec>> {
    let all = ports.len();
    let mut built = Vec::with_capacity(all);
    for (index, port) in ports.into_iter().enumerate() {
        built.extend(build_port(port, &path.index(index), refused));
    }
    (built.len() == all).then_some(built)
}

fn build_port(port: ContainerPort, path: &Path<'_>, refused: &mut Vec<Refusal>) -> Option<PortSpec> {
    let number = |value: i32| {
        u16::try_from(value)
            .ok()
            .filter(|port| *port > 0)
            .ok_or("must be 1 to 65535")
    };
    let container_port = accept(number(port.container_port), &path.field("containerPort"), refused);
    // Zero is how Go writes an absent host port.
    let host_port = match port.host_port {
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
        name: port.name.filter(|name| !name.is_empty()),
        container_port: container_port?,
        host_port: host_port?,
        host_ip: None,
        protocol: protocol?,
    })
}

fn ask(requirements: &ResourceRequirements, path: &Path<'_>, refused: &mut Vec<Refusal>) -> Option<Ask> {
    let mut bounds = |resource| {
        let limit = amount(requirements.limits.as_ref(), resource, &path.field("limits"));
        let request = amount(requirements.requests.as_ref(), resource, &path.field("requests"));
        match (limit, request) {
            // The API server writes a missing request from the limit (`SetDefaults_Pod`); a pod read from a file lacks it.
            (Ok(limit), Ok(request)) => Some(Bounds {
                request: request.or(limit),
                limit,
            }),
            (limit, request) => {
                refused.extend(limit.err().into_iter().chain(request.err()));
                None
            }
        }
    };
    let (cpu, memory) = (bounds("cpu"), bounds("memory"));
    Some(Ask {
        cpu: cpu?,
        memory: memory?,
    })
}

/// The amount of one resource, if it is stated.
fn amount(
    stated: Option<&BTreeMap<String, Quantity>>,
    resource: &str,
    path: &Path<'_>,
) -> Result<Option<Amount>, Refusal> {
    let Some(quantity) = stated.and_then(|stated| stated.get(resource)) else {
        return Ok(None);
    };
    let parsed = Amount::parse(&quantity.0).map(Some);
    parsed.map_err(|_| path.key(resource).refuse("is not a quantity of zero or more"))
}

fn resources(ask: &Ask) -> Resources {
    Resources {
        cpu_request_milli: ask.cpu.request.map(Amount::milli),
        cpu_limit_milli: ask.cpu.limit.map(Amount::milli),
        memory_request_bytes: ask.memory.request.map(Amount::whole),
        memory_limit_bytes: ask.memory.limit.map(Amount::whole),
        ..Resources::default()
    }
}
