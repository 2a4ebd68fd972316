//! Steps that failed: what is told of them, and when they are tried again.

use edge_protocol::v1::{ContainerSpec, EventLevel, Reason};
use edge_protocol::{Now, PodUid};

use crate::agent::Agent;
use crate::backoff::{Failure, IMAGES, STEPS, VOLUMES};
use crate::io::{Effect, Note};
use crate::lifecycle::{decide, wants_image};
use crate::step::Step;
use crate::words::CREATED;
use crate::workload::{InFlight, Sight, Subject};

const NORMAL: EventLevel = EventLevel::Normal;
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
            _ => {}
        }
        let Some(workload) = self.workloads.get_mut(uid) else {
            return;
        };
        if let Subject::Image(image) = &flight.subject
            && !workload.all_containers().any(|spec| spec.image == *image)
        {
            return;
        }
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
            Subject::Image(_) => IMAGES,
            Subject::Volumes => VOLUMES,
            _ => STEPS,
        };
        let before = workload.failures.get(&flight.subject);
        let delay_ms = schedule.after(before.map(|failure| failure.delay_ms));
        let since_ms = before
            .filter(|failure| failure.reason == reason)
            .map_or(now.mono_ms, |failure| failure.since_ms);
        let is_on_its_way =
            reason == Reason::SecretNotSealed && now.mono_ms.saturating_sub(since_ms) < KEY_PATIENCE_MS;
        let in_ms = self.rng.jitter(delay_ms);
        let failure = Failure {
            delay_ms,
            since_ms,
            until_ms: now.mono_ms + in_ms,
            reason,
            message: message.to_owned(),
        };
        workload.failures.insert(flight.subject, failure);
        let (what, event, container, text) = describe(&flight.step, reason, message);
        if let Step::EnsureImage { image, .. } = &flight.step {
            workload.told_images.remove(image);
            self.image_event(now, uid, (WARNING, event), image, &text);
            // As the kubelet: an image that is not even asked for, for its name or its policy, is not waited for either.
            if reason == Reason::ErrImagePull {
                let text = format!("Back-off pulling image \"{image}\"");
                self.image_event(now, uid, (NORMAL, Reason::BackOff), image, &text);
            }
        } else if !is_on_its_way {
            if reason == Reason::RunContainerError {
                self.event(now, uid, (NORMAL, Reason::Created), container.as_deref(), CREATED);
            }
            self.event(now, uid, (WARNING, event), container.as_deref(), &text);
        }
        self.effects.push(Effect::Report(Note::Retried {
            uid: uid.clone(),
            what,
            in_ms,
        }));
    }

    /// An event of each container that waits for the image, as under a kubelet: readers take events of one reason that name no
    /// container for one that repeats itself.
    pub(crate) fn image_event(
        &mut self,
        now: &Now,
        uid: &PodUid,
        what: (EventLevel, Reason),
        image: &str,
        message: &str,
    ) {
        let Some(workload) = self.workloads.get(uid) else {
            return;
        };
        let given = self.world(now).given(uid, workload);
        let waits = |spec: &&ContainerSpec| spec.image == image && wants_image(decide(&given, spec));
        let waiting = workload.all_containers().filter(waits);
        let names: Vec<String> = waiting.map(|spec| spec.name.clone()).collect();
        for name in names {
            self.event(now, uid, what, Some(&name), message);
        }
    }
}

fn describe(step: &Step, reason: Reason, message: &str) -> (&'static str, Reason, Option<String>, String) {
    match step {
        Step::EnsureImage { image, .. } => (
            "pull",
            Reason::Failed,
            None,
            format!("Failed to pull image \"{image}\": {reason}: {message}"),
        ),
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
        Step::Resize { .. } => ("resize", Reason::Failed, None, message.to_owned()),
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
