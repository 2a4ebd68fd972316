//! Other resources for a container that runs (`computePodResizeAction` of `pkg/kubelet/kuberuntime/kuberuntime_manager.go`). What counts
//! as present is what was last asked of the runtime, for what a runtime shows is rounded.

use std::sync::Arc;

use edge_protocol::v1::{ContainerSpec, Manifest, ResizeResource, Resources};

use super::order::{self, Place};
use super::start::sandbox_spec;
use crate::plan::{Given, Plan};
use crate::record::Record;
use crate::step::{ObservedState, Step};
use crate::workload::Subject;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    InPlace,
    /// The container says that it must be restarted for that.
    Restart,
}

/// What its spec changes for its instance that runs. Of one that an agent without this memory started, nothing is known to change.
pub(crate) fn change(record: &Record, spec: &ContainerSpec) -> Change {
    let Some(now) = record.actuated.get(&spec.name) else {
        return Change::None;
    };
    let cpu = |r: &Resources| (r.cpu_request_milli, r.cpu_limit_milli);
    let memory = |r: &Resources| (r.memory_request_bytes, r.memory_limit_bytes);
    let changed = [
        (ResizeResource::Cpu, cpu(now) != cpu(&spec.resources)),
        (ResizeResource::Memory, memory(now) != memory(&spec.resources)),
    ];
    let restarts =
        |(resource, changed): &(ResizeResource, bool)| *changed && spec.resize_restarts.contains(resource);
    if changed.iter().any(restarts) {
        Change::Restart
    } else if changed.iter().any(|(_, changed)| *changed) {
        Change::InPlace
    } else {
        Change::None
    }
}

/// Some container is not yet held to what was allocated: one that runs, or is stopped to be started with it
/// (`isContainerResourceResizeInProgress`).
pub(super) fn is_under_way(given: &Given<'_>) -> bool {
    let record = &given.workload.record;
    let runs = |spec: &ContainerSpec| {
        let current = given.pod.current(&spec.name);
        current.is_some_and(|current| matches!(current.state, ObservedState::Running { .. }))
    };
    let mut lasting = given
        .workload
        .all_containers()
        .filter(|spec| order::place(given, spec) == Place::Main || spec.is_sidecar());
    lasting.any(|spec| match change(record, spec) {
        Change::None => false,
        Change::InPlace => runs(spec),
        Change::Restart => runs(spec) || record.replacing.contains(&spec.name),
    })
}

pub(super) fn plan(given: &Given<'_>, manifest: &Arc<Manifest>, spec: &ContainerSpec, plan: &mut Plan) {
    let (Some(current), Some(sandbox)) = (given.pod.current(&spec.name), given.pod.sandbox()) else {
        return;
    };
    if given.workload.stop_deadline(&current.id).is_some() {
        return;
    }
    let step = Step::Resize {
        container_id: current.id.clone(),
        resources: spec.resources.clone(),
        sandbox: Box::new(sandbox_spec(manifest, sandbox.attempt)),
    };
    given.try_step(plan, Subject::Resize(current.id.clone()), step);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_so_restarts() {
        let held = |cpu, memory| Resources {
            cpu_limit_milli: Some(cpu),
            memory_limit_bytes: Some(memory),
            ..Resources::default()
        };
        let mut spec = ContainerSpec::new("c", "image");
        let mut record = Record::default();
        spec.resources = held(100, 1);
        assert_eq!(change(&record, &spec), Change::None);
        record.actuated.insert("c".to_owned(), held(100, 1));
        assert_eq!(change(&record, &spec), Change::None);
        spec.resources = held(200, 1);
        spec.resize_restarts = vec![ResizeResource::Memory];
        assert_eq!(change(&record, &spec), Change::InPlace);
        spec.resources = held(200, 2);
        assert_eq!(change(&record, &spec), Change::Restart);
        spec.resources.ephemeral_storage_limit_bytes = Some(1);
        spec.resize_restarts = vec![];
        assert_eq!(change(&record, &spec), Change::InPlace);
    }
}
