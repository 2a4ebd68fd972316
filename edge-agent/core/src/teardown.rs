//! A workload that is to go: stop its containers, stop its sandboxes, remember how it ended, remove it all. The stage is read from what
//! is there, so that it resumes wherever a crash left it.

use edge_protocol::v1::Reason;

use crate::lifecycle::order;
use crate::plan::{Given, Mark, Plan, Planned};
use crate::step::{ObservedContainer, ObservedState, Step};
use crate::tidy;
use crate::workload::Subject;

/// How much goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Superseded: its logs are wanted should the successor fail.
    KeepLogs,
    Everything,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Stopping,
    Removing,
    /// Nothing is left.
    Empty,
}

/// The orders with which a container is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// When SIGKILL is due, on the monotonic clock.
    pub(crate) deadline_ms: u64,
    /// What the event says, where there is more to say than that it is stopped.
    pub(crate) why: Option<String>,
}

impl Order {
    pub(crate) fn by(deadline_ms: u64) -> Self {
        Self {
            deadline_ms,
            why: None,
        }
    }
}

/// Of a workload whose place another takes: all but its logs goes.
pub(crate) fn make_way(given: &Given<'_>) -> Plan {
    leave(given, Depth::KeepLogs)
}

/// It goes within its own grace.
fn leave(given: &Given<'_>, depth: Depth) -> Plan {
    let mut halting = Plan::default();
    let deadline_ms = halt_by(given, &mut halting);
    let (mut plan, _) = run(given, depth, deadline_ms);
    plan.marks.append(&mut halting.marks);
    plan
}

/// Of a workload that failed as a whole: it stops, what it left stays to be seen, and it does not run again. Of one that was evicted all
/// goes, logs and volumes too, for what it took is what the device lacks (`ShouldPodContentBeRemoved` of `pkg/kubelet/pod_workers.go`).
pub(crate) fn stay_ended(given: &Given<'_>) -> Plan {
    let mut plan = Plan::default();
    // As with all that cannot be taken back, the intent is on disk first.
    if !given.workload.is_settled() {
        return plan;
    }
    let failed = given.workload.record.failed.as_ref();
    if failed.is_some_and(|failed| failed.reason == Some(Reason::Evicted)) {
        return leave(given, Depth::Everything);
    }
    halt(given, &mut plan);
    let ends = unremembered(given);
    if given.pod.live().next().is_none() && !ends.is_empty() {
        plan.marks.push(Mark::Ended { containers: ends });
    }
    plan
}

/// As the kubelet: a pod that ended has what is left of it stopped, and gives its network back.
pub(crate) fn halt(given: &Given<'_>, plan: &mut Plan) {
    let containers = || given.pod.containers.iter();
    if containers().any(|container| must_stop(given, container)) {
        let deadline_ms = halt_by(given, plan);
        return stop_all(given, deadline_ms, plan);
    }
    // Of these nothing ran.
    for created in containers().filter(|container| container.state == ObservedState::Created) {
        tidy::remove(given, plan, created);
    }
    if given.pod.live().next().is_none()
        && let Some(sandbox) = given.pod.sandbox()
        && !given.workload.stopped.contains(&sandbox.id)
        && !given.workload.is_busy()
    {
        let step = Step::StopSandbox {
            sandbox_id: sandbox.id.clone(),
        };
        given.try_step(plan, Subject::Sandbox(sandbox.id.clone()), step);
    }
}

/// When all of it must have ended. It is remembered where some wait for others, so that they share one grace.
fn halt_by(given: &Given<'_>, plan: &mut Plan) -> u64 {
    if let Some(deadline_ms) = given.workload.halt_ms {
        return deadline_ms;
    }
    let failed = given.workload.record.failed.as_ref();
    let grace_s = failed
        .and_then(|failed| failed.grace_s)
        .unwrap_or_else(|| given.workload.grace_s());
    let deadline_ms = given.now.mono_ms + u64::from(grace_s) * 1_000;
    if given
        .pod
        .live()
        .any(|container| !order::may_leave(given, container))
    {
        plan.marks.push(Mark::Halting { deadline_ms });
    }
    deadline_ms
}

/// Stops what may be stopped now: past the deadline, everything.
fn stop_all(given: &Given<'_>, deadline_ms: u64, plan: &mut Plan) {
    let live = given.pod.containers.iter();
    for container in live.filter(|container| must_stop(given, container)) {
        if deadline_ms <= given.now.mono_ms || order::may_leave(given, container) {
            stop(given, plan, container, Order::by(deadline_ms));
        } else {
            plan.wake(deadline_ms);
        }
    }
}

/// The next steps towards nothing; SIGKILL is due at the deadline, on the monotonic clock.
pub(crate) fn run(given: &Given<'_>, depth: Depth, deadline_ms: u64) -> (Plan, Stage) {
    let mut plan = Plan::default();
    stop_all(given, deadline_ms, &mut plan);
    if is_starting(given)
        || given
            .pod
            .containers
            .iter()
            .any(|container| must_stop(given, container))
    {
        return (plan, Stage::Stopping);
    }
    let mut stopping = false;
    for sandbox in given
        .pod
        .sandboxes
        .iter()
        .filter(|s| !given.workload.stopped.contains(&s.id))
    {
        stopping = true;
        let step = Step::StopSandbox {
            sandbox_id: sandbox.id.clone(),
        };
        given.try_step(&mut plan, Subject::Sandbox(sandbox.id.clone()), step);
    }
    if stopping {
        return (plan, Stage::Stopping);
    }
    let stage = remove_all(given, depth, &mut plan);
    (plan, stage)
}

fn remove_all(given: &Given<'_>, depth: Depth, plan: &mut Plan) -> Stage {
    let ends = unremembered(given);
    if !ends.is_empty() {
        plan.marks.push(Mark::Ended { containers: ends });
        return Stage::Removing;
    }
    // How it ended is on disk before the runtime forgets it.
    if !given.workload.is_settled() {
        return Stage::Removing;
    }
    for container in &given.pod.containers {
        let step = Step::RemoveContainer {
            container_id: container.id.clone(),
        };
        given.try_step(plan, Subject::Container(container.id.clone()), step);
    }
    if given.pod.containers.is_empty() {
        for sandbox in &given.pod.sandboxes {
            let step = Step::RemoveSandbox {
                sandbox_id: sandbox.id.clone(),
                uid: given.uid.clone(),
            };
            given.try_step(plan, Subject::Sandbox(sandbox.id.clone()), step);
        }
    }
    if !given.pod.is_empty() || given.workload.is_busy() {
        return Stage::Removing;
    }
    if depth == Depth::Everything && !given.workload.is_clean() {
        given.try_step(
            plan,
            Subject::Workload,
            Step::RemoveWorkload {
                uid: given.uid.clone(),
            },
        );
        return Stage::Removing;
    }
    Stage::Empty
}

/// Of a container that was only created nothing runs; one that stays unknown after its stop is removed by force.
pub(crate) fn must_stop(given: &Given<'_>, container: &ObservedContainer) -> bool {
    match container.state {
        ObservedState::Running { .. } => true,
        ObservedState::Unknown => !given.workload.stopped.contains(&container.id),
        ObservedState::Created | ObservedState::Exited { .. } => false,
    }
}

/// A start under way ends first, so that what it leaves is seen and stopped.
pub(crate) fn is_starting(given: &Given<'_>) -> bool {
    given.workload.steps.values().any(|flight| match &flight.subject {
        Subject::Start(_) => true,
        Subject::Sandbox(id) => id.is_empty(),
        _ => false,
    })
}

/// The containers that ended and whose end is not in the record yet.
pub(crate) fn unremembered(given: &Given<'_>) -> Vec<String> {
    let mut names: Vec<String> = given
        .pod
        .containers
        .iter()
        .filter(|container| !container.is_live())
        .map(|container| container.name.clone())
        .collect();
    names.sort();
    names.dedup();
    names.retain(|name| {
        let remembered = given
            .workload
            .record
            .ended
            .get(name)
            .map(|ended| ended.status.restart_count);
        let seen = given.pod.current(name).map(|current| current.attempt);
        remembered.is_none() || remembered < seen
    });
    names
}

/// Plans a stop, unless one that is as strict is under way. A shorter grace sends another stop after an earlier one; the hook before it
/// is run by the first, and not when there is no grace at all.
pub(crate) fn stop(given: &Given<'_>, plan: &mut Plan, container: &ObservedContainer, order: Order) {
    let subject = Subject::Container(container.id.clone());
    let starting = given.workload.in_flight(&Subject::Start(container.name.clone()));
    let strictest = given.workload.stop_deadline(&container.id);
    let removing = given.workload.in_flight(&subject) && strictest.is_none();
    if starting || removing || strictest.is_some_and(|strictest| strictest <= order.deadline_ms) {
        return;
    }
    if let Some(until) = given.workload.retry_at(&subject, given.now.mono_ms) {
        plan.wake(until);
        return;
    }
    let left_ms = order.deadline_ms.saturating_sub(given.now.mono_ms);
    let grace_s = u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
    let spec = given
        .workload
        .all_containers()
        .find(|spec| spec.name == container.name);
    let hook = spec
        .and_then(|spec| spec.lifecycle.pre_stop.as_ref())
        .filter(|_| grace_s > 0 && strictest.is_none());
    plan.steps.push(Planned {
        subject,
        step: Step::StopContainer {
            container_id: container.id.clone(),
            grace_s,
            pre_stop: hook.map(|action| Box::new(given.in_container(container, action))),
        },
        deadline_ms: Some(order.deadline_ms),
        why: order.why,
    });
}
