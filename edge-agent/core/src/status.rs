//! What the device says of one workload: the kubelet's phase rules (`getPhase` of `kubelet_pods.go`) and the ladder.

use edge_protocol::text::sanitise;
use edge_protocol::v1::{
    ContainerSpec, ContainerState, ContainerStatus, Phase, Reason, RestartPolicy, Rung, WorkloadStatus,
};
use edge_protocol::{DeviceTime, ItemState};

use crate::backoff::{CrashBackoff, Failure};
use crate::lifecycle::{Decision, decide};
use crate::plan::Given;
use crate::record::Ended;
use crate::step::{ObservedContainer, ObservedState};
use crate::words;
use crate::workload::Subject;

/// The words around what is observed.
#[derive(Clone, Copy)]
pub(crate) struct Saying<'a> {
    /// The scheme of container ids, such as `containerd`.
    pub(crate) runtime: &'a str,
    pub(crate) now: DeviceTime,
}

/// The whole status, as of now; `None` for what no trusted set ever named.
pub(crate) fn build(given: &Given<'_>, saying: Saying<'_>) -> Option<WorkloadStatus> {
    let record = &given.workload.record;
    let item = given.workload.item.as_ref();
    let refused = given
        .workload
        .refused
        .as_ref()
        .filter(|_| given.workload.wants_run());
    let manifest = match (item, refused) {
        (Some(item), Some(_)) => item.digest,
        (Some(item), None) => record.manifest.unwrap_or(item.digest),
        (None, _) => record.manifest?,
    };
    let containers = containers(given, saying);
    let policy = given
        .manifest()
        .map_or(RestartPolicy::Always, |manifest| manifest.workload.restart_policy);
    let phase = phase(given, policy, &containers);
    let (reason, message) =
        reason(given).map_or((None, String::new()), |(reason, message)| (Some(reason), message));
    Some(WorkloadStatus {
        uid: given.uid.clone(),
        revision: item.map_or(record.revision, |item| item.revision),
        manifest,
        rung: rung(given, phase),
        phase,
        reason,
        message: sanitise(&message),
        pod_ip: given
            .pod
            .sandbox()
            .and_then(|sandbox| sandbox.ip.as_deref())
            .map(sanitise),
        init_containers: Vec::new(),
        sandbox_ready: false,
        further_pod_ips: Vec::new(),
        started: record.started,
        since: saying.now,
        containers: if record.rejected.is_some() {
            Vec::new()
        } else {
            containers
        },
    })
}

/// Nothing of an ended workload is left.
pub(crate) fn is_gone(given: &Given<'_>) -> bool {
    let workload = given.workload;
    workload.record.ending.is_some()
        && given.pod.is_empty()
        && !workload.is_busy()
        && !workload.is_blind()
        && (workload.cleaned || workload.record.started.is_none())
}

fn is_leaving(given: &Given<'_>) -> bool {
    given.workload.record.ending.is_some() || given.workload.record.superseded.is_some()
}

fn containers(given: &Given<'_>, saying: Saying<'_>) -> Vec<ContainerStatus> {
    let specs = given.workload.containers();
    let mut all: Vec<ContainerStatus> = specs.iter().map(|spec| container(given, spec, saying)).collect();
    let unlisted = given.workload.record.ended.values().map(|ended| &ended.status);
    all.extend(
        unlisted
            .filter(|status| specs.iter().all(|spec| spec.name != status.name))
            .cloned(),
    );
    if is_gone(given) {
        all.iter_mut().for_each(close);
    }
    all
}

/// As `TerminatePod` of the kubelet's status manager: of what is not there any more no container may seem to wait or run.
fn close(status: &mut ContainerStatus) {
    status.ready = false;
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

fn container(given: &Given<'_>, spec: &ContainerSpec, saying: Saying<'_>) -> ContainerStatus {
    let record = &given.workload.record;
    let decision = decide(given, spec);
    let attempts = record.attempts.get(&spec.name).copied();
    let Some(current) = given.pod.current(&spec.name) else {
        let ended = record.ended.get(&spec.name).map(|ended| ended.status.clone());
        let over = is_leaving(given) || decision == Decision::Finished;
        let unknown = ended.is_none() && decision == Decision::Finished;
        let mut status = match ended {
            Some(ended) if over => ended,
            ended => ContainerStatus {
                state: waiting(given, spec).unwrap_or_else(creating),
                last: ended.map(|ended| ended.state),
                restart_count: attempts.unwrap_or(0),
                ..ContainerStatus::waiting(&spec.name, &spec.image, Reason::ContainerCreating)
            },
        };
        if unknown {
            // It will not run again and nobody saw it end, such as one whose start a power cut overtook: were it shown to wait, its pod
            // would never end.
            close(&mut status);
        }
        return status;
    };
    let instances = given.pod.instances(&spec.name);
    let previous = instances
        .iter()
        .filter(|c| c.attempt < current.attempt && !c.is_live())
        .find_map(|c| terminated(c));
    let (state, last) = match (&current.state, terminated(current)) {
        (ObservedState::Running { started_at_ms }, _) => (
            ContainerState::Running {
                started_at_ms: *started_at_ms,
            },
            previous,
        ),
        (_, Some(end)) => match ended_state(given, spec, &decision) {
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
        (_, None) => (waiting(given, spec).unwrap_or_else(creating), previous),
    };
    ContainerStatus {
        image_id: sanitise(&current.image_id),
        container_id: format!("{}://{}", saying.runtime, sanitise(&current.id)),
        ready: matches!(state, ContainerState::Running { .. }),
        state,
        last,
        restart_count: attempts.unwrap_or(0).max(current.attempt),
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
        Decision::Start { .. } => waiting(given, spec),
        _ => None,
    }
}

fn creating() -> ContainerState {
    ContainerState::Waiting {
        reason: Reason::ContainerCreating,
        message: String::new(),
    }
}

/// What keeps a container from starting, if something failed.
fn waiting(given: &Given<'_>, spec: &ContainerSpec) -> Option<ContainerState> {
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

fn image_failure(image: &str, failure: &Failure) -> (Reason, String) {
    match failure.reason {
        Reason::ErrImagePull => (
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
            message: sanitise(message),
            started_at_ms: *started_at_ms,
            finished_at_ms: *finished_at_ms,
        }),
        _ => None,
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

fn phase(given: &Given<'_>, policy: RestartPolicy, containers: &[ContainerStatus]) -> Phase {
    let record = &given.workload.record;
    let wants_again = given
        .workload
        .item
        .as_ref()
        .is_some_and(|item| item.state != ItemState::Stop);
    if is_gone(given) && !wants_again {
        Phase::Gone
    } else if record.rejected.is_some() {
        Phase::Failed
    } else if given.workload.refused.is_some() && given.pod.is_empty() && record.started.is_none() {
        Phase::Refused
    } else if given.workload.containers().is_empty() {
        Phase::Pending
    } else {
        pod_phase(policy, containers)
    }
}

/// `getPhase`: a container that waits counts as stopped once it ran, and as pending before.
fn pod_phase(policy: RestartPolicy, containers: &[ContainerStatus]) -> Phase {
    let (mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for status in containers {
        match (&status.state, &status.last) {
            (ContainerState::Running { .. }, _) => running += 1,
            (ContainerState::Terminated { exit_code, .. }, _) => {
                stopped += 1;
                succeeded += u32::from(*exit_code == 0);
            }
            (ContainerState::Waiting { .. }, Some(_)) => stopped += 1,
            (ContainerState::Waiting { .. }, None) => waiting += 1,
        }
    }
    match (waiting, running, stopped) {
        (0, 0, 1..) if policy == RestartPolicy::Always => Phase::Running,
        (0, 0, 1..) if stopped == succeeded => Phase::Succeeded,
        (0, 0, 1..) if policy == RestartPolicy::Never => Phase::Failed,
        (0, 1.., _) | (0, 0, 1..) => Phase::Running,
        _ => Phase::Pending,
    }
}

fn rung(given: &Given<'_>, phase: Phase) -> Rung {
    let workload = given.workload;
    let acted_on = workload.wants_run()
        && workload.refused.is_none()
        && workload.record.superseded.is_none()
        && workload.manifest.is_some()
        && workload
            .item
            .as_ref()
            .is_some_and(|item| Some(item.digest) == workload.record.manifest);
    let created = |spec: &ContainerSpec| match given.pod.current(&spec.name) {
        Some(current) => {
            current.restart_digest == spec.restart_digest && current.state != ObservedState::Unknown
        }
        None => workload
            .record
            .ended
            .get(&spec.name)
            .is_some_and(|e| e.restart_digest == spec.restart_digest),
    };
    let runs = |spec: &ContainerSpec| {
        let current = given.pod.current(&spec.name);
        current.is_some_and(|current| matches!(current.state, ObservedState::Running { .. }))
    };
    let containers = workload.containers();
    if !acted_on || !containers.iter().all(created) {
        Rung::Persisted
    } else if phase == Phase::Succeeded || containers.iter().all(runs) {
        Rung::Healthy
    } else {
        Rung::Applied
    }
}

/// What keeps the workload as a whole from being as desired; the first that applies.
fn reason(given: &Given<'_>) -> Option<(Reason, String)> {
    let workload = given.workload;
    let record = &workload.record;
    if record.ending.is_some() {
        return None;
    }
    if let Some(rejected) = &record.rejected {
        return Some((rejected.reason, rejected.message.clone()));
    }
    if let Some((reason, message)) = workload.refused.clone().filter(|_| workload.wants_run()) {
        return Some((reason, message));
    }
    if workload.quarantined {
        return Some((
            Reason::Quarantined,
            "kept as it was: the restored hub's word contradicts it".to_owned(),
        ));
    }
    if let Some(superseded) = &record.superseded {
        return Some((
            Reason::SupersededOnDevice,
            format!("{} takes its place on this device", superseded.by),
        ));
    }
    if workload.manifest.is_none() {
        return Some((Reason::WaitingForBlob, "its manifest has not arrived".to_owned()));
    }
    if let Some(failure) = workload.failures.get(&Subject::Sandbox(String::new())) {
        return Some((Reason::SandboxFailed, failure.message.clone()));
    }
    // A container that runs on while the image of its successor cannot be had shows that here, and itself as running.
    workload
        .containers()
        .iter()
        .filter(|spec| decide(given, spec) == Decision::Replace)
        .find_map(|spec| {
            Some(image_failure(
                &spec.image,
                workload.failures.get(&Subject::Image(spec.image.clone()))?,
            ))
        })
}

#[cfg(test)]
mod tests;
