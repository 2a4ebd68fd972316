//! What is said of one container, as a kubelet shows it (`convertToAPIContainerStatuses` of `pkg/kubelet/kubelet_pods.go`).

use edge_protocol::text::{self, sanitise};
use edge_protocol::v1::{ContainerSpec, ContainerState, ContainerStatus, Reason, Resources};

use super::{Saying, is_leaving};
use crate::backoff::{CrashBackoff, Failure};
use crate::lifecycle::order::{self, Place, Progress};
use crate::lifecycle::{Decision, decide};
use crate::plan::Given;
use crate::record::Ended;
use crate::step::{ObservedContainer, ObservedState};
use crate::words;
use crate::workload::Subject;

/// As `TerminatePod` of the kubelet's status manager: of what is not there any more no container may seem to wait or run.
pub(super) fn close(status: &mut ContainerStatus) {
    status.ready = false;
    status.started = Some(false);
    if !matches!(status.state, ContainerState::Terminated { .. }) {
        status.state = ContainerState::Terminated {
            exit_code: 137,
            reason: Reason::ContainerStatusUnknown,
            message: "The container could not be located when the pod was terminated".to_owned(),
            started_at_ms: 0,
            finished_at_ms: 0,
        };
    }
}

const REMOVED: &str = "The container is removed because RestartAllContainers in place";

/// Of one container of the manifest.
pub(super) fn container(given: &Given<'_>, spec: &ContainerSpec, saying: Saying<'_>) -> ContainerStatus {
    let decision = decide(given, spec);
    let place = order::place(given, spec);
    // An initial container of an earlier sandbox is to run once more, and shows that.
    let current = match place {
        Place::Main | Place::Ephemeral => given.pod.current(&spec.name),
        Place::Initial(_) if decision == Decision::Finished => given.pod.current(&spec.name),
        Place::Initial(_) => order::active(given, spec).or_else(|| given.pod.current(&spec.name)),
    };
    let current = current.map(|current| before_start(given, current).unwrap_or(current));
    let mut status = match current {
        Some(current) => present(given, spec, current, (&decision, saying)),
        None => absent(given, spec, &decision),
    };
    let instance = current.filter(|_| matches!(status.state, ContainerState::Running { .. }));
    let started = instance.is_some_and(|current| given.workload.has_started(spec, current));
    let ended = matches!(status.state, ContainerState::Terminated { exit_code: 0, .. });
    status.started = Some(started);
    status.ready = match place {
        Place::Initial(_) if !spec.is_sidecar() => ended,
        _ => instance.is_some_and(|current| given.workload.is_ready(spec, current)),
    };
    // What a runtime does not tell is as it was last asked for.
    let asked = given.workload.record.actuated.get(&spec.name);
    let actual = instance.and_then(|current| current.resources.as_ref().or(asked));
    let resources = actual.map_or_else(
        || spec.resources.clone(),
        |actual| held_to(&spec.resources, actual),
    );
    status.allocated = Some(spec.resources.clone());
    status.resources = Some(resources).filter(|resources| *resources != Resources::default());
    status.user = current.and_then(|current| current.user.clone());
    status
}

/// The run before one that is still being started, hook included: as a kubelet, which looks again when it has started all that it can.
fn before_start<'a>(given: &Given<'a>, current: &ObservedContainer) -> Option<&'a ObservedContainer> {
    let is_starting = current.state == ObservedState::Created || given.workload.awaits_hook(&current.id);
    let before = |other: &&ObservedContainer| other.attempt < current.attempt && !other.is_live();
    let instances = given.pod.instances(&current.name);
    instances.into_iter().find(before).filter(|_| is_starting)
}

/// What is allocated, with the runtime's own figures where it has them and something is allocated (`convertContainerStatusResources`). Below
/// the least that a kernel holds anyone to, what is allocated is shown.
fn held_to(allocated: &Resources, actual: &Resources) -> Resources {
    const LEAST_REQUEST_MILLI: u64 = 2;
    const LEAST_LIMIT_MILLI: u64 = 10;
    let cpu = |allocated: Option<u64>, actual: Option<u64>, least: u64| {
        let actual = actual.filter(|actual| *actual > least || allocated > Some(least));
        actual.or(allocated)
    };
    let is_asked = [
        allocated.cpu_request_milli,
        allocated.memory_request_bytes,
        allocated.ephemeral_storage_request_bytes,
    ];
    let is_limited = [
        allocated.cpu_limit_milli,
        allocated.memory_limit_bytes,
        allocated.ephemeral_storage_limit_bytes,
    ];
    // Where a pod limits all its containers together, the runtime holds each to that.
    let if_any =
        |stated: [Option<u64>; 3], actual: Option<u64>| actual.filter(|_| stated.iter().any(Option::is_some));
    Resources {
        cpu_request_milli: cpu(
            allocated.cpu_request_milli,
            if_any(is_asked, actual.cpu_request_milli),
            LEAST_REQUEST_MILLI,
        ),
        cpu_limit_milli: cpu(
            allocated.cpu_limit_milli,
            if_any(is_limited, actual.cpu_limit_milli),
            LEAST_LIMIT_MILLI,
        ),
        memory_limit_bytes: if_any(is_limited, actual.memory_limit_bytes).or(allocated.memory_limit_bytes),
        ..allocated.clone()
    }
}

/// One that the runtime has nothing of.
fn absent(given: &Given<'_>, spec: &ContainerSpec, decision: &Decision) -> ContainerStatus {
    let record = &given.workload.record;
    let ended = record.ended.get(&spec.name).map(|ended| ended.status.clone());
    let finished = *decision == Decision::Finished;
    let over = is_leaving(given) || finished;
    let unknown = ended.is_none() && finished;
    let mut status = match ended {
        Some(ended) if over => ended,
        ended => ContainerStatus {
            state: waiting(given, spec, decision).unwrap_or_else(|| match &ended {
                Some(_) if record.resetting => ContainerState::Waiting {
                    reason: Reason::RestartingAllContainers,
                    message: REMOVED.to_owned(),
                },
                _ => creating(given),
            }),
            last: ended.map(|ended| ended.state),
            restart_count: record.attempts.get(&spec.name).copied().unwrap_or(0),
            ..ContainerStatus::waiting(&spec.name, &spec.image, Reason::ContainerCreating)
        },
    };
    let had_its_turn = order::progress(given) == Progress::Done;
    // Of a workload that failed before its turn came it is clear that it never ran.
    let never_ran = record.failed.is_some() && !record.attempts.contains_key(&spec.name) && !had_its_turn;
    let is_initial = matches!(order::place(given, spec), Place::Initial(_));
    if unknown && !is_initial && !never_ran {
        // It will not run again and nobody saw it end, such as one whose start a power cut overtook: were it shown to wait, its pod
        // would never end.
        close(&mut status);
    } else if unknown && is_initial && had_its_turn {
        // As the kubelet: the main containers ran, so it had succeeded.
        status.state = ContainerState::Terminated {
            exit_code: 0,
            reason: Reason::Completed,
            message: "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally"
                .to_owned(),
            started_at_ms: 0,
            finished_at_ms: 0,
        };
    }
    status
}

fn present(
    given: &Given<'_>,
    spec: &ContainerSpec,
    current: &ObservedContainer,
    (decision, saying): (&Decision, Saying<'_>),
) -> ContainerStatus {
    let instances = given.pod.instances(&spec.name);
    let previous = instances
        .iter()
        .filter(|c| c.attempt < current.attempt && !c.is_live())
        .find_map(|c| terminated(c))
        .or_else(|| given.workload.record.last.get(&spec.name).cloned());
    let waits = || waiting(given, spec, decision).unwrap_or_else(|| creating(given));
    let (state, last) = match (&current.state, terminated(current)) {
        (ObservedState::Running { .. }, _) if given.workload.awaits_hook(&current.id) => (waits(), previous),
        (ObservedState::Running { started_at_ms }, _) => (
            ContainerState::Running {
                started_at_ms: *started_at_ms,
            },
            previous,
        ),
        (_, Some(end)) => match ended_state(given, spec, decision) {
            Some(waits) => (waits, Some(end)),
            None => (end, previous),
        },
        (ObservedState::Unknown, None) => {
            let message = "the runtime lost track of the container".to_owned();
            (
                ContainerState::Waiting {
                    reason: Reason::ContainerStatusUnknown,
                    message,
                },
                previous,
            )
        }
        (_, None) => (waits(), previous),
    };
    ContainerStatus {
        image_id: sanitise(&current.image_id),
        container_id: format!("{}://{}", saying.runtime, sanitise(&current.id)),
        state,
        last,
        restart_count: given
            .workload
            .record
            .attempts
            .get(&spec.name)
            .copied()
            .unwrap_or(0)
            .max(current.attempt),
        ..ContainerStatus::waiting(&spec.name, sanitise(&current.image), Reason::ContainerCreating)
    }
}

/// What an ended container that will run again shows instead of its end.
fn ended_state(given: &Given<'_>, spec: &ContainerSpec, decision: &Decision) -> Option<ContainerState> {
    if is_leaving(given) {
        return None;
    }
    match decision {
        Decision::Wait { .. } => {
            let crash = given.workload.crashes.get(&spec.name);
            let delay_ms = crash.map_or(0, CrashBackoff::delay_ms);
            let message = given.manifest().map_or(String::new(), |manifest| {
                words::waiting_for_restart(manifest, &spec.name, delay_ms)
            });
            Some(ContainerState::Waiting {
                reason: Reason::CrashLoopBackOff,
                message: sanitise(&message),
            })
        }
        Decision::Start { .. } => waiting(given, spec, decision),
        // Its sandbox died, and the initial containers run again before it.
        Decision::NotYet => Some(creating(given)),
        _ => None,
    }
}

/// What a container shows that waits for nothing in particular.
fn creating(given: &Given<'_>) -> ContainerState {
    let initial = given
        .manifest()
        .is_some_and(|manifest| !manifest.workload.init_containers.is_empty());
    ContainerState::Waiting {
        reason: if initial {
            Reason::PodInitializing
        } else {
            Reason::ContainerCreating
        },
        message: String::new(),
    }
}

/// What keeps a container from starting, if something failed and it is its turn.
fn waiting(given: &Given<'_>, spec: &ContainerSpec, decision: &Decision) -> Option<ContainerState> {
    if *decision == Decision::NotYet {
        return None;
    }
    let failures = &given.workload.failures;
    let (reason, message) = failures
        .get(&Subject::Image(spec.image.clone()))
        .map(|failure| image_failure(&spec.image, failure))
        .or_else(|| {
            let failure = failures.get(&Subject::Start(spec.name.clone()))?;
            Some((failure.reason, failure.message.clone()))
        })?;
    Some(ContainerState::Waiting { reason, message })
}

pub(super) fn image_failure(image: &str, failure: &Failure) -> (Reason, String) {
    match failure.reason {
        Reason::ErrImagePull if failure.fresh_until_ms.is_none() => (
            Reason::ImagePullBackOff,
            sanitise(&format!(
                "Back-off pulling image \"{image}\": ErrImagePull: {}",
                failure.message
            )),
        ),
        other => (other, failure.message.clone()),
    }
}

fn terminated(container: &ObservedContainer) -> Option<ContainerState> {
    match &container.state {
        ObservedState::Exited {
            exit_code,
            reason,
            message,
            started_at_ms,
            finished_at_ms,
        } => Some(ContainerState::Terminated {
            exit_code: *exit_code,
            reason: *reason,
            message: text::words(message),
            started_at_ms: *started_at_ms,
            finished_at_ms: *finished_at_ms,
        }),
        _ => None,
    }
}

/// What a kubelet shows of a container that it removed to begin all of them anew (`convertToAPIContainerStatuses` of
/// `pkg/kubelet/kubelet_pods.go`), whatever its own end was.
pub(crate) fn removed() -> ContainerState {
    ContainerState::Terminated {
        exit_code: 137,
        reason: Reason::RestartingAllContainers,
        message: REMOVED.to_owned(),
        started_at_ms: 0,
        finished_at_ms: 0,
    }
}

/// How a container ended, to be remembered when the runtime has it no more.
pub(crate) fn ended(given: &Given<'_>, name: &str, saying: Saying<'_>) -> Option<Ended> {
    let current = given.pod.current(name)?;
    Some(Ended {
        restart_digest: current.restart_digest,
        status: ContainerStatus {
            image_id: sanitise(&current.image_id),
            container_id: format!("{}://{}", saying.runtime, sanitise(&current.id)),
            state: terminated(current)?,
            restart_count: given
                .workload
                .record
                .attempts
                .get(name)
                .copied()
                .unwrap_or(0)
                .max(current.attempt),
            ..ContainerStatus::waiting(name, sanitise(&current.image), Reason::ContainerCreating)
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtime_does_not_know_is_shown_as_allocated() {
        let allocated = Resources {
            cpu_request_milli: Some(1),
            cpu_limit_milli: Some(500),
            memory_request_bytes: Some(7),
            ephemeral_storage_limit_bytes: Some(9),
            ..Resources::default()
        };
        let actual = Resources {
            cpu_request_milli: Some(2),
            cpu_limit_milli: Some(400),
            memory_limit_bytes: Some(1 << 40),
            ..Resources::default()
        };
        let expect = Resources {
            cpu_limit_milli: Some(400),
            memory_limit_bytes: Some(1 << 40),
            ..allocated.clone()
        };
        assert_eq!(
            held_to(&allocated, &actual),
            expect,
            "one that states a limit has all"
        );
        let unlimited = Resources {
            memory_request_bytes: Some(7),
            ..Resources::default()
        };
        assert_eq!(
            held_to(&unlimited, &actual),
            unlimited,
            "one that states none has none"
        );
        assert_eq!(held_to(&allocated, &Resources::default()), allocated);
    }
}
