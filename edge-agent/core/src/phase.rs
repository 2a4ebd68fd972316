//! The phase of a pod by its containers: `getPhase` of `pkg/kubelet/kubelet_pods.go`.

use edge_protocol::v1::{ContainerSpec, ContainerState, ContainerStatus, Phase, WorkloadSpec};

use crate::lifecycle::restart;

/// Counts of containers as the rule wants them.
#[derive(Debug, Default)]
struct Count {
    waiting: u32,
    running: u32,
    stopped: u32,
    /// Of those stopped.
    succeeded: u32,
    /// Of those stopped: they do not run again.
    for_good: u32,
}

/// The statuses are those of the workload's own containers, in any order; one without a status counts as waiting. `initialized` says that
/// a main container has started in this sandbox.
pub(crate) fn of(workload: &WorkloadSpec, statuses: &[ContainerStatus], initialized: bool) -> Phase {
    let status = |spec: &ContainerSpec| statuses.iter().find(|status| status.name == spec.name);
    let ends_for_good =
        |spec: &ContainerSpec, code| !restart::after_exit(workload.restart_policy, spec, code);
    let (mut pending, mut pending_sidecars) = (0, 0);
    let mut count = Count::default();
    for spec in &workload.init_containers {
        let (state, exit) = shown(status(spec));
        match (spec.is_sidecar(), state, exit) {
            (false, Shown::Stopped, Some(code)) if code != 0 => {
                if ends_for_good(spec, code) {
                    return Phase::Failed;
                }
            }
            // What ended well is past, and an ended sidecar says nothing.
            (_, Shown::Stopped, _) => {}
            (false, _, _) => pending += 1,
            (true, Shown::Running, _) => {
                count.running += 1;
                let started = status(spec).and_then(|status| status.started);
                pending_sidecars += u32::from(started != Some(true));
            }
            (true, Shown::Waiting, _) => {
                pending_sidecars += 1;
                count.waiting += 1;
            }
        }
    }
    for spec in &workload.containers {
        match shown(status(spec)) {
            (Shown::Running, _) => count.running += 1,
            (Shown::Waiting, _) => count.waiting += 1,
            (Shown::Stopped, exit) => {
                let code = exit.unwrap_or(0);
                let ended =
                    status(spec).is_some_and(|s| matches!(s.state, ContainerState::Terminated { .. }));
                count.stopped += 1;
                count.succeeded += u32::from(ended && code == 0);
                count.for_good += u32::from(ends_for_good(spec, code));
            }
        }
    }
    if pending > 0 || (pending_sidecars > 0 && !initialized) || count.waiting > 0 {
        return Phase::Pending;
    }
    match count {
        Count { running: 1.., .. } => Phase::Running,
        Count { stopped: 0, .. } => Phase::Pending,
        Count {
            stopped, for_good, ..
        } if stopped != for_good => Phase::Running,
        Count {
            stopped, succeeded, ..
        } if stopped == succeeded => Phase::Succeeded,
        Count { .. } => Phase::Failed,
    }
}

enum Shown {
    /// Never ran.
    Waiting,
    Running,
    Stopped,
}

/// One that waits counts as stopped once it ran, by its last exit.
fn shown(status: Option<&ContainerStatus>) -> (Shown, Option<i32>) {
    let exit = |state: &ContainerState| match state {
        ContainerState::Terminated { exit_code, .. } => Some(*exit_code),
        _ => None,
    };
    match status.map(|status| (&status.state, &status.last)) {
        Some((ContainerState::Running { .. }, _)) => (Shown::Running, None),
        Some((state @ ContainerState::Terminated { .. }, _)) => (Shown::Stopped, exit(state)),
        Some((ContainerState::Waiting { .. }, Some(last))) => (Shown::Stopped, exit(last)),
        Some((ContainerState::Waiting { .. }, None)) | None => (Shown::Waiting, None),
    }
}

#[cfg(test)]
mod tests;
