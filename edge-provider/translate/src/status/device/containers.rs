//! Container statuses as `convertToAPIContainerStatuses` of `pkg/kubelet/kubelet_pods.go` makes them, from the device's word.

use edge_protocol::text::sanitise;
use edge_protocol::v1;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser, PodSpec, PodStatus, VolumeMountStatus,
};

use super::super::containers::{end, instant, last_words, some_text, terminated};
use super::super::{Shown, is_terminal};
use super::resources;
use crate::ephemeral;

/// The statuses of a pod's containers.
#[derive(Default)]
pub(super) struct Lists {
    /// In the pod's order.
    pub(super) init: Vec<ContainerStatus>,
    /// By name, as a kubelet sorts them.
    pub(super) main: Vec<ContainerStatus>,
    /// By name too.
    pub(super) ephemeral: Vec<ContainerStatus>,
}

impl Lists {
    fn of(status: &PodStatus) -> Self {
        let [init, main, ephemeral] = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ]
        .map(|statuses| statuses.clone().unwrap_or_default());
        Self {
            init,
            main,
            ephemeral,
        }
    }

    /// All that are not known to have ended have.
    fn terminated(self) -> Self {
        let ended = |statuses: Vec<ContainerStatus>| statuses.into_iter().map(terminated).collect();
        let added = self.ephemeral.into_iter().map(terminated).map(unwatched);
        Self {
            init: ended(self.init),
            main: ended(self.main),
            ephemeral: added.collect(),
        }
    }
}

/// All containers as they are to be shown.
pub(super) fn all(spec: &PodSpec, previous: &PodStatus, shown: Shown<'_>) -> Lists {
    let before = Lists::of(previous);
    if previous.phase.as_deref().is_some_and(is_terminal) {
        return before;
    }
    let said = |status: &v1::DeploymentStatus, before: Lists| match &status.workload {
        Some(word) if super::is_rejected(word) => Lists::default(),
        Some(word) => heard(spec, &before, word),
        None => before,
    };
    match shown {
        Shown::Accepted | Shown::Refused(_) | Shown::Rejected(_) => before,
        Shown::Deployed(status) => said(status, before),
        Shown::Stopped(None) => before.terminated(),
        Shown::Stopped(Some(last)) => said(last, before).terminated(),
    }
}

fn heard(spec: &PodSpec, before: &Lists, word: &v1::WorkloadStatus) -> Lists {
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let added = ephemeral::containers(spec);
    let added = list(
        spec,
        &added,
        (&before.ephemeral, &word.ephemeral_containers),
        |_, _, _| false,
    );
    Lists {
        init: list(spec, init, (&before.init, &word.init_containers), may_come_back),
        main: sorted(list(
            spec,
            &spec.containers,
            (&before.main, &word.containers),
            may_come_back,
        )),
        ephemeral: sorted(added.into_iter().map(unwatched).collect()),
    }
}

/// Nothing watches over an ephemeral container: it is never ready, and whether it has started is not said (`UpdatePodStatus` of
/// `pkg/kubelet/prober/prober_manager.go`).
fn unwatched(status: ContainerStatus) -> ContainerStatus {
    ContainerStatus {
        ready: false,
        started: None,
        ..status
    }
}

fn sorted(mut statuses: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    statuses
}

fn list(
    spec: &PodSpec,
    containers: &[Container],
    (before, said): (&[ContainerStatus], &[v1::ContainerStatus]),
    may_come_back: fn(&PodSpec, &Container, &ContainerStateTerminated) -> bool,
) -> Vec<ContainerStatus> {
    let one = |container: &Container| {
        let earlier = before.iter().find(|earlier| earlier.name == container.name);
        let word = said.iter().find(|word| word.name == container.name);
        let fresh = word.map(|word| convert(container, word, earlier));
        match (fresh, earlier) {
            (Some(fresh), Some(earlier))
                if end(&fresh).is_none()
                    && end(earlier).is_some_and(|end| !may_come_back(spec, container, end)) =>
            {
                earlier.clone()
            }
            (Some(fresh), _) => fresh,
            (None, Some(earlier)) => earlier.clone(),
            (None, None) => unsaid(spec, container),
        }
    };
    containers.iter().map(one).collect()
}

/// Whether the API server lets a container come back from this end (`ValidateContainerStateTransition` of
/// `pkg/apis/core/validation/validation.go` with `ContainerShouldRestart` of `pkg/api/v1/pod/util.go`).
fn may_come_back(spec: &PodSpec, container: &Container, end: &ContainerStateTerminated) -> bool {
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut rules = all.flat_map(|container| container.restart_policy_rules.iter().flatten());
    if rules.any(|rule| rule.action == "RestartAllContainers") {
        return true;
    }
    let mut own = container.restart_policy_rules.iter().flatten();
    let matches = own.any(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let among = codes.values.iter().flatten().any(|code| *code == end.exit_code);
            among == (codes.operator == "In")
        })
    });
    if matches {
        return true;
    }
    match container
        .restart_policy
        .as_deref()
        .or(spec.restart_policy.as_deref())
    {
        Some("Never") => false,
        Some("OnFailure") => end.exit_code != 0,
        _ => true,
    }
}

/// The device has not said anything of it.
fn unsaid(spec: &PodSpec, container: &Container) -> ContainerStatus {
    let reason = if spec.init_containers.iter().flatten().next().is_some() {
        v1::Reason::PodInitializing
    } else {
        v1::Reason::ContainerCreating
    };
    let image = container.image.clone().unwrap_or_default();
    convert(
        container,
        &v1::ContainerStatus::waiting(&container.name, image, reason),
        None,
    )
}

fn convert(
    container: &Container,
    word: &v1::ContainerStatus,
    earlier: Option<&ContainerStatus>,
) -> ContainerStatus {
    let container_id = some_text(&word.container_id);
    let state = state(&word.state, container_id.as_deref());
    let runs = state.running.is_some();
    let was_created = container_id.is_some();
    let counted = i32::try_from(word.restart_count).unwrap_or(i32::MAX);
    let last = word
        .last
        .as_ref()
        .map(|last| last_state(last, earlier, (container_id.as_ref(), state.waiting.is_some())));
    ContainerStatus {
        allocated_resources: was_created.then(|| resources::allocated(container)).flatten(),
        resources: was_created
            .then(|| resources::granted(container, word.resources.as_ref().filter(|_| runs))),
        image: some_text(&word.image).unwrap_or_else(|| container.image.clone().unwrap_or_default()),
        image_id: sanitise(&word.image_id),
        last_state: Some(last.or_else(|| earlier?.last_state.clone()).unwrap_or_default()),
        name: word.name.clone(),
        ready: word.ready,
        restart_count: earlier.map_or(counted, |earlier| counted.max(earlier.restart_count)),
        started: Some(word.started.unwrap_or(runs)),
        user: word.user.as_ref().map(user),
        volume_mounts: mounts(container),
        container_id,
        state: Some(state),
        ..ContainerStatus::default()
    }
}

fn state(state: &v1::ContainerState, container_id: Option<&str>) -> ContainerState {
    let mut shown = ContainerState::default();
    match state {
        v1::ContainerState::Waiting { reason, message } => {
            shown.waiting = Some(ContainerStateWaiting {
                reason: Some(reason.to_string()),
                message: some_text(message),
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
            // Nobody saw an end that has no time, nor its run; one that has, of a run that never began, has the runtime's zero, as the
            // kubelet shows it.
            let seen_at = |ms: i64| (*finished_at_ms != 0).then(|| instant(ms));
            shown.terminated = Some(ContainerStateTerminated {
                container_id: container_id.map(str::to_owned),
                exit_code: *exit_code,
                reason: Some(reason.to_string()),
                message: last_words(message),
                started_at: seen_at(*started_at_ms),
                finished_at: seen_at(*finished_at_ms),
                signal: None,
            });
        }
    }
    shown
}

/// The end of the run before. A device does not tell that run's id: it is the present one's if that waits to be started again, or what was
/// shown of the run when it was the present one.
fn last_state(
    last: &v1::ContainerState,
    earlier: Option<&ContainerStatus>,
    (container_id, is_waiting): (Option<&String>, bool),
) -> ContainerState {
    let mut shown = state(last, None);
    let Some(ended) = &mut shown.terminated else {
        return shown;
    };
    if is_waiting {
        ended.container_id = container_id.cloned();
        return shown;
    }
    let Some(earlier) = earlier else { return shown };
    let told = earlier
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let started = |state: &ContainerState| {
        let running = state
            .running
            .as_ref()
            .and_then(|running| running.started_at.clone());
        running.or_else(|| state.terminated.as_ref()?.started_at.clone())
    };
    let was_present = earlier.state.as_ref().and_then(started);
    ended.container_id = if told
        .is_some_and(|told| told.started_at == ended.started_at && told.finished_at == ended.finished_at)
    {
        told.and_then(|told| told.container_id.clone())
    } else if was_present.is_some() && was_present == ended.started_at {
        earlier.container_id.clone()
    } else {
        container_id
            .filter(|id| earlier.container_id.as_ref() == Some(*id))
            .cloned()
    };
    shown
}

fn user(user: &v1::LinuxUser) -> ContainerUser {
    ContainerUser {
        linux: Some(LinuxContainerUser {
            gid: user.gid,
            supplemental_groups: (!user.supplemental_groups.is_empty())
                .then(|| user.supplemental_groups.clone()),
            uid: user.uid,
        }),
    }
}

/// Whether a runtime can mount recursively read-only is known on the device only; where the pod leaves it open, it is taken to.
fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container
        .volume_mounts
        .as_ref()
        .filter(|mounts| !mounts.is_empty())?;
    let one = |mount: &k8s_openapi::api::core::v1::VolumeMount| {
        let read_only = mount.read_only == Some(true);
        let recursive = match mount.recursive_read_only.as_deref() {
            Some("Enabled" | "IfPossible") => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            mount_path: mount.mount_path.clone(),
            name: mount.name.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| recursive.to_owned()),
            ..VolumeMountStatus::default()
        }
    };
    Some(mounts.iter().map(one).collect())
}
