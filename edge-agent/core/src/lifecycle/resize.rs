//! Other resources for a workload that runs (`computePodResizeAction` and `doPodResizeAction` of
//! `pkg/kubelet/kuberuntime/kuberuntime_manager.go`). What counts as present is what was last asked of the runtime, for what a runtime shows
//! is rounded.

use std::sync::Arc;

use edge_protocol::v1::{ContainerSpec, Manifest, ResizeResource, Resources};

use super::Decision;
use super::start::sandbox_spec;
use crate::plan::{Given, Plan};
use crate::step::{ContainerResize, ObservedState, Step};
use crate::sums::Bounds;
use crate::workload::{Subject, Workload};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    InPlace,
    /// The container says that it must be restarted for that.
    Restart,
}

/// What its spec, or that of the workload as a whole, changes for its instance that runs. Of one that an agent without this memory started,
/// nothing is known to change. An initial container that runs to its end is not restarted for it: the API server lets nobody ask for that
/// (`ValidatePodResize` of `pkg/apis/core/validation/validation.go`).
pub(crate) fn change(workload: &Workload, spec: &ContainerSpec) -> Change {
    let Some((now, then)) = now_and_then(workload, spec) else {
        return Change::None;
    };
    let cpu = |r: &Resources| (r.cpu_request_milli, r.cpu_limit_milli);
    let memory = |r: &Resources| (r.memory_request_bytes, r.memory_limit_bytes);
    let changed = [
        (ResizeResource::Cpu, cpu(&now) != cpu(&then)),
        (ResizeResource::Memory, memory(&now) != memory(&then)),
    ];
    let restarts =
        |(resource, changed): &(ResizeResource, bool)| *changed && spec.resize_restarts.contains(resource);
    if changed.iter().any(restarts) && !runs_to_its_end(workload, spec) {
        Change::Restart
    } else if changed.iter().any(|(_, changed)| *changed) {
        Change::InPlace
    } else {
        Change::None
    }
}

/// What it was last asked to be held to, and what it is to be.
fn now_and_then(workload: &Workload, spec: &ContainerSpec) -> Option<(Resources, Resources)> {
    let manifest = workload.manifest.as_ref()?;
    let whole = manifest.workload.resources.as_ref();
    let now = workload.record.actuated.get(&spec.name)?;
    Some((now.within(whole), spec.resources.within(whole)))
}

fn runs_to_its_end(workload: &Workload, spec: &ContainerSpec) -> bool {
    let manifest = workload.manifest.as_ref();
    let mut initial = manifest
        .into_iter()
        .flat_map(|manifest| &manifest.workload.init_containers);
    initial.any(|other| other.name == spec.name && !other.is_sidecar())
}

/// Its cgroup, if it has one, is held to what it was allocated.
fn is_bounded(given: &Given<'_>) -> bool {
    let bounds = given.workload.record.bounds;
    given.pod.sandbox().is_none()
        || bounds
            .zip(given.manifest())
            .is_none_or(|(bounds, manifest)| bounds == Bounds::of(&manifest.workload))
}

/// Its cgroup is still to get what its containers are started with. Where it could not, they are started nevertheless, as by a kubelet.
pub(super) fn is_ahead(given: &Given<'_>) -> bool {
    !given.workload.failures.contains_key(&Subject::Resize) && !is_bounded(given)
}

/// The workload, or some container of it, is not yet held to what was allocated: one that runs, or is stopped to be started with it
/// (`IsPodResizeInProgress`, which leaves out initial containers that run to their end, and so tells of the end of a resize before it).
pub(super) fn is_under_way(given: &Given<'_>) -> bool {
    let record = &given.workload.record;
    let runs = |spec: &ContainerSpec| {
        let current = given.pod.current(&spec.name);
        current.is_some_and(|current| matches!(current.state, ObservedState::Running { .. }))
    };
    let mut containers = given.workload.all_containers();
    !is_bounded(given)
        || containers.any(|spec| match change(given.workload, spec) {
            Change::None => false,
            Change::InPlace => runs(spec),
            Change::Restart => runs(spec) || record.replacing.contains(&spec.name),
        })
}

/// All of it at once, when what restarts for it has stopped: that has its room until then. What cannot stop yet, for its image is not there, holds up nobody.
pub(super) fn plan(
    given: &Given<'_>,
    manifest: &Arc<Manifest>,
    decisions: &[(&ContainerSpec, Decision)],
    plan: &mut Plan,
) {
    let Some(sandbox) = given.pod.sandbox() else {
        return;
    };
    let is_there = |image: &String| {
        let pull = Subject::Image(image.clone());
        !given.workload.missing.contains(image) && !given.workload.failures.contains_key(&pull)
    };
    let waits = |(spec, decision): &(&ContainerSpec, Decision)| {
        *decision == Decision::Replace
            && change(given.workload, spec) == Change::Restart
            && is_there(&spec.image)
    };
    let changed = decisions
        .iter()
        .filter(|(_, decision)| *decision == Decision::Resize);
    let containers: Vec<_> = changed.filter_map(|(spec, _)| container(given, spec)).collect();
    if decisions.iter().any(waits) || (containers.is_empty() && is_bounded(given)) {
        return;
    }
    let step = Step::Resize {
        sandbox: Box::new(sandbox_spec(manifest, sandbox.attempt)),
        containers,
    };
    given.try_step(plan, Subject::Resize, step);
}

fn container(given: &Given<'_>, spec: &ContainerSpec) -> Option<ContainerResize> {
    let current = given.pod.current(&spec.name)?;
    let (now, then) = now_and_then(given.workload, spec)?;
    let before = now.memory_limit_bytes.unwrap_or(u64::MAX);
    (given.workload.stop_deadline(&current.id).is_none()).then(|| ContainerResize {
        container_id: current.id.clone(),
        name: spec.name.clone(),
        resources: spec.resources.clone(),
        lowered_memory_bytes: then.memory_limit_bytes.filter(|limit| *limit < before),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use edge_protocol::v1::{VERSION, WorkloadSpec};

    use super::*;

    fn held(cpu: u64, memory: u64) -> Resources {
        Resources {
            cpu_limit_milli: Some(cpu),
            memory_limit_bytes: Some(memory),
            ..Resources::default()
        }
    }

    /// Of a container that was last asked to be held to `now`, in a workload that states `whole`.
    fn workload(spec: &ContainerSpec, now: Option<Resources>, whole: Option<Resources>) -> Workload {
        let manifest = Manifest {
            v: VERSION,
            uid: "w".parse().unwrap(),
            namespace: "default".to_owned(),
            name: "w".to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            workload: WorkloadSpec {
                resources: whole,
                ..WorkloadSpec::new("w", vec![spec.clone()])
            },
            objects: Vec::new(),
            requires: Vec::new(),
            replaces: Vec::new(),
        };
        let mut workload = Workload {
            manifest: Some(Arc::new(manifest)),
            ..Workload::default()
        };
        let actuated = &mut workload.record.actuated;
        actuated.extend(now.map(|now| (spec.name.clone(), now)));
        workload
    }

    #[test]
    fn only_what_says_so_restarts() {
        let mut spec = ContainerSpec::new("c", "image");
        spec.resources = held(100, 1);
        let change = |spec: &ContainerSpec, now| super::change(&workload(spec, now, None), spec);
        assert_eq!(change(&spec, None), Change::None);
        assert_eq!(change(&spec, Some(held(100, 1))), Change::None);
        spec.resources = held(200, 1);
        spec.resize_restarts = vec![ResizeResource::Memory];
        assert_eq!(change(&spec, Some(held(100, 1))), Change::InPlace);
        spec.resources = held(200, 2);
        assert_eq!(change(&spec, Some(held(100, 1))), Change::Restart);
        spec.resources.ephemeral_storage_limit_bytes = Some(1);
        spec.resize_restarts = vec![];
        assert_eq!(change(&spec, Some(held(100, 1))), Change::InPlace);
    }

    #[test]
    fn a_container_without_a_limit_changes_with_its_workload() {
        let spec = ContainerSpec::new("c", "image");
        let mut one = workload(&spec, Some(Resources::default()), Some(held(100, 1)));
        assert_eq!(change(&one, &spec), Change::None);
        one.note_bounds();
        assert_eq!(change(&one, &spec), Change::None);
        let bounds = one.record.bounds.unwrap();
        assert_eq!(
            (bounds.cpu_limit_milli, bounds.memory_limit_bytes),
            (Some(100), Some(1))
        );
        let mut manifest = Manifest::clone(one.manifest.as_ref().unwrap());
        manifest.workload.resources = Some(held(100, 2));
        one.manifest = Some(Arc::new(manifest));
        assert_eq!(change(&one, &spec), Change::InPlace);
    }
}
