//! What the devices said → what the pod shows. The roll-up itself is the hub's; this keeps the API's own rules on top of it.
//!
//! Those rules, with `pkg/kubelet/kubelet_pods.go` and `pkg/apis/core/validation/validation.go` of Kubernetes 1.37 as source:
//! a terminal phase is final, `restartCount` never falls, a container that ended and may not be restarted stays as it
//! ended (`ValidateContainerStateTransition`), and a condition's transition time moves only with its status.

mod conditions;
mod containers;
mod device;
mod time;

use std::net::IpAddr;

use edge_protocol::v1::{DeploymentStatus, Phase};
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::annotations;
use conditions::Conditions;
pub use conditions::{ANSWERS, APPLIED, HEALTHY, SPEC_HONOURED, TARGETED};

/// The reason of a pod whose target condition matches no device.
pub const NO_DEVICES_TARGETED: &str = "NoDevicesTargeted";

/// What there is to show of a pod.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    /// Not at the hub yet, or not known to be. What the pod shows already stays.
    Accepted,
    /// Nothing of it reaches a device; the message names everything that stands against it.
    Refused(Refused<'a>),
    /// It may not be on its Node, and fails by it: nothing of it ever reached a device. The message is the event's.
    Rejected(Refused<'a>),
    /// The hub's roll-up.
    Deployed(&'a DeploymentStatus),
    /// All devices that hold the pod object have stopped it, with the last roll-up if there was one: every container is
    /// shown terminated and the phase is terminal.
    Stopped(Option<&'a DeploymentStatus>),
}

/// Whose word a status is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Speaker {
    /// Many devices, rolled up by the hub.
    #[default]
    Fleet,
    /// One device, whose whole word the pod shows as a kubelet would.
    Device {
        /// When the device was last heard, once it is past the deadline of its link: its pods are not Ready then.
        silent_since: Option<Timestamp>,
    },
}

/// What besides the pod and the roll-up goes into a status.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    pub speaker: Speaker,
    /// By the bridge's clock; used for transition times and for the age of a stale word.
    pub now: Timestamp,
    /// The node's addresses, shown as the pod's `hostIPs`, the foremost first, one of a family.
    pub host_ips: &'a [IpAddr],
    /// On a device node those of the pod's own that others of the cluster can reach, in the same order: on the device's network the device's.
    pub pod_ips: &'a [IpAddr],
    /// The pod's `metadata.generation` that the shown status speaks of; absent leaves what the pod shows.
    pub observed_generation: Option<i64>,
    /// The API server's major and minor version, once it is known: fields that an older one would drop are not shown.
    pub kubernetes: Option<(u32, u32)>,
    /// Why the pod as it is written now is not what the devices run: they keep what it was before.
    pub refused_edit: Option<Refused<'a>>,
}

/// A refusal in the words of a condition.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// Such as `UnsupportedField`, `TargetNotAllowed`, `NoTarget`, `TaintNotAcknowledged`.
    pub reason: &'a str,
    pub message: &'a str,
}

/// The status of `pod`, whose own `status` is taken as the previous one.
///
/// Only what a bridge owns is set; the rest is absent and must be left alone: `qosClass`, which the API server has set, `podIP` where nobody
/// can reach it, and the conditions of others (`DisruptionTarget`, on a fleet node `PodScheduled`). A condition with an empty status is one to take away. Patch it by strategic merge, which keeps those; whether that would change
/// anything is for whoever patches to say. `reason` and `message` are empty texts where an older value must be cleared.
///
/// On a device node the device's whole word is shown as a kubelet shows its own, without the conditions that count devices.
///
/// Pure and idempotent: shown again on top of itself at the same instant, nothing differs. Times are whole seconds, as the
/// API server stores them.
pub fn pod_status(pod: &Pod, shown: Shown<'_>, around: Surroundings<'_>) -> PodStatus {
    let unset = PodStatus::default();
    let previous = pod.status.as_ref().unwrap_or(&unset);
    if let Speaker::Device { silent_since } = around.speaker {
        return device::status(pod, previous, shown, &around, silent_since);
    }
    let containers = containers::all(pod, previous, shown);
    let phase = phase(previous, shown, &containers);
    let initial = containers::initial(pod, previous, shown);
    let asked = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten());
    let annotations = pod.metadata.annotations.as_ref();
    let named = annotations.and_then(|annotations| annotations.get(annotations::DEVICE));
    let conditions = Conditions {
        named: named.map(String::as_str),
        initial: asked.count(),
        previous,
        around: &around,
    };
    let (reason, message) = headline(shown, phase).unzip();
    PodStatus {
        conditions: Some(conditions.all(shown, phase, &containers)),
        container_statuses: (!containers.is_empty()).then_some(containers),
        init_container_statuses: (!initial.is_empty()).then_some(initial),
        message: clear_or(previous.message.as_ref(), message.as_deref()),
        phase: Some(phase.to_owned()),
        reason: clear_or(previous.reason.as_ref(), reason.as_deref()),
        ..common(previous, &around)
    }
}

/// What both kinds of node show alike.
fn common(previous: &PodStatus, around: &Surroundings<'_>) -> PodStatus {
    let start_time = previous.start_time.clone();
    PodStatus {
        host_ip: around.host_ips.first().map(ToString::to_string),
        host_ips: (!around.host_ips.is_empty()).then(|| around.host_ips.iter().map(host_ip).collect()),
        observed_generation: around.observed_generation,
        start_time: start_time.or_else(|| Some(Time(time::whole_seconds(around.now)))),
        ..PodStatus::default()
    }
}

fn host_ip(ip: &IpAddr) -> HostIP {
    HostIP { ip: ip.to_string() }
}

/// An older value is cleared by an empty text.
fn clear_or(old: Option<&String>, new: Option<&str>) -> Option<String> {
    new.or(old.map(|_| "")).map(str::to_owned)
}

const PENDING: &str = "Pending";
const RUNNING: &str = "Running";
const SUCCEEDED: &str = "Succeeded";
const FAILED: &str = "Failed";

fn is_terminal(phase: &str) -> bool {
    phase == SUCCEEDED || phase == FAILED
}

fn phase(previous: &PodStatus, shown: Shown<'_>, containers: &[ContainerStatus]) -> &'static str {
    let before = match previous.phase.as_deref() {
        Some(SUCCEEDED) => return SUCCEEDED,
        Some(FAILED) => return FAILED,
        Some(RUNNING) => RUNNING,
        _ => PENDING,
    };
    match shown {
        Shown::Accepted | Shown::Refused(_) => before,
        Shown::Deployed(status) => match status.phase {
            Phase::Running => RUNNING,
            Phase::Succeeded => SUCCEEDED,
            Phase::Failed => FAILED,
            // The hub's roll-up never says the last two; read as the least that can be claimed.
            Phase::Pending | Phase::Refused | Phase::Gone => PENDING,
        },
        // As `getPhase` for a pod that will not be restarted.
        Shown::Stopped(_) if !containers.is_empty() && containers.iter().all(containers::succeeded) => {
            SUCCEEDED
        }
        Shown::Rejected(_) | Shown::Stopped(_) => FAILED,
    }
}

/// What `kubectl get` prints instead of the phase: why nothing runs anywhere.
fn headline(shown: Shown<'_>, phase: &str) -> Option<(String, String)> {
    let said = match shown {
        Shown::Rejected(rejected) => return Some(rejection(rejected)),
        _ if phase != PENDING => None,
        Shown::Refused(Refused { reason, message }) => Some((reason, message)),
        Shown::Deployed(status) if status.counts.targeted == 0 => {
            Some((NO_DEVICES_TARGETED, "no device matches the target condition"))
        }
        Shown::Deployed(_) | Shown::Accepted | Shown::Stopped(_) => None,
    };
    said.map(|(reason, message)| (reason.to_owned(), message.to_owned()))
}

/// `reason` and `message` of a pod that failed at the door (`rejectPod` of pkg/kubelet/kubelet.go).
fn rejection(rejected: Refused<'_>) -> (String, String) {
    (
        rejected.reason.to_owned(),
        format!("Pod was rejected: {}", rejected.message),
    )
}

#[cfg(test)]
mod tests;
