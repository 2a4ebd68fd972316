//! Steps that failed: what is told of them, and when they are tried again.

use edge_protocol::v1::{EventLevel, Reason};
use edge_protocol::{Now, PodUid};

use crate::agent::Agent;
use crate::backoff::{Failure, STEPS, VOLUMES};
use crate::io::{Effect, Note};
use crate::step::Step;
use crate::words::CREATED;
use crate::workload::{InFlight, Sight, Subject};

const WARNING: EventLevel = EventLevel::Warning;
/// How long the key of a secret may be on its way until that is a failure to tell of: it is asked for when its object has come, and a
/// sealer answers within a second or two.
const KEY_PATIENCE_MS: u64 = 10_000;

impl Agent {
    pub(crate) fn step_failed(
        &mut self,
        now: &Now,
        uid: &PodUid,
        flight: InFlight,
        reason: Reason,
        message: &str,
    ) {
        match &flight.step {
            Step::Probe { kind, target, .. } => {
                return self.probe_failed(now, uid, (target, *kind), (reason, message));
            }
            Step::PostStart(target) => return self.hook_failed(now, uid, target, message),
            Step::FindImage { image } | Step::PullImage { image, .. } => {
                return self.image_failed(now, uid, (image, &flight.step), reason, message);
            }
            _ => {}
        }
        let Some(workload) = self.roster.get_mut(uid) else {
            return;
        };
        // What it left in the runtime, only a look can tell.
        if flight.step.touches_containers() {
            workload.blur(Sight::Blind);
        }
        if let Step::StartContainer(start) = &flight.step
            && reason != Reason::CreateContainerConfigError
        {
            // The image may have gone; asking again costs little.
            workload.images.remove(&start.container.image);
        }
        let schedule = match flight.subject {
            Subject::Volumes => VOLUMES,
            _ => STEPS,
        };
        let before = workload.failures.get(&flight.subject);
        let delay_ms = schedule.after(before.map(|failure| failure.delay_ms));
        let since_ms = before
            .filter(|failure| failure.reason == reason)
            .map_or(now.mono_ms, |failure| failure.since_ms);
        let in_ms = self.rng.jitter(delay_ms);
        let failure = Failure {
            delay_ms,
            since_ms,
            until_ms: now.mono_ms + in_ms,
            fresh_until_ms: None,
            reason,
            message: message.to_owned(),
        };
        workload.failures.insert(flight.subject, failure);
        let (what, event, container, text) = match describe(&flight.step, message) {
            // No mount and no network failed.
            (what, _, container, _) if reason == Reason::DevicePolicy => {
                (what, reason, container, message.to_owned())
            }
            described => described,
        };
        if matches!(flight.step, Step::Resize { .. }) {
            self.resize_failed(now, uid, message);
        } else if !is_on_its_way(reason, since_ms, now) {
            if reason == Reason::RunContainerError {
                let created = (EventLevel::Normal, Reason::Created);
                self.event(now, uid, created, container.as_deref(), CREATED);
            }
            self.event(now, uid, (WARNING, event), container.as_deref(), &text);
        }
        self.effects.push(Effect::Report(Note::Retried {
            uid: uid.clone(),
            what,
            in_ms,
        }));
    }
}

/// A key that is on its way is nothing to tell of.
pub(crate) fn is_on_its_way(reason: Reason, since_ms: u64, now: &Now) -> bool {
    reason == Reason::SecretNotSealed && now.mono_ms.saturating_sub(since_ms) < KEY_PATIENCE_MS
}

fn describe(step: &Step, message: &str) -> (&'static str, Reason, Option<String>, String) {
    match step {
        Step::FindImage { .. } | Step::PullImage { .. } => {
            ("image", Reason::Failed, None, message.to_owned())
        }
        Step::RunSandbox(_) => (
            "sandbox",
            Reason::FailedCreatePodSandBox,
            None,
            format!("Failed to create pod sandbox: {message}"),
        ),
        Step::SyncVolumes { .. } => ("volumes", Reason::FailedMount, None, message.to_owned()),
        Step::PostStart(_) => (
            "post-start hook",
            Reason::FailedPostStartHook,
            None,
            message.to_owned(),
        ),
        Step::Probe { .. } => ("probe", Reason::Unhealthy, None, message.to_owned()),
        Step::Resize { .. } => ("resize", Reason::ResizeError, None, message.to_owned()),
        Step::StartContainer(start) => (
            "start",
            Reason::Failed,
            Some(start.container.name.clone()),
            format!("Error: {message}"),
        ),
        Step::StopContainer { .. } => (
            "stop",
            Reason::FailedKillPod,
            None,
            format!("error killing pod: {message}"),
        ),
        Step::StopSandbox { .. } => (
            "stop_sandbox",
            Reason::FailedKillPod,
            None,
            format!("error killing pod: {message}"),
        ),
        Step::RemoveContainer { .. } | Step::RemoveSandbox { .. } | Step::RemoveWorkload { .. } => (
            "remove",
            Reason::FailedKillPod,
            None,
            format!("error removing pod: {message}"),
        ),
    }
}
