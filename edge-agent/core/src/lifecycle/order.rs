//! The order of a workload's containers: the initial ones one after the other, each to its end or, if it is a sidecar, until it has
//! started; then the main ones; and on the way out the main ones first, then the sidecars in reverse (`computeInitContainerActions` of
//! `pkg/kubelet/kuberuntime/kuberuntime_container.go`, and `kuberuntime_termination_order.go`).

use edge_protocol::v1::ContainerSpec;

use super::decide::{Decision, alone};
use super::restart;
use crate::plan::Given;
use crate::step::{ObservedContainer, ObservedState};

/// Where a container stands in its workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Initial(usize),
    Main,
    /// In no order with the others.
    Ephemeral,
}

/// How far the initial containers are, in this sandbox: in another one they run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is this one's turn; sidecars before it are kept running.
    At(usize),
    Done,
    /// One ended in failure, for good, and with it the workload.
    Failed,
}

pub(crate) fn place(given: &Given<'_>, spec: &ContainerSpec) -> Place {
    let Some(manifest) = given.manifest() else {
        return Place::Main;
    };
    let workload = &manifest.workload;
    let is_it = |other: &ContainerSpec| other.name == spec.name;
    match workload.init_containers.iter().position(is_it) {
        Some(index) => Place::Initial(index),
        None if workload.ephemeral_containers.iter().any(is_it) => Place::Ephemeral,
        None => Place::Main,
    }
}

/// Its instance that counts, if that is in the sandbox that containers start in.
pub(crate) fn active<'a>(given: &Given<'a>, spec: &ContainerSpec) -> Option<&'a ObservedContainer> {
    let sandbox = given.pod.sandbox()?;
    given
        .pod
        .current(&spec.name)
        .filter(|current| current.sandbox_id == sandbox.id)
}

/// Read backwards, for the runtime may have forgotten the ends of earlier ones.
pub(crate) fn progress(given: &Given<'_>) -> Progress {
    let Some(manifest) = given.manifest() else {
        return Progress::Done;
    };
    let initial = &manifest.workload.init_containers;
    let ran = |spec: &ContainerSpec| {
        active(given, spec).is_some_and(|instance| instance.state != ObservedState::Created)
    };
    if initial.is_empty() || manifest.workload.containers.iter().any(ran) {
        return Progress::Done;
    }
    let last = initial
        .iter()
        .enumerate()
        .rev()
        .find_map(|(index, spec)| Some((index, spec, active(given, spec)?)));
    let Some((index, spec, instance)) = last else {
        return Progress::At(0);
    };
    let past = match instance.state {
        ObservedState::Running { .. } => spec.is_sidecar() && given.workload.has_started(spec, instance),
        ObservedState::Exited { exit_code, .. } if !spec.is_sidecar() && exit_code != 0 => {
            if !restart::again(given, spec, exit_code) {
                return Progress::Failed;
            }
            false
        }
        ObservedState::Exited { .. } => !spec.is_sidecar(),
        _ => false,
    };
    let turn = index + usize::from(past);
    if turn == initial.len() {
        Progress::Done
    } else {
        Progress::At(turn)
    }
}

/// All main containers ended for good: sidecars do not keep a workload alive.
pub(crate) fn mains_finished(given: &Given<'_>) -> bool {
    let specs = given.workload.containers();
    !specs.is_empty() && specs.iter().all(|spec| alone(given, spec) == Decision::Finished)
}

/// Whether it may be stopped now on the way out: a sidecar waits for the main containers and for the sidecars that started after it.
pub(crate) fn may_leave(given: &Given<'_>, container: &ObservedContainer) -> bool {
    let Some(manifest) = given.manifest() else {
        return true;
    };
    let initial = &manifest.workload.init_containers;
    let own = |spec: &ContainerSpec| spec.name == container.name && spec.is_sidecar();
    let Some(index) = initial.iter().position(own) else {
        return true;
    };
    let runs = |spec: &ContainerSpec| {
        let mut instances = given.pod.containers.iter().filter(|c| c.name == spec.name);
        instances.any(|c| matches!(c.state, ObservedState::Running { .. }))
    };
    let mut later = initial.iter().skip(index + 1).filter(|spec| spec.is_sidecar());
    !manifest.workload.containers.iter().any(runs) && !later.any(runs)
}
