//! All containers of a workload begin anew, in the same sandbox, because one of them ended as a rule of its own says
//! (`RestartAllContainers`: `getContainersToReset` and `SyncPod` of `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).

use edge_protocol::v1::ContainerSpec;

use super::restart;
use crate::plan::{Given, Mark, Plan};
use crate::step::{ObservedState, Step};
use crate::teardown::{self, Order};
use crate::workload::Subject;

/// Whether it is under way, or to begin.
pub(super) fn is_due(given: &Given<'_>) -> bool {
    let asks = |spec: &ContainerSpec| {
        let state = given.pod.current(&spec.name).map(|current| &current.state);
        matches!(state, Some(ObservedState::Exited { exit_code, .. }) if restart::restarts_all(spec, *exit_code))
    };
    given.workload.record.resetting || given.workload.all_containers().any(asks)
}

/// What runs is killed without grace, how all of them ended is remembered, and all of them go.
pub(super) fn run(given: &Given<'_>, plan: &mut Plan) {
    if !given.workload.record.resetting {
        return plan.marks.push(Mark::Resetting);
    }
    // The intent is on disk first: half of it done, the exit that asked for it may be gone.
    if !given.workload.is_settled() {
        return;
    }
    let containers = || given.pod.containers.iter();
    if containers().any(|container| teardown::must_stop(given, container)) {
        for container in containers().filter(|container| teardown::must_stop(given, container)) {
            let order = Order {
                deadline_ms: given.now.mono_ms,
                why: Some("killing".to_owned()),
            };
            teardown::stop(given, plan, container, order);
        }
        return;
    }
    let ends = teardown::unremembered(given);
    if !ends.is_empty() {
        return plan.marks.push(Mark::Ended { containers: ends });
    }
    if teardown::is_starting(given) {
        return;
    }
    for container in containers() {
        let step = Step::RemoveContainer {
            container_id: container.id.clone(),
        };
        given.try_step(plan, Subject::Container(container.id.clone()), step);
    }
    if given.pod.containers.is_empty() && !given.workload.is_busy() {
        plan.marks.push(Mark::Reset);
    }
}
