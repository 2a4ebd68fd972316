//! A pod's `spec` → the part of a manifest that containers are made from.

use edge_protocol::v1::{ContainerSpec, Namespaces, RestartPolicy, VolumeSpec, WorkloadSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::container::{self, Scope};
use super::{accept, names, resources, restart_policy, seconds, security, stated, volume};
use crate::api_access::ApiAccess;
use crate::ephemeral;
use crate::node::{Context, NodeKind};
use crate::qos::{self, Ask};
use crate::references::service_account;
use crate::refusal::{Path, Refusal};

/// What the API server writes when the author says nothing.
const DEFAULT_GRACE_S: i64 = 30;

/// Of a pod of this namespace and name. `None` only together with a new refusal.
pub(super) fn build(
    spec: &PodSpec,
    pod: (&str, &str),
    context: Context<'_>,
    withheld: &ApiAccess<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<WorkloadSpec> {
    let root = Path::root("spec");
    let frame = frame(spec, pod, context, refused);
    let volumes = volumes(spec, context, withheld, refused);
    let whole = match &spec.resources {
        None => Some(None),
        Some(stated) => resources::of_pod(stated, &root.field("resources"), refused).map(Some),
    };
    if spec.containers.is_empty() {
        refused.push(root.field("containers").refuse("is missing"));
    }
    let scope = Scope {
        spec,
        context,
        withheld,
        volumes: volume_names(spec, withheld).collect(),
    };
    let mut list =
        |field, containers: &[Container]| containers_of(containers, &scope, &root.field(field), refused);
    let init = list(
        "initContainers",
        spec.init_containers.as_deref().unwrap_or_default(),
    );
    let main = list("containers", &spec.containers);
    let added = ephemeral(spec, &scope, &root.field("ephemeralContainers"), refused);
    let ((init, init_asks), (main, main_asks)) = (init?, main?);
    refuse_resize(&main, context, refused);
    let (whole_ask, whole) = whole?.unzip();
    Some(WorkloadSpec {
        qos: qos::class(whole_ask, &[init_asks, main_asks].concat()),
        containers: main,
        init_containers: init,
        ephemeral_containers: added?,
        volumes: volumes?,
        resources: whole,
        ..frame?
    })
}

/// What is said of the pod and not of its parts.
fn frame(
    spec: &PodSpec,
    pod: (&str, &str),
    context: Context<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<WorkloadSpec> {
    let root = Path::root("spec");
    let restart = match spec.restart_policy.as_deref() {
        None | Some("") => Ok(RestartPolicy::Always),
        Some(policy) => restart_policy(policy),
    };
    let restart = accept(restart, &root.field("restartPolicy"), refused);
    let names = names::names(spec, pod, context, &root, refused);
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let security = security::of_pod(&of_pod, &root.field("securityContext"), refused);
    let overhead = match &spec.overhead {
        None => Some(None),
        Some(costs) => resources::overhead(costs, &root.field("overhead"), refused).map(Some),
    };
    let deadline = spec.active_deadline_seconds.map(u64::try_from).transpose();
    let deadline = deadline.map_err(|_| "must not be negative");
    let deadline = accept(deadline, &root.field("activeDeadlineSeconds"), refused);
    let (hostname, names) = names?;
    Some(WorkloadSpec {
        restart_policy: restart?,
        termination_grace_period_s: grace(spec),
        active_deadline_s: deadline?,
        security: security?,
        namespaces: namespaces(spec),
        names,
        overhead: overhead?,
        node_name: spec.node_name.clone().unwrap_or_default(),
        service_account: service_account(spec).to_owned(),
        priority: match context.kind {
            NodeKind::Fleet => 0,
            NodeKind::Device => spec.priority.unwrap_or_default(),
        },
        pull_secrets: pull_secrets(spec),
        reserved: context.reserved,
        ..WorkloadSpec::new(hostname, Vec::new())
    })
}

/// An empty name means none, as to a kubelet (`getPullSecretsForPod` of `pkg/kubelet/kubelet_pods.go`).
fn pull_secrets(spec: &PodSpec) -> Vec<String> {
    let secrets = spec.image_pull_secrets.iter().flatten();
    secrets
        .map(|secret| secret.name.clone())
        .filter(|name| !name.is_empty())
        .collect()
}

/// A negative value means one second (`SetDefaults_Pod` of `pkg/apis/core/v1/defaults.go`).
fn grace(spec: &PodSpec) -> u32 {
    match spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_S) {
        ..0 => 1,
        stated => seconds(stated),
    }
}

fn namespaces(spec: &PodSpec) -> Namespaces {
    Namespaces {
        host_network: spec.host_network.unwrap_or_default(),
        host_pid: spec.host_pid.unwrap_or_default(),
        host_ipc: spec.host_ipc.unwrap_or_default(),
        share_process_namespace: spec.share_process_namespace.unwrap_or_default(),
    }
}

fn volume_names<'a>(spec: &'a PodSpec, withheld: &ApiAccess<'_>) -> impl Iterator<Item = &'a str> {
    let names = spec.volumes.iter().flatten().map(|volume| volume.name.as_str());
    names.filter(|name| !withheld.is_named(name))
}

fn volumes(
    spec: &PodSpec,
    context: Context<'_>,
    withheld: &ApiAccess<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Vec<VolumeSpec>> {
    let root = Path::root("spec");
    let at = root.field("volumes");
    let volumes = spec.volumes.iter().flatten().enumerate();
    let built: Vec<_> = volumes
        .filter(|(_, volume)| !withheld.is_named(&volume.name))
        .map(|(index, volume)| volume::volume(volume, context, &at.index(index), refused))
        .collect();
    built.into_iter().collect()
}

fn containers_of(
    containers: &[Container],
    scope: &Scope<'_>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<(Vec<ContainerSpec>, Vec<Ask>)> {
    let containers = containers.iter().enumerate();
    let built: Vec<_> = containers
        .map(|(index, container)| container::build(container, scope, &path.index(index), refused))
        .collect();
    let built: Option<Vec<_>> = built.into_iter().collect();
    Some(built?.into_iter().unzip())
}

/// They have no resources, so nothing of them counts for the pod.
fn ephemeral(
    spec: &PodSpec,
    scope: &Scope<'_>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Vec<ContainerSpec>> {
    if scope.context.kind == NodeKind::Fleet {
        // Refused by their lines.
        return Some(Vec::new());
    }
    let added = spec.ephemeral_containers.iter().flatten();
    let (built, _) = containers_of(&ephemeral::containers(spec), scope, path, refused)?;
    let targets = added.map(|added| stated(added.target_container_name.as_ref()));
    let with_target = |(container, target)| ContainerSpec { target, ..container };
    Some(built.into_iter().zip(targets).map(with_target).collect())
}

fn refuse_resize(containers: &[ContainerSpec], context: Context<'_>, refused: &mut Vec<Refusal>) {
    let held = context.held.filter(|_| context.kind == NodeKind::Fleet);
    let root = Path::root("spec");
    let at = root.field("containers");
    for (index, container) in containers.iter().enumerate() {
        let mut before = held.into_iter().flat_map(|held| held.workload.containers.iter());
        if before.any(|held| held.name == container.name && held.resources != container.resources) {
            let at = at.index(index);
            refused.push(
                at.field("resources")
                    .refuse("resources of a fleet pod cannot be changed in place"),
            );
        }
    }
}
