//! A workload that is to go: stop its containers, stop its sandboxes, remember how it ended, remove it all. The stage is read from what
//! is there, so that it resumes wherever a crash left it.

use crate::plan::{Given, Mark, Plan};
use crate::step::{ObservedContainer, ObservedState, Step};
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

/// The next steps towards nothing; SIGKILL is due at the deadline, on the monotonic clock.
pub(crate) fn run(given: &Given<'_>, depth: Depth, deadline_ms: u64) -> (Plan, Stage) {
    let mut plan = Plan::default();
    for container in given
        .pod
        .containers
        .iter()
        .filter(|container| must_stop(given, container))
    {
        stop(given, &mut plan, container, deadline_ms);
    }
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
    let clean = given.workload.cleaned || given.workload.record.started.is_none();
    if depth == Depth::Everything && !clean {
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
fn must_stop(given: &Given<'_>, container: &ObservedContainer) -> bool {
    match container.state {
        ObservedState::Running { .. } => true,
        ObservedState::Unknown => !given.workload.stopped.contains(&container.id),
        ObservedState::Created | ObservedState::Exited { .. } => false,
    }
}

/// A start under way ends first, so that what it leaves is seen and stopped.
fn is_starting(given: &Given<'_>) -> bool {
    given.workload.steps.values().any(|flight| match &flight.subject {
        Subject::Start(_) => true,
        Subject::Sandbox(id) => id.is_empty(),
        _ => false,
    })
}

fn unremembered(given: &Given<'_>) -> Vec<String> {
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

/// Plans a stop, unless one that is as strict is under way. A shorter grace sends another stop after an earlier one.
pub(crate) fn stop(given: &Given<'_>, plan: &mut Plan, container: &ObservedContainer, deadline_ms: u64) {
    let subject = Subject::Container(container.id.clone());
    let starting = given.workload.in_flight(&Subject::Start(container.name.clone()));
    let strictest = given.workload.stop_deadline(&container.id);
    let removing = given.workload.in_flight(&subject) && strictest.is_none();
    if starting || removing || strictest.is_some_and(|strictest| strictest <= deadline_ms) {
        return;
    }
    if let Some(until) = given.workload.retry_at(&subject, given.now.mono_ms) {
        plan.wake(until);
        return;
    }
    let left_ms = deadline_ms.saturating_sub(given.now.mono_ms);
    let grace_s = u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
    plan.push(
        subject,
        Step::StopContainer {
            container_id: container.id.clone(),
            grace_s,
            pre_stop: None,
        },
    );
    if let Some(planned) = plan.steps.last_mut() {
        planned.deadline_ms = Some(deadline_ms);
    }
}
