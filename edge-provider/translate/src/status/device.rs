//! The status of a pod on a device node: the device's whole word, as a kubelet shows its own.
//!
//! Sources in Kubernetes 1.37: `generateAPIPodStatus` and `convertToAPIContainerStatuses` of `pkg/kubelet/kubelet_pods.go`,
//! `pkg/kubelet/status/generate.go`, `rejectPod` of `pkg/kubelet/kubelet.go`.

mod conditions;
mod containers;
mod resizing;
mod resources;
mod totals;

use std::net::IpAddr;

use edge_protocol::text::sanitise;
use edge_protocol::v1::{DeploymentStatus, Phase, WorkloadStatus};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodIP, PodSpec, PodStatus};
use k8s_openapi::jiff::Timestamp;

use self::containers::Lists;
use super::{
    FAILED, NO_DEVICES_TARGETED, PENDING, RUNNING, Refused, SUCCEEDED, Shown, Surroundings, clear_or, common,
    rejection,
};

/// What the conditions are made from.
struct Facts<'a> {
    spec: &'a PodSpec,
    init: &'a [ContainerStatus],
    main: &'a [ContainerStatus],
    phase: &'a str,
    word: Option<&'a WorkloadStatus>,
}

pub(super) fn status(
    pod: &Pod,
    previous: &PodStatus,
    shown: Shown<'_>,
    around: &Surroundings<'_>,
    silent_since: Option<Timestamp>,
) -> PodStatus {
    let unset = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&unset);
    let word = word(shown);
    let spec = &resources::as_allocated(spec, word);
    let Lists {
        init,
        main,
        ephemeral,
    } = containers::all(spec, previous, shown);
    let phase = phase(previous, shown, word, &main);
    let conditions = conditions::all(
        &Facts {
            spec,
            init: &init,
            main: &main,
            phase,
            word,
        },
        previous,
        shown,
        around,
        silent_since,
    );
    let (reason, message) = headline(previous, shown, word, phase);
    let was_given = word.is_some_and(|word| !is_rejected(word));
    // On the host's network a pod has the node's, sandbox or not (`generateAPIPodStatus`). One that lost its sandbox keeps those it had: what is
    // absent here is left alone.
    let ips = if was_given { around.pod_ips } else { &[] };
    let held = word
        .filter(|word| word.phase == Phase::Running)
        .and_then(|word| word.resources.as_ref());
    let has_resources = was_given && totals::are_kept(around.kubernetes);
    let listed = |statuses: Vec<ContainerStatus>| (!statuses.is_empty()).then_some(statuses);
    let mut common = common(previous, around);
    let unheard = is_unheard(shown, word, previous);
    if unheard {
        common.start_time = None;
    }
    if unheard || word.is_some_and(is_rejected) || matches!(shown, Shown::Rejected(_)) {
        (common.host_ip, common.host_ips) = (None, None);
    }
    PodStatus {
        allocated_resources: has_resources.then(|| totals::requests(spec)).flatten(),
        conditions: Some(conditions),
        container_statuses: listed(main),
        ephemeral_container_statuses: listed(ephemeral),
        init_container_statuses: listed(init),
        message: clear_or(previous.message.as_ref(), message.as_deref()),
        phase: Some(phase.to_owned()),
        pod_ip: ips.first().map(ToString::to_string),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(pod_ip).collect()),
        reason: clear_or(previous.reason.as_ref(), reason.as_deref()),
        resources: has_resources.then(|| totals::granted(spec, held)).flatten(),
        ..common
    }
}

/// The hub has the pod and its device has said nothing of it yet: as on a node whose kubelet has not looked at it, nothing is claimed.
fn is_unheard(shown: Shown<'_>, word: Option<&WorkloadStatus>, previous: &PodStatus) -> bool {
    let is_waited_for = matches!(shown, Shown::Accepted | Shown::Deployed(_));
    is_waited_for && word.is_none() && previous.host_ip.is_none()
}

/// The device did not take it in: of such a pod there is a phase and its reason, and nothing else (`rejectPod` of pkg/kubelet/kubelet.go).
fn is_rejected(word: &WorkloadStatus) -> bool {
    word.phase == Phase::Failed && word.containers.is_empty()
}

/// What the device said last, if it said anything.
fn word(shown: Shown<'_>) -> Option<&WorkloadStatus> {
    match shown {
        Shown::Deployed(status) | Shown::Stopped(Some(status)) => status.workload.as_deref(),
        Shown::Accepted | Shown::Refused(_) | Shown::Rejected(_) | Shown::Stopped(None) => None,
    }
}

fn phase(
    previous: &PodStatus,
    shown: Shown<'_>,
    word: Option<&WorkloadStatus>,
    main: &[ContainerStatus],
) -> &'static str {
    let before = match previous.phase.as_deref() {
        Some(SUCCEEDED) => return SUCCEEDED,
        Some(FAILED) => return FAILED,
        Some(RUNNING) => RUNNING,
        _ => PENDING,
    };
    let said = word.map_or(before, |word| match word.phase {
        Phase::Running => RUNNING,
        Phase::Succeeded => SUCCEEDED,
        Phase::Failed => FAILED,
        Phase::Pending | Phase::Refused => PENDING,
        Phase::Gone => before,
    });
    match shown {
        Shown::Stopped(_) if said == SUCCEEDED => SUCCEEDED,
        Shown::Stopped(_) if !main.is_empty() && main.iter().all(super::containers::succeeded) => SUCCEEDED,
        Shown::Rejected(_) | Shown::Stopped(_) => FAILED,
        _ => said,
    }
}

/// `reason` and `message` of the status. Those of a phase stay as long as the phase does, as with a kubelet.
fn headline(
    previous: &PodStatus,
    shown: Shown<'_>,
    word: Option<&WorkloadStatus>,
    phase: &str,
) -> (Option<String>, Option<String>) {
    let said = word.and_then(|word| Some((word.reason?.to_string(), sanitise(&word.message))));
    let found = match shown {
        Shown::Refused(Refused { reason, message }) if phase == PENDING => {
            Some((reason.to_owned(), message.to_owned()))
        }
        Shown::Deployed(status) if phase == PENDING && is_nowhere(status) => Some((
            NO_DEVICES_TARGETED.to_owned(),
            "the device is not in the target".to_owned(),
        )),
        Shown::Deployed(_) | Shown::Stopped(_) => said,
        Shown::Rejected(rejected) => Some(rejection(rejected)),
        Shown::Accepted | Shown::Refused(_) => None,
    };
    let is_over = phase == FAILED || phase == SUCCEEDED;
    let kept = || {
        let same = is_over && previous.phase.as_deref() == Some(phase);
        let filled = |text: &Option<String>| text.clone().filter(|text| same && !text.is_empty());
        (filled(&previous.reason), filled(&previous.message))
    };
    match found {
        Some((reason, message)) => (Some(reason), Some(message).filter(|message| !message.is_empty())),
        None => kept(),
    }
}

fn is_nowhere(status: &DeploymentStatus) -> bool {
    status.counts.targeted == 0
}

fn pod_ip(ip: &IpAddr) -> PodIP {
    PodIP { ip: ip.to_string() }
}
