//! The pod conditions that a bridge owns.

use edge_protocol::text::sanitise;
use edge_protocol::v1::{DeploymentState, DeploymentStatus, LadderCounts};
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::containers::have_started;
use super::{NO_DEVICES_TARGETED, Refused, SUCCEEDED, Shown, Surroundings, is_terminal, time};

/// Whether any device is to run the pod.
pub const TARGETED: &str = "outrigger.io/Targeted";
/// Whether every counted device has created every container.
pub const APPLIED: &str = "outrigger.io/Applied";
/// Whether every counted device is healthy; `Ready` follows the pod's ready policy instead, which may ask for fewer.
pub const HEALTHY: &str = "outrigger.io/Healthy";
/// Which device answers `kubectl logs`, `exec` and the like for all of them.
pub const ANSWERS: &str = "outrigger.io/Answers";
/// Whether the devices run what the pod says; shown only from the first edit on that they cannot honour.
pub const SPEC_HONOURED: &str = "outrigger.io/SpecHonoured";

pub(super) const READY: &str = "Ready";
pub(super) const CONTAINERS_READY: &str = "ContainersReady";
pub(super) const INITIALIZED: &str = "Initialized";

/// Of each failing device's words, as many bytes are repeated; ten of them stay readable.
const DEVICE_WORDS: usize = 160;

pub(super) struct Conditions<'a> {
    /// The device that the pod names to answer for all.
    pub(super) named: Option<&'a str>,
    /// How many initial containers the pod has.
    pub(super) initial: usize,
    pub(super) previous: &'a PodStatus,
    pub(super) around: &'a Surroundings<'a>,
}

/// A condition before its times.
pub(super) struct Draft {
    pub(super) name: &'static str,
    pub(super) status: Option<bool>,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Conditions<'_> {
    /// All of ours, in a fixed order.
    pub(super) fn all(
        &self,
        shown: Shown<'_>,
        phase: &str,
        containers: &[ContainerStatus],
    ) -> Vec<PodCondition> {
        let mut drafts = match shown {
            Shown::Accepted => self.accepted(),
            Shown::Refused(Refused { reason, message }) => refused(reason, message),
            Shown::Rejected(_) => Vec::new(),
            Shown::Deployed(status) => self.deployed(status, containers),
            Shown::Stopped(last) => last.map(|status| self.ladder(status)).unwrap_or_default(),
        };
        if is_terminal(phase) {
            let reason = if phase == SUCCEEDED {
                "PodCompleted"
            } else {
                "PodFailed"
            };
            drafts.retain(|draft| draft.name != READY);
            drafts.push(draft(READY, false, reason, ""));
            drafts.push(draft(CONTAINERS_READY, false, reason, ""));
        } else if matches!(shown, Shown::Deployed(_)) {
            drafts.push(containers_ready(containers));
        }
        drafts.extend(self.spec_honoured());
        drafts.into_iter().map(|draft| self.settle(draft)).collect()
    }

    pub(super) fn spec_honoured(&self) -> Option<Draft> {
        match self.around.refused_edit {
            Some(Refused { reason, message }) => {
                let message = format!("the devices keep what the pod was before: {message}");
                Some(draft(SPEC_HONOURED, false, reason, &message))
            }
            None => self
                .find(SPEC_HONOURED)
                .map(|_| draft(SPEC_HONOURED, true, "", "")),
        }
    }

    /// Nothing is known beyond that the pod was seen: what it shows stays, a new pod shows what it waits for.
    fn accepted(&self) -> Vec<Draft> {
        let waits = "the hub has not been asked yet";
        let mut targeted = draft(TARGETED, false, "AwaitingHub", waits);
        targeted.status = None;
        let mut drafts = vec![
            targeted,
            self.initialized(&[]),
            draft(READY, false, "AwaitingHub", waits),
        ];
        drafts.retain(|draft| self.find(draft.name).is_none());
        drafts
    }

    /// Once any container has run, the initial ones had been through on some device.
    fn initialized(&self, containers: &[ContainerStatus]) -> Draft {
        let was = self.find(INITIALIZED).is_some_and(|was| was.status == "True");
        if self.initial == 0 || was || have_started(containers) {
            return draft(INITIALIZED, true, "", "");
        }
        let waits = "no device is through with the init containers";
        draft(INITIALIZED, false, "ContainersNotInitialized", waits)
    }

    fn deployed(&self, status: &DeploymentStatus, containers: &[ContainerStatus]) -> Vec<Draft> {
        let mut drafts = self.ladder(status);
        let ready = if status.ready {
            draft(READY, true, "", &self.stale(status).unwrap_or_default())
        } else {
            let reason = nothing_counted(&status.counts).unwrap_or("DevicesNotReady");
            draft(
                READY,
                false,
                reason,
                &self.message(status, "healthy", status.counts.healthy),
            )
        };
        drafts.extend([self.initialized(containers), ready, self.answers(status)]);
        drafts
    }

    /// The name of the device is the message, so that it can be read by a program.
    fn answers(&self, status: &DeploymentStatus) -> Draft {
        if let Some(named) = self.named {
            return draft(ANSWERS, true, "DeviceNamed", &sanitise(named));
        }
        match &status.answers {
            None => draft(ANSWERS, false, "NoDevice", "no device runs the pod"),
            Some(device) if status.counts.targeted == 1 => {
                draft(ANSWERS, true, "OnlyDevice", device.as_str())
            }
            Some(device) => draft(ANSWERS, true, "HealthiestDevice", device.as_str()),
        }
    }

    fn ladder(&self, status: &DeploymentStatus) -> Vec<Draft> {
        let counts = &status.counts;
        let rung = |name, reached: u32, words, done, under_way| {
            let all = counts.counted > 0 && reached >= counts.counted;
            let reason = nothing_counted(counts).unwrap_or(if all { done } else { under_way });
            draft(name, all, reason, &self.message(status, words, reached))
        };
        let targeted = counts.targeted > 0;
        let reason = if targeted {
            "DevicesTargeted"
        } else {
            NO_DEVICES_TARGETED
        };
        let mut healthy = rung(
            HEALTHY,
            counts.healthy,
            "healthy",
            "AllDevicesHealthy",
            "DevicesNotHealthy",
        );
        for failing in &status.failing {
            let words = cut(&sanitise(&failing.message));
            let colon = if words.is_empty() { "" } else { ": " };
            healthy.message.extend([
                "; ",
                failing.device.as_str(),
                ": ",
                failing.reason.as_str(),
                colon,
                &words,
            ]);
        }
        vec![
            draft(TARGETED, targeted, reason, &targets(status)),
            rung(
                APPLIED,
                counts.applied,
                "applied",
                "AllDevicesApplied",
                "DevicesApplying",
            ),
            healthy,
        ]
    }

    /// Both numbers of law 3, and the age of a word that is not fresh.
    fn message(&self, status: &DeploymentStatus, words: &str, reached: u32) -> String {
        let LadderCounts {
            targeted, counted, ..
        } = status.counts;
        let age = self
            .stale(status)
            .map(|age| format!("; {age}"))
            .unwrap_or_default();
        format!("{words} {reached}, counted {counted}, targeted {targeted}{age}")
    }

    fn stale(&self, status: &DeploymentStatus) -> Option<String> {
        let age = time::age(self.around.now, status.as_of_ms?)?;
        Some(format!(
            "the oldest word of a counted device is more than {age} old"
        ))
    }

    pub(super) fn find(&self, name: &str) -> Option<&PodCondition> {
        self.previous
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == name)
    }

    /// A condition that changes does so now.
    pub(super) fn settle(&self, draft: Draft) -> PodCondition {
        self.settle_at(draft, None)
    }

    /// One that changes did so when the device says; not in the future, and not before it changed last: then it is news of now.
    pub(super) fn settle_at(&self, draft: Draft, said_at: Option<Timestamp>) -> PodCondition {
        let status = match draft.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let previous = self.find(draft.name);
        let changed = previous.and_then(|previous| previous.last_transition_time.as_ref());
        let since = changed
            .filter(|_| previous.is_some_and(|previous| previous.status == status))
            .cloned();
        let now = time::whole_seconds(self.around.now);
        let is_possible = |at: &Timestamp| *at <= now && changed.is_none_or(|changed| changed.0 <= *at);
        let at = said_at.filter(is_possible).unwrap_or(now);
        let some = |text: String| (!text.is_empty()).then_some(text);
        PodCondition {
            type_: draft.name.to_owned(),
            status: status.to_owned(),
            reason: some(draft.reason),
            message: some(draft.message),
            last_transition_time: since.or(Some(Time(at))),
            last_probe_time: None,
            observed_generation: self
                .around
                .observed_generation
                .or(previous.and_then(|p| p.observed_generation)),
        }
    }
}

pub(super) fn draft(name: &'static str, status: bool, reason: &str, message: &str) -> Draft {
    Draft {
        name,
        status: Some(status),
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn refused(reason: &str, message: &str) -> Vec<Draft> {
    vec![
        draft(TARGETED, false, reason, message),
        draft(READY, false, reason, message),
    ]
}

/// Why the denominator of readiness is zero, if it is.
fn nothing_counted(counts: &LadderCounts) -> Option<&'static str> {
    match counts {
        LadderCounts { counted: 1.., .. } => None,
        LadderCounts { targeted: 0, .. } => Some(NO_DEVICES_TARGETED),
        LadderCounts { joining: 1.., .. } => Some("DevicesJoining"),
        _ => Some("AllDevicesOffline"),
    }
}

fn targets(status: &DeploymentStatus) -> String {
    let LadderCounts {
        targeted,
        offline,
        joining,
        counted,
        ..
    } = status.counts;
    let mut parts = vec![format!("targeted {targeted}, counted {counted}")];
    if offline > 0 {
        parts.push(format!("{offline} offline past their deadline"));
    }
    if joining > 0 {
        parts.push(format!("{joining} joining"));
    }
    if let DeploymentState::Deleting { .. } = status.state {
        let (online, offline) = (status.stopping_online, status.stopping_offline.len());
        parts.push(format!(
            "stopping on {online} connected and {offline} offline devices"
        ));
    }
    parts.join("; ")
}

/// In the words of `GenerateContainersReadyCondition` of `pkg/kubelet/status/generate.go`.
fn containers_ready(containers: &[ContainerStatus]) -> Draft {
    let unready: Vec<&str> = containers
        .iter()
        .filter(|status| !status.ready)
        .map(|status| status.name.as_str())
        .collect();
    if unready.is_empty() && !containers.is_empty() {
        return draft(CONTAINERS_READY, true, "", "");
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    draft(CONTAINERS_READY, false, "ContainersNotReady", &message)
}

fn cut(words: &str) -> String {
    if words.len() <= DEVICE_WORDS {
        return words.to_owned();
    }
    let end = (0..=DEVICE_WORDS)
        .rev()
        .find(|end| words.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}…", &words[..end])
}
