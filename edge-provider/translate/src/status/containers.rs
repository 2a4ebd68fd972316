//! The container statuses of a pod: the worst of all devices, on top of what was shown before.

use edge_protocol::DeviceId;
use edge_protocol::text::{self, sanitise};
use edge_protocol::v1::{self, ContainerRollup, Reason};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Shown, is_terminal, time};

/// The exit code of a container whose end nobody saw (`TerminatePod` of `pkg/kubelet/status/status_manager.go`).
const UNSEEN_END: i32 = 137;

/// One per container of the pod in its order, or none where nothing was ever asked of a device.
pub(super) fn all(pod: &Pod, previous: &PodStatus, shown: Shown<'_>) -> Vec<ContainerStatus> {
    let before = previous.container_statuses.as_deref().unwrap_or_default();
    if previous.phase.as_deref().is_some_and(is_terminal) {
        return before.to_vec();
    }
    let rolled = |status| rolled_up(pod, before, status);
    match shown {
        Shown::Accepted | Shown::Refused(_) | Shown::Stopped(None) if before.is_empty() => Vec::new(),
        Shown::Accepted | Shown::Refused(_) | Shown::Rejected(_) => before.to_vec(),
        Shown::Deployed(status) if status.counts.targeted == 0 && before.is_empty() => Vec::new(),
        Shown::Deployed(status) => rolled(status),
        Shown::Stopped(last) => last
            .map_or_else(|| before.to_vec(), rolled)
            .into_iter()
            .map(terminated)
            .collect(),
    }
}

/// Initial containers in the pod's order. The hub rolls up the others only: what is known of these is the word of the one device of a fleet
/// of one, and nothing is claimed of more.
pub(super) fn initial(pod: &Pod, previous: &PodStatus, shown: Shown<'_>) -> Vec<ContainerStatus> {
    let before = previous.init_container_statuses.as_deref().unwrap_or_default();
    let status = match shown {
        Shown::Deployed(status) | Shown::Stopped(Some(status)) => Some(status),
        Shown::Accepted | Shown::Refused(_) | Shown::Rejected(_) | Shown::Stopped(None) => None,
    };
    let is_over = previous.phase.as_deref().is_some_and(is_terminal);
    let Some((word, device)) = status.filter(|_| !is_over).and_then(only_word) else {
        return before.to_vec();
    };
    let containers = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten());
    let statuses = containers.filter_map(|container| {
        let earlier = before.iter().find(|earlier| earlier.name == container.name);
        let mut said = word.init_containers.iter();
        let Some(said) = said.find(|said| said.name == container.name) else {
            return earlier.cloned();
        };
        let rollup = ContainerRollup {
            device: device.cloned(),
            status: said.clone(),
        };
        let fresh = convert(&rollup, container.image.as_deref().unwrap_or_default());
        Some(match earlier {
            Some(earlier) => continued(fresh, earlier),
            None => fresh,
        })
    });
    match shown {
        Shown::Stopped(_) => statuses.map(terminated).collect(),
        _ => statuses.collect(),
    }
}

fn only_word(status: &v1::DeploymentStatus) -> Option<(&v1::WorkloadStatus, Option<&DeviceId>)> {
    let device = status
        .containers
        .first()
        .and_then(|rollup| rollup.device.as_ref());
    Some((status.workload.as_deref()?, device))
}

/// Whether any has run (`HasAnyRegularContainerStarted` of `pkg/kubelet/container/helpers.go`).
pub(super) fn have_started(statuses: &[ContainerStatus]) -> bool {
    let states = statuses.iter().filter_map(|status| status.state.as_ref());
    states
        .into_iter()
        .any(|state| state.running.is_some() || state.terminated.is_some())
}

/// Whether a container ended with exit code 0.
pub(super) fn succeeded(status: &ContainerStatus) -> bool {
    end(status).is_some_and(|end| end.exit_code == 0)
}

pub(super) fn end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn rolled_up(pod: &Pod, before: &[ContainerStatus], status: &v1::DeploymentStatus) -> Vec<ContainerStatus> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let policy = spec.restart_policy.as_deref();
    let one = |name: &str, image: &str| {
        let earlier = before.iter().find(|earlier| earlier.name == name);
        if let Some(ended) = earlier.filter(|earlier| ended_for_good(earlier, policy)) {
            return ended.clone();
        }
        let rollup = status.containers.iter().find(|rollup| rollup.status.name == name);
        let fresh = match rollup {
            Some(rollup) => convert(rollup, image),
            None => waiting(name, image),
        };
        match earlier {
            Some(earlier) => continued(fresh, earlier),
            None => fresh,
        }
    };
    spec.containers
        .iter()
        .map(|container| one(&container.name, container.image.as_deref().unwrap_or_default()))
        .collect()
}

/// `ContainerShouldRestart` of `pkg/api/v1/pod/util.go`, turned round. The first end that was shown stands: its exit code and
/// device are what controllers have counted.
fn ended_for_good(status: &ContainerStatus, restart_policy: Option<&str>) -> bool {
    end(status).is_some_and(|end| match restart_policy {
        Some("Never") => true,
        Some("OnFailure") => end.exit_code == 0,
        _ => false,
    })
}

/// What another device says now does not take back what was counted before.
fn continued(mut fresh: ContainerStatus, earlier: &ContainerStatus) -> ContainerStatus {
    fresh.restart_count = fresh.restart_count.max(earlier.restart_count);
    if fresh
        .last_state
        .as_ref()
        .is_none_or(|last| *last == ContainerState::default())
    {
        fresh.last_state.clone_from(&earlier.last_state);
    }
    fresh
}

fn convert(rollup: &ContainerRollup, image: &str) -> ContainerStatus {
    let status = &rollup.status;
    let device = rollup.device.as_ref();
    let container_id = some_text(&status.container_id);
    let state = state(&status.state, device, container_id.as_ref());
    ContainerStatus {
        name: status.name.clone(),
        image: some_text(&status.image).unwrap_or_else(|| image.to_owned()),
        image_id: sanitise(&status.image_id),
        ready: status.ready,
        restart_count: i32::try_from(status.restart_count).unwrap_or(i32::MAX),
        // A device that does not say has no startup probes: there a container has started as soon as it runs.
        started: Some(status.started.unwrap_or(state.running.is_some())),
        // The id of an earlier run is not known, so it is not claimed.
        last_state: Some(
            status
                .last
                .as_ref()
                .map(|last| self::state(last, device, None))
                .unwrap_or_default(),
        ),
        state: Some(state),
        container_id,
        ..ContainerStatus::default()
    }
}

/// Before any device has spoken, as the kubelet's `convertToAPIContainerStatuses` begins.
pub(super) fn waiting(name: &str, image: &str) -> ContainerStatus {
    let waiting = ContainerStateWaiting {
        reason: Some(Reason::ContainerCreating.to_string()),
        message: None,
    };
    ContainerStatus {
        name: name.to_owned(),
        image: image.to_owned(),
        state: Some(ContainerState {
            waiting: Some(waiting),
            ..ContainerState::default()
        }),
        last_state: Some(ContainerState::default()),
        started: Some(false),
        ..ContainerStatus::default()
    }
}

fn state(
    state: &v1::ContainerState,
    device: Option<&DeviceId>,
    container_id: Option<&String>,
) -> ContainerState {
    let mut shown = ContainerState::default();
    match state {
        v1::ContainerState::Waiting { reason, message } => {
            shown.waiting = Some(ContainerStateWaiting {
                reason: Some(reason.to_string()),
                message: attributed(device, message),
            });
        }
        v1::ContainerState::Running { started_at_ms } => {
            shown.running = Some(ContainerStateRunning {
                started_at: Some(instant(*started_at_ms)),
            });
        }
        v1::ContainerState::Terminated {
            exit_code,
            reason,
            message,
            started_at_ms,
            finished_at_ms,
        } => {
            shown.terminated = Some(ContainerStateTerminated {
                container_id: container_id.cloned(),
                exit_code: *exit_code,
                reason: Some(reason.to_string()),
                message: attributed(device, message),
                started_at: Some(instant(*started_at_ms)),
                finished_at: Some(instant(*finished_at_ms)),
                signal: None,
            });
        }
    }
    shown
}

/// A status names its device wherever the API leaves room for words.
fn attributed(device: Option<&DeviceId>, message: &str) -> Option<String> {
    match (device, message.is_empty()) {
        (None, true) => None,
        (None, false) => Some(sanitise(message)),
        (Some(device), true) => Some(format!("on device {device}")),
        (Some(device), false) => Some(sanitise(&format!("on device {device}: {message}"))),
    }
}

pub(super) fn terminated(mut status: ContainerStatus) -> ContainerStatus {
    if end(&status).is_some() {
        return status;
    }
    let started_at = status.state.take().and_then(|state| state.running?.started_at);
    let unseen = ContainerStateTerminated {
        container_id: status.container_id.clone(),
        exit_code: UNSEEN_END,
        reason: Some(Reason::ContainerStatusUnknown.to_string()),
        message: Some("no device told how the container ended".to_owned()),
        started_at,
        ..ContainerStateTerminated::default()
    };
    status.state = Some(ContainerState {
        terminated: Some(unseen),
        ..ContainerState::default()
    });
    status.ready = false;
    status.started = Some(false);
    status
}

pub(super) fn instant(millis: i64) -> Time {
    Time(time::of_millis(millis))
}

pub(super) fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| sanitise(text))
}

/// What a container left when it ended: its lines stay lines.
pub(super) fn last_words(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text::words(text))
}
