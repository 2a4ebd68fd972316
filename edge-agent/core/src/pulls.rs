//! Images on their way to the device: which pulls may go on at a time, and what is told of them, by the rules of pkg/kubelet/images of
//! Kubernetes 1.37 (`image_manager.go`, `puller.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use edge_protocol::v1::{ContainerSpec, EventLevel, PullPolicy, Reason};
use edge_protocol::{Now, PodUid};

use crate::agent::Agent;
use crate::backoff::{Failure, IMAGES, Rng, STEPS};
use crate::failure::is_on_its_way;
use crate::io::{Effect, Note};
use crate::lifecycle::{decide, pull_policy, wants_image};
use crate::plan::Plan;
use crate::provenance;
use crate::roster::Touch;
use crate::step::{Step, StepId, StepOutcome};
use crate::words;
use crate::workload::{InFlight, Subject, Workload};

const NORMAL: EventLevel = EventLevel::Normal;
const WARNING: EventLevel = EventLevel::Warning;

/// A pull that takes this long is told to be still going on, and then whenever it took twice as long as when that was told last. No
/// kubelet does; what more there is to tell, such as how much is here already, no runtime says.
const PATIENCE_MS: u64 = 60_000;

/// Until the kubelet's next look at a pod (`backOffPeriod` of pkg/kubelet/kubelet.go) a failed pull shows its own reason, and then that it is
/// being backed off. The first look after a pod's sandbox was made comes with the sandbox itself.
const SYNC_MS: u64 = 10_000;
const FIRST_SYNC_MS: u64 = 1_000;

/// The pulls of all workloads.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    /// Those that wait for their turn, the first one first.
    queue: Vec<Waiting>,
    under_way: BTreeMap<StepId, Pull>,
}

#[derive(Debug)]
struct Waiting {
    uid: PodUid,
    image: String,
    since_ms: u64,
}

#[derive(Debug)]
struct Pull {
    uid: PodUid,
    image: String,
    /// When it was first wanted, and when it began.
    since_ms: u64,
    began_ms: u64,
    /// When to tell next that it goes on.
    tell_ms: u64,
}

/// How long a pull took in milliseconds, without and with its wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Took {
    alone_ms: u64,
    waiting_ms: u64,
}

impl Pulls {
    pub(crate) fn begin(&mut self, id: StepId, uid: &PodUid, image: &str, now_ms: u64) {
        let mut since_ms = now_ms;
        self.queue.retain(|waiting| {
            let it = waiting.uid == *uid && waiting.image == image;
            if it {
                since_ms = waiting.since_ms;
            }
            !it
        });
        let pull = Pull {
            uid: uid.clone(),
            image: image.to_owned(),
            since_ms,
            began_ms: now_ms,
            tell_ms: now_ms + PATIENCE_MS,
        };
        self.under_way.insert(id, pull);
    }

    pub(crate) fn ended(&mut self, id: StepId, now_ms: u64) -> Option<Took> {
        let pull = self.under_way.remove(&id)?;
        Some(Took {
            alone_ms: now_ms.saturating_sub(pull.began_ms),
            waiting_ms: now_ms.saturating_sub(pull.since_ms),
        })
    }

    /// Those that wait for the turn of one of theirs.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &PodUid> {
        self.queue.iter().map(|waiting| &waiting.uid)
    }

    /// When to tell next that one goes on.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        self.under_way.values().map(|pull| pull.tell_ms).min()
    }

    /// The monotonic clock began anew, and no process outlived that.
    pub(crate) fn rebase(&mut self) {
        *self = Self::default();
    }
}

/// What becomes of a failed try of an image.
pub(crate) fn failure(
    previous: Option<&Failure>,
    (reason, message): (Reason, &str),
    now_ms: u64,
    rng: &mut Rng,
) -> Failure {
    let since_ms = previous
        .filter(|failure| failure.reason == reason)
        .map_or(now_ms, |failure| failure.since_ms);
    let pulled = reason == Reason::ErrImagePull;
    let previous_ms = previous.map(|failure| failure.delay_ms);
    let delay_ms = match reason {
        // It may be brought here by hand at any time, and is not asked for elsewhere: looked for at each of the kubelet's looks.
        Reason::ErrImageNeverPull | Reason::ImageInspectError => SYNC_MS,
        // Its coming makes it be tried at once.
        Reason::SecretNotSealed => STEPS.after(previous_ms),
        _ => IMAGES.after(previous_ms),
    };
    let fresh_ms = if previous.is_none() {
        FIRST_SYNC_MS
    } else {
        SYNC_MS
    };
    Failure {
        delay_ms,
        since_ms,
        // Never earlier than the kubelet's curve, and as much later as its looks are spread (`workerBackOffPeriodJitterFactor`).
        until_ms: now_ms + delay_ms + rng.below(delay_ms / 2 + 1),
        fresh_until_ms: pulled.then_some(now_ms + fresh_ms),
        reason,
        message: message.to_owned(),
    }
}

impl Agent {
    /// Puts the pulls that are planned in a row and leaves in the plans those whose turn it is.
    pub(crate) fn take_turns(&mut self, now: &Now, plans: &mut [(PodUid, Plan)]) {
        let wanted: BTreeSet<(PodUid, String)> = plans
            .iter()
            .flat_map(|(uid, plan)| plan.steps.iter().map(move |planned| (uid, &planned.step)))
            .filter_map(|(uid, step)| match step {
                Step::PullImage { image, .. } => Some((uid.clone(), image.clone())),
                _ => None,
            })
            .collect();
        // Of a workload that only a look can tell of, nothing is planned; it keeps its place.
        let blind = |uid: &PodUid| self.roster.get(uid).is_some_and(Workload::is_blind);
        let mut queue = std::mem::take(&mut self.pulls.queue);
        queue.retain(|it| wanted.contains(&(it.uid.clone(), it.image.clone())) || blind(&it.uid));
        for (uid, image) in &wanted {
            if !queue.iter().any(|it| it.uid == *uid && it.image == *image) {
                let message = format!("Pulling image \"{image}\"");
                self.image_event(now, uid, (NORMAL, Reason::Pulling), image, &message);
                queue.push(Waiting {
                    uid: uid.clone(),
                    image: image.clone(),
                    since_ms: now.mono_ms,
                });
            }
        }
        let limit = self.config.parallel_pulls.map_or(usize::MAX, at_most);
        let room = limit.saturating_sub(self.pulls.under_way.len());
        let turn: BTreeSet<(PodUid, String)> = queue
            .iter()
            .filter(|it| wanted.contains(&(it.uid.clone(), it.image.clone())))
            .take(room)
            .map(|it| (it.uid.clone(), it.image.clone()))
            .collect();
        self.pulls.queue = queue;
        for (uid, plan) in plans {
            plan.steps.retain(|planned| match &planned.step {
                Step::PullImage { image, .. } => turn.contains(&(uid.clone(), image.clone())),
                _ => true,
            });
        }
    }

    /// Tells of pulls that take long, and of those that failed a while ago and are now being backed off.
    pub(crate) fn mind_pulls(&mut self, now: &Now) {
        let mut long = Vec::new();
        for pull in self.pulls.under_way.values_mut() {
            if pull.tell_ms <= now.mono_ms {
                let elapsed_ms = now.mono_ms - pull.began_ms;
                pull.tell_ms = now.mono_ms + elapsed_ms;
                long.push((pull.uid.clone(), pull.image.clone(), elapsed_ms / 1_000 * 1_000));
            }
        }
        for (uid, image, elapsed_ms) in long {
            let elapsed = words::duration(elapsed_ms);
            let message = format!("Still pulling image \"{image}\" after {elapsed}");
            self.image_event(now, &uid, (NORMAL, Reason::Pulling), &image, &message);
        }
        let mut waits = Vec::new();
        self.roster.attend(|uid, workload, _| {
            for (subject, failure) in &mut workload.failures {
                if let Subject::Image(image) = subject
                    && failure.fresh_until_ms.is_some_and(|until| until <= now.mono_ms)
                {
                    failure.fresh_until_ms = None;
                    waits.push((uid.clone(), image.clone()));
                }
            }
        });
        for (uid, image) in waits {
            let text = format!("Back-off pulling image \"{image}\"");
            self.image_event(now, &uid, (NORMAL, Reason::BackOff), &image, &text);
            let what = (WARNING, Reason::Failed);
            self.image_event(now, &uid, what, &image, "Error: ImagePullBackOff");
        }
    }

    /// Whether what was found is not for this workload: nothing, or what others' credentials brought.
    pub(crate) fn is_out_of_reach(&self, uid: &PodUid, step: &Step, outcome: &StepOutcome) -> bool {
        let (Step::FindImage { image }, StepOutcome::Image { image_id, .. }) = (step, outcome) else {
            return *outcome == StepOutcome::NoImage;
        };
        let Some(workload) = self.roster.get(uid) else {
            return false;
        };
        // What ran from it goes on, whatever became of its secrets.
        let ran =
            |spec: &ContainerSpec| spec.image == *image && workload.record.attempts.contains_key(&spec.name);
        let manifest = workload.manifest.as_deref();
        !workload.every_container().any(ran)
            && manifest.is_some_and(|manifest| !self.provenance.may_use(image, image_id, manifest))
    }

    /// A pull came to its end, with the help of this pull secret or without any.
    pub(crate) fn image_pulled(
        &mut self,
        uid: &PodUid,
        image: &str,
        (image_id, secret): (String, Option<String>),
    ) {
        let manifest = self
            .roster
            .get(uid)
            .and_then(|workload| workload.manifest.as_deref());
        let namespace = manifest.map_or("", |manifest| &manifest.namespace);
        let secret = secret.map(|name| format!("{namespace}/{name}"));
        self.writes
            .extend(self.provenance.pulled(image, image_id, secret));
    }

    /// A pull failed: that may be for want of secrets that the cluster does not have (`SyncPod` of pkg/kubelet/kubelet.go).
    fn tell_secrets(&mut self, now: &Now, uid: &PodUid) {
        let Some(manifest) = self
            .roster
            .get(uid)
            .and_then(|workload| workload.manifest.clone())
        else {
            return;
        };
        let held: BTreeSet<&str> = provenance::credentials(&manifest).collect();
        let names = manifest.workload.pull_secrets.iter().map(String::as_str);
        let missing: Vec<&str> = names.filter(|name| !held.contains(name)).collect();
        if !missing.is_empty() {
            let what = (WARNING, Reason::FailedToRetrieveImagePullSecret);
            self.event(now, uid, what, None, &words::missing_pull_secrets(&missing));
        }
    }

    /// The image is not on the device, or not for this workload.
    pub(crate) fn image_absent(&mut self, now: &Now, uid: &PodUid, flight: InFlight) {
        let (Some((workload, pod)), Subject::Image(image)) =
            (self.roster.get_mut_with_pod(uid), &flight.subject)
        else {
            return;
        };
        match pull_policy(pod, workload, image) {
            PullPolicy::Never => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                self.step_failed(now, uid, flight, Reason::ErrImageNeverPull, &message);
            }
            PullPolicy::IfNotPresent | PullPolicy::Always => {
                workload.missing.insert(image.clone());
            }
        }
    }

    /// The image is on the device: it was found there, or pulled in that time.
    pub(crate) fn image_present(
        &mut self,
        now: &Now,
        uid: &PodUid,
        (image, size_bytes): (&str, u64),
        took: Option<Took>,
    ) {
        let Some(workload) = self.roster.get_mut(uid) else {
            return;
        };
        workload.missing.remove(image);
        // An image of a spec that was replaced meanwhile is of no use.
        if workload.every_container().any(|spec| spec.image == image) {
            workload.images.insert(image.to_owned());
            let news = workload.told_images.insert(image.to_owned());
            let message = match took {
                Some(took) => Some(words::pulled(image, (took.alone_ms, took.waiting_ms), size_bytes)),
                // One that is looked for again because a start failed is no news.
                None => news.then(|| words::already_present(image)),
            };
            if let Some(message) = message {
                self.image_event(now, uid, (NORMAL, Reason::Pulled), image, &message);
            }
        }
        if took.is_some() {
            self.image_came(image);
        }
    }

    /// Others that wait for the image look for it here first.
    fn image_came(&mut self, image: &str) {
        let subject = Subject::Image(image.to_owned());
        self.roster.each(|_, workload, _| {
            let waits = |failure: &Failure| failure.reason == Reason::ErrImagePull;
            let failed = workload.failures.get(&subject).is_some_and(waits);
            if failed {
                workload.failures.remove(&subject);
            }
            Touch::of(workload.missing.remove(image) || failed)
        });
    }

    pub(crate) fn image_failed(
        &mut self,
        now: &Now,
        uid: &PodUid,
        (image, step): (&str, &Step),
        reason: Reason,
        message: &str,
    ) {
        let Some(workload) = self.roster.get_mut(uid) else {
            return;
        };
        workload.missing.remove(image);
        if let Step::PullImage { .. } = step {
            self.writes.extend(self.provenance.failed(image));
        }
        if !workload.every_container().any(|spec| spec.image == image) {
            return;
        }
        workload.told_images.remove(image);
        let subject = Subject::Image(image.to_owned());
        let previous = workload.failures.get(&subject);
        // What nobody tried to change since is told once.
        let again = matches!(reason, Reason::ErrImagePull | Reason::SecretNotSealed);
        let news = again || previous.is_none_or(|it| it.reason != reason);
        let failure = failure(previous, (reason, message), now.mono_ms, &mut self.rng);
        let news = news && !is_on_its_way(reason, failure.since_ms, now);
        let in_ms = failure.until_ms - now.mono_ms;
        workload.failures.insert(subject, failure);
        if news {
            let event = match reason {
                Reason::ErrImageNeverPull => (reason, message.to_owned()),
                Reason::InvalidImageName | Reason::ImageInspectError => {
                    (Reason::InspectFailed, message.to_owned())
                }
                _ => {
                    let message = format!("Failed to pull image \"{image}\": {message}");
                    (Reason::Failed, message)
                }
            };
            self.image_event(now, uid, (WARNING, event.0), image, &event.1);
            let error = format!("Error: {reason}");
            self.image_event(now, uid, (WARNING, Reason::Failed), image, &error);
        }
        if reason == Reason::ErrImagePull {
            self.tell_secrets(now, uid);
        }
        let what = match step {
            Step::PullImage { .. } => "pull",
            _ => "find image",
        };
        let uid = uid.clone();
        self.effects
            .push(Effect::Report(Note::Retried { uid, what, in_ms }));
    }

    /// An event of each container that waits for the image, as under a kubelet: readers take events of one reason that name no
    /// container for one that repeats itself.
    fn image_event(
        &mut self,
        now: &Now,
        uid: &PodUid,
        what: (EventLevel, Reason),
        image: &str,
        message: &str,
    ) {
        let Some(workload) = self.roster.get(uid) else {
            return;
        };
        let given = self.world(now).given(uid, workload);
        let waits = |spec: &&ContainerSpec| spec.image == image && wants_image(decide(&given, spec));
        let waiting = workload.every_container().filter(waits);
        let names: Vec<String> = waiting.map(|spec| spec.name.clone()).collect();
        for name in names {
            self.event(now, uid, what, Some(&name), message);
        }
    }
}

fn at_most(limit: NonZeroU32) -> usize {
    usize::try_from(limit.get()).unwrap_or(usize::MAX)
}
