//! The volumes, the sandbox and the containers of a workload, each when what it needs is there.

use std::sync::Arc;

use edge_protocol::v1::{ContainerSpec, Manifest, PortSpec};

use super::{Decision, decide, resize};
use crate::plan::{Given, Plan};
use crate::step::{ObservedSandbox, SandboxSpec, StartContainer, Step};
use crate::sums;
use crate::workload::Subject;

/// Everything that may start now.
pub(super) fn ready(
    given: &Given<'_>,
    manifest: &Arc<Manifest>,
    decisions: &[(&ContainerSpec, Decision)],
    plan: &mut Plan,
) {
    let starts = decisions
        .iter()
        .any(|(_, decision)| matches!(decision, Decision::Start { .. }));
    match given.pod.sandbox() {
        Some(sandbox) => {
            // Files may lag behind a new manifest; what runs or restarts does not wait for them.
            volumes(given, manifest, plan);
            containers(given, manifest, sandbox, decisions, plan);
        }
        None if starts && is_clear(given) && volumes(given, manifest, plan) => {
            let seen = given.pod.sandboxes.iter().map(|sandbox| sandbox.attempt).max();
            let attempt = seen
                .max(given.workload.record.sandbox_attempt)
                .map_or(0, |last| last.saturating_add(1));
            let step = Step::RunSandbox(Box::new(sandbox_spec(manifest, attempt)));
            given.try_step(plan, Subject::Sandbox(String::new()), step);
        }
        None => {}
    }
}

/// Nothing of an earlier sandbox is left that could run.
fn is_clear(given: &Given<'_>) -> bool {
    let mut sandboxes = given.pod.sandboxes.iter();
    given.pod.live().next().is_none() && sandboxes.all(|sandbox| given.workload.stopped.contains(&sandbox.id))
}

/// Whether its images may be pulled: the kubelet has a pod's volumes before it asks for an image (`SyncPod` of pkg/kubelet/kubelet.go). What
/// has a sandbox had them once, and restarts without waiting for them.
pub(super) fn has_volumes(given: &Given<'_>, manifest: &Manifest) -> bool {
    let needs_none = manifest.workload.volumes.is_empty() || given.pod.sandbox().is_some();
    needs_none || given.workload.volumes.is_some()
}

/// Whether the volumes are there, of some manifest of this workload at least; has them brought up to date if they are not.
fn volumes(given: &Given<'_>, manifest: &Arc<Manifest>, plan: &mut Plan) -> bool {
    let workload = given.workload;
    if manifest.workload.volumes.is_empty() {
        return true;
    }
    if workload.volumes.is_none() || workload.volumes != workload.record.manifest {
        let step = Step::SyncVolumes {
            manifest: Arc::clone(manifest),
            pod_ips: given
                .pod
                .sandbox()
                .map_or_else(Vec::new, |sandbox| sandbox.ips.clone()),
        };
        given.try_step(plan, Subject::Volumes, step);
    }
    workload.volumes.is_some()
}

fn containers(
    given: &Given<'_>,
    manifest: &Arc<Manifest>,
    sandbox: &ObservedSandbox,
    decisions: &[(&ContainerSpec, Decision)],
    plan: &mut Plan,
) {
    let in_flight = |id: &str| given.workload.in_flight(&Subject::Sandbox(id.to_owned()));
    if in_flight("") || in_flight(&sandbox.id) || resize::is_ahead(given) {
        return;
    }
    let mut held = false;
    for (spec, decision) in decisions {
        let first = !given.workload.record.attempts.contains_key(&spec.name);
        if let Decision::Start { attempt } = decision
            && !(held && first)
        {
            start(given, (manifest, sandbox), spec, *attempt, plan);
        }
        held |= is_coming(given, spec, *decision);
    }
}

/// A kubelet starts the containers of a pod one after the other and runs each one's `postStart` hook to its end before the next. Pods rely
/// on that when they start, so a first start waits for such a container before it; a restart never waits.
fn is_coming(given: &Given<'_>, spec: &ContainerSpec, decision: Decision) -> bool {
    let failed = |subject: Subject| given.workload.failures.contains_key(&subject);
    let gave_up = || failed(Subject::Image(spec.image.clone())) || failed(Subject::Start(spec.name.clone()));
    spec.lifecycle.post_start.is_some()
        && match decision {
            Decision::Start { .. } => !gave_up(),
            Decision::Keep | Decision::Resize => given
                .pod
                .current(&spec.name)
                .is_some_and(|current| given.workload.awaits_hook(&current.id)),
            _ => false,
        }
}

fn start(
    given: &Given<'_>,
    (manifest, sandbox): (&Arc<Manifest>, &ObservedSandbox),
    spec: &ContainerSpec,
    attempt: u32,
    plan: &mut Plan,
) {
    let touched = given
        .pod
        .instances(&spec.name)
        .iter()
        .any(|c| given.workload.in_flight(&Subject::Container(c.id.clone())) && c.attempt >= attempt);
    if touched || !given.workload.images.contains(&spec.image) {
        return;
    }
    let step = StartContainer {
        sandbox_id: sandbox.id.clone(),
        sandbox: sandbox_spec(manifest, sandbox.attempt),
        attempt,
        container: spec.clone(),
        target: decide::target(given, spec).map(|target| target.id.clone()),
        pod_ips: sandbox.ips.clone(),
    };
    given.try_step(
        plan,
        Subject::Start(spec.name.clone()),
        Step::StartContainer(Box::new(step)),
    );
}

/// The pod's sandbox with its cgroup.
pub(super) fn sandbox_spec(manifest: &Arc<Manifest>, attempt: u32) -> SandboxSpec {
    let workload = &manifest.workload;
    let sidecars = workload.init_containers.iter().filter(|spec| spec.is_sidecar());
    let ports: Vec<PortSpec> = workload
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|spec| spec.ports.clone())
        .collect();
    let sums = sums::of(workload);
    SandboxSpec {
        uid: manifest.uid.clone(),
        namespace: manifest.namespace.clone(),
        name: manifest.name.clone(),
        attempt,
        hostname: workload.hostname.clone(),
        qos: workload.qos,
        labels: manifest.labels.clone(),
        annotations: manifest.annotations.clone(),
        ports,
        manifest: Arc::clone(manifest),
        cpu_request_milli: sums.cpu_request_milli,
        cpu_limit_milli: sums.cpu_limit_milli,
        memory_limit_bytes: sums.memory_limit_bytes,
    }
}
