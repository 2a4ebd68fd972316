//! What one container needs next, by its own state, its restart policy and its place in the order (`ShouldContainerBeRestarted` of
//! pkg/kubelet/container/helpers.go, `computePodActions` of pkg/kubelet/kuberuntime).

use edge_protocol::v1::{ContainerSpec, RestartPolicy};

use super::order::{self, Place, Progress};
use super::resize::{self, Change};
use super::restart;
use crate::health::Doom;
use crate::plan::Given;
use crate::step::{ObservedContainer, ObservedState};

/// What one container needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It runs as specified.
    Keep,
    /// It will not run again.
    Finished,
    /// Crash back-off after this attempt.
    Wait {
        attempt: u32,
        until_ms: u64,
    },
    Start {
        attempt: u32,
    },
    /// Its turn comes when the initial containers before it are past.
    NotYet,
    /// It runs from another spec, or needs another start for its resources: pull, stop, start.
    Replace,
    /// It runs, with other resources than it should have.
    Resize,
    /// It runs, and a probe or its hook says that it must not go on.
    Kill(Doom),
    /// An instance is in the way that never ran or that the runtime lost track of.
    Clear,
    /// It lives in a dead sandbox, which goes first.
    Blocked,
}

impl Decision {
    /// It is to be started, by itself, now or later.
    fn is_ahead(self) -> bool {
        matches!(self, Self::Wait { .. } | Self::Start { .. })
    }
}

/// The decision for one container of the manifest.
pub(crate) fn decide(given: &Given<'_>, spec: &ContainerSpec) -> Decision {
    let place = order::place(given, spec);
    if place == Place::Ephemeral {
        return ephemeral(given, spec);
    }
    let own = alone(given, spec);
    let finished = if own.is_ahead() { Decision::Finished } else { own };
    if given.workload.record.failed.is_some() {
        return finished;
    }
    let held = if own.is_ahead() { Decision::NotYet } else { own };
    match (place, order::progress(given)) {
        (Place::Main, Progress::Done) | (Place::Ephemeral, _) => own,
        (Place::Main, _) => held,
        (Place::Initial(_), _) if order::mains_finished(given) => finished,
        (Place::Initial(_), Progress::Done) if spec.is_sidecar() => own,
        (Place::Initial(_), Progress::Done | Progress::Failed) => finished,
        (Place::Initial(index), Progress::At(turn)) if index > turn => held,
        (Place::Initial(index), Progress::At(turn)) if index < turn && !spec.is_sidecar() => finished,
        (Place::Initial(_), Progress::At(_)) => own,
    }
}

/// One that is started once, and then left to itself, whatever becomes of it or of its spec. It may be there before the initial containers
/// are past, but makes no sandbox, and the container that it looks into comes before it.
fn ephemeral(given: &Given<'_>, spec: &ContainerSpec) -> Decision {
    let record = &given.workload.record;
    let sandbox = given.pod.sandbox();
    let is_in_sandbox =
        |current: &ObservedContainer| sandbox.is_some_and(|sandbox| sandbox.id == current.sandbox_id);
    let Some(current) = given.pod.current(&spec.name) else {
        let may_start =
            sandbox.is_some() && spec.target.as_ref().is_none_or(|_| target(given, spec).is_some());
        return if record.attempts.contains_key(&spec.name) || record.failed.is_some() {
            Decision::Finished
        } else if may_start {
            Decision::Start { attempt: 0 }
        } else {
            Decision::NotYet
        };
    };
    match current.state {
        ObservedState::Exited { .. } => Decision::Finished,
        _ if !is_in_sandbox(current) => Decision::Blocked,
        ObservedState::Created if current.restart_digest == spec.restart_digest => Decision::Start {
            attempt: current.attempt,
        },
        ObservedState::Created => Decision::Clear,
        ObservedState::Running { .. } | ObservedState::Unknown => Decision::Keep,
    }
}

/// The instance whose processes an ephemeral container is to be among, once there is one (`getTargetID` of
/// `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
pub(super) fn target<'a>(given: &Given<'a>, spec: &ContainerSpec) -> Option<&'a ObservedContainer> {
    let target = spec.target.as_deref()?;
    let sandbox = given.pod.sandbox()?;
    let current = given.pod.current(target)?;
    let runs = matches!(current.state, ObservedState::Running { .. });
    (runs && current.sandbox_id == sandbox.id).then_some(current)
}

/// The decision by its own state, as if it had no place in an order.
pub(super) fn alone(given: &Given<'_>, spec: &ContainerSpec) -> Decision {
    let record = &given.workload.record;
    let instances = given.pod.containers.iter().filter(|c| c.name == spec.name);
    let seen = instances.map(|c| c.attempt).max();
    let known = record.attempts.get(&spec.name).copied();
    let next = seen.max(known).map_or(0, |attempt| attempt.saturating_add(1));
    let replacing = record.replacing.contains(&spec.name);
    let Some(current) = given.pod.current(&spec.name) else {
        let over = order::place(given, spec) == Place::Main
            && match restart::policy(given, spec) {
                RestartPolicy::Always => false,
                RestartPolicy::OnFailure => record.ended.contains_key(&spec.name),
                RestartPolicy::Never => known.is_some(),
            };
        return if over && !replacing {
            Decision::Finished
        } else {
            start(given, next)
        };
    };
    match &current.state {
        state if current.is_live() => decide_live(given, spec, current, state),
        _ if replacing => start(given, next),
        ObservedState::Exited { exit_code, .. } => {
            // One of an earlier sandbox says nothing of whether an initial container is past in this one.
            let stale = order::place(given, spec) != Place::Main && order::active(given, spec).is_none();
            let again = stale || restart::again(given, spec, *exit_code);
            let crash = given.workload.crashes.get(&spec.name);
            match crash.and_then(|crash| crash.until_ms(current.attempt, spec)) {
                _ if !again => Decision::Finished,
                Some(until_ms) if until_ms > given.now.mono_ms => Decision::Wait {
                    attempt: current.attempt,
                    until_ms,
                },
                _ => start(given, next),
            }
        }
        _ => Decision::Blocked,
    }
}

fn decide_live(
    given: &Given<'_>,
    spec: &ContainerSpec,
    current: &ObservedContainer,
    state: &ObservedState,
) -> Decision {
    let same = current.restart_digest == spec.restart_digest;
    // What an initial container that runs to its end is made from does not change under it.
    let stays = order::place(given, spec) != Place::Main && !spec.is_sidecar();
    if given
        .pod
        .sandbox()
        .is_none_or(|sandbox| sandbox.id != current.sandbox_id)
    {
        return Decision::Blocked;
    }
    match state {
        ObservedState::Running { .. } if same || stays => match given.workload.doom(&current.id) {
            Some(doom) => Decision::Kill(doom),
            None => match resize::change(given.workload, spec) {
                Change::None => Decision::Keep,
                Change::InPlace => Decision::Resize,
                Change::Restart => Decision::Replace,
            },
        },
        ObservedState::Running { .. } => Decision::Replace,
        // The step finds it by its attempt and starts it.
        ObservedState::Created if same => Decision::Start {
            attempt: current.attempt,
        },
        _ => Decision::Clear,
    }
}

/// As the kubelet: a pod that never restarts gets no second sandbox once a container of it ran.
fn start(given: &Given<'_>, attempt: u32) -> Decision {
    let ran = !given.workload.record.attempts.is_empty() || !given.pod.containers.is_empty();
    if restart::of_pod(given) == RestartPolicy::Never && given.pod.sandbox().is_none() && ran {
        Decision::Finished
    } else {
        Decision::Start { attempt }
    }
}
