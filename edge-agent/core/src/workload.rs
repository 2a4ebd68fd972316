//! One workload in memory: what is desired of it, its record, what is in flight, and what was seen of it in the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use edge_protocol::v1::{ContainerSpec, Manifest, Reason};
use edge_protocol::{Digest, ItemState, Now, SetItem};

use crate::backoff::{CrashBackoff, Failure};
use crate::health::Health;
use crate::record::Record;
use crate::step::{ObservedContainer, ObservedSandbox, ObservedState, ProbeKind, Step, StepId};
use crate::sums::Bounds;

/// What a step is about. Of one subject at most one step is in flight, but for stops.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// By reference.
    Image(String),
    /// By name: its next instance.
    Start(String),
    /// By runtime id.
    Container(String),
    /// By runtime id, or empty for the one to come.
    Sandbox(String),
    Volumes,
    /// The resources of all that runs of it.
    Resize,
    /// The `postStart` hook of the container with this runtime id.
    Hook(String),
    /// Of the container with this runtime id.
    Probe(String, ProbeKind),
    Workload,
}

/// A step that the pump executes now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) subject: Subject,
    pub(crate) step: Step,
    /// When a stop will kill, on the monotonic clock.
    pub(crate) deadline_ms: Option<u64>,
}

/// Where the record stands with the disk.
#[derive(Debug, Default)]
pub(crate) struct Durability {
    /// Some version of it is there. Nothing starts before.
    pub(crate) stored: bool,
    /// It differs from what was last written.
    pub(crate) dirty: bool,
    /// Commits under way.
    pub(crate) writing: u32,
}

/// How well memory knows what the runtime has of a workload; each is worse than the one before, and a look clears it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sight {
    #[default]
    Clear,
    /// A step changed the runtime as expected: plans go on, the status waits for the runtime's own figures.
    Changed,
    /// A step left the runtime in a state that only a look can tell: nothing is planned before it.
    Blind,
}

#[derive(Debug, Default)]
pub(crate) struct Workload {
    /// What is desired, after quarantine. Absent for what is in no trusted set: such a workload is kept as it is.
    pub(crate) item: Option<SetItem>,
    /// The item is held against a restored hub's word.
    pub(crate) quarantined: bool,
    pub(crate) record: Record,
    /// The parsed manifest that the record names.
    pub(crate) asked: Option<Arc<Manifest>>,
    /// The same with what the workload was allocated in it: what is acted on.
    pub(crate) manifest: Option<Arc<Manifest>>,
    /// Why the desired manifest is not acted on.
    pub(crate) refused: Option<(Reason, String)>,
    pub(crate) disk: Durability,
    pub(crate) steps: BTreeMap<StepId, InFlight>,
    pub(crate) failures: BTreeMap<Subject, Failure>,
    /// References of images that are present for the manifest acted on.
    pub(crate) images: BTreeSet<String>,
    /// References that were looked for and not found: they are to be pulled.
    pub(crate) missing: BTreeSet<String>,
    /// Those of the images present that were told of. A start that failed has its image looked for again, which is no news.
    pub(crate) told_images: BTreeSet<String>,
    pub(crate) crashes: BTreeMap<String, CrashBackoff>,
    /// By the runtime id of what runs.
    pub(crate) health: BTreeMap<String, Health>,
    /// The manifest of which the volumes were synced last, in this life of the agent.
    pub(crate) volumes: Option<Digest>,
    /// When all of it must have ended that is being stopped by its own end or for a successor, on the monotonic clock.
    pub(crate) halt_ms: Option<u64>,
    /// Runtime ids whose stop ended well.
    pub(crate) stopped: BTreeSet<String>,
    pub(crate) sight: Sight,
    /// Which of the steps told to the machine was the last to change the runtime for this workload.
    pub(crate) changed_at: u64,
    /// The addresses of the last sandbox that was ready: a pod shows them also once it has ended (`getPodIPs` of pkg/kubelet/pleg). Lost with the
    /// agent's memory, as with the kubelet's.
    pub(crate) ips: Vec<IpAddr>,
    /// The cgroup and the logs are removed.
    pub(crate) cleaned: bool,
}

impl Workload {
    pub(crate) fn is_blind(&self) -> bool {
        self.sight == Sight::Blind
    }

    /// The runtime changed in a way that memory knows this well.
    pub(crate) fn blur(&mut self, sight: Sight) {
        self.sight = self.sight.max(sight);
    }

    pub(crate) fn in_flight(&self, subject: &Subject) -> bool {
        self.steps.values().any(|flight| flight.subject == *subject)
    }

    /// Whether anything is under way that changes what there is of it.
    pub(crate) fn is_busy(&self) -> bool {
        let changes =
            |subject: &Subject| !matches!(subject, Subject::Image(_) | Subject::Hook(_) | Subject::Probe(..));
        self.steps.values().any(|flight| changes(&flight.subject))
    }

    /// The deadline of the strictest stop of this container under way.
    pub(crate) fn stop_deadline(&self, container_id: &str) -> Option<u64> {
        self.steps
            .values()
            .filter(|flight| matches!(&flight.subject, Subject::Container(id) if id == container_id))
            .filter_map(|flight| flight.deadline_ms)
            .min()
    }

    /// All that is known of it is on disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.disk.stored && !self.disk.dirty && self.disk.writing == 0
    }

    /// May a step of this subject be tried now; if not, when.
    pub(crate) fn retry_at(&self, subject: &Subject, now_ms: u64) -> Option<u64> {
        self.failures
            .get(subject)
            .map(|failure| failure.until_ms)
            .filter(|until| *until > now_ms)
    }

    pub(crate) fn wants_run(&self) -> bool {
        self.record.ending.is_none()
            && self
                .item
                .as_ref()
                .is_some_and(|item| item.state != ItemState::Stop)
    }

    /// Admission has not said yet whether it has a place.
    pub(crate) fn awaits_admission(&self) -> bool {
        self.wants_run() && self.manifest.is_some() && !self.record.admitted && self.record.rejected.is_none()
    }

    /// The device has nothing of it beside what the runtime shows. What was admitted may have had volumes, with or without a sandbox.
    pub(crate) fn is_clean(&self) -> bool {
        self.cleaned || !(self.record.admitted || self.record.started.is_some())
    }

    /// Its deadline is counted from a start in an earlier boot: what is left of it depends on the wall clock.
    pub(crate) fn counts_wall_clock(&self, now: &Now) -> bool {
        let has_deadline = |manifest: &Arc<Manifest>| manifest.workload.active_deadline_s.is_some();
        self.manifest.as_ref().is_some_and(has_deadline)
            && self
                .record
                .started
                .is_some_and(|started| started.boot_id != now.boot_id)
    }

    /// When something by itself shows otherwise than before: the next such moment. Whatever a plan waits for, the plan says.
    pub(crate) fn next_moment(&self, now_ms: u64) -> Option<u64> {
        let fresh = self.failures.values().map(|failure| failure.fresh_until_ms);
        let backed_off = self.crashes.values().map(CrashBackoff::over_ms);
        fresh.chain(backed_off).flatten().filter(|at| *at > now_ms).min()
    }

    pub(crate) fn containers(&self) -> &[ContainerSpec] {
        self.manifest
            .as_ref()
            .map_or(&[], |manifest| &manifest.workload.containers)
    }

    /// The initial ones first.
    pub(crate) fn all_containers(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.manifest
            .iter()
            .flat_map(|manifest| manifest.workload.all_containers())
    }

    /// Those and the ephemeral ones.
    pub(crate) fn every_container(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.manifest
            .iter()
            .flat_map(|manifest| manifest.workload.every_container())
    }

    /// Before it is held to other resources: what of that an older agent did not note is as it was allocated until now.
    pub(crate) fn note_bounds(&mut self) {
        let Some(manifest) = &self.manifest else { return };
        let (record, workload) = (&mut self.record, &manifest.workload);
        record.bounds.get_or_insert_with(|| Bounds::of(workload));
        for held in record.actuated.values_mut() {
            *held = held.within(workload.resources.as_ref());
        }
    }

    pub(crate) fn grace_s(&self) -> u32 {
        self.manifest.as_ref().map_or(DEFAULT_GRACE_S, |manifest| {
            manifest.workload.termination_grace_period_s
        })
    }
}

/// Kubernetes' default, for workloads whose manifest is not known.
pub(crate) const DEFAULT_GRACE_S: u32 = 30;

/// What the runtime has of one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) sandboxes: Vec<ObservedSandbox>,
    pub(crate) containers: Vec<ObservedContainer>,
}

impl Pod {
    /// The sandbox that containers start in: of the ready ones that with live containers, and of these the newest.
    pub(crate) fn sandbox(&self) -> Option<&ObservedSandbox> {
        self.sandboxes
            .iter()
            .filter(|sandbox| sandbox.ready)
            .max_by_key(|sandbox| (self.live().any(|c| c.sandbox_id == sandbox.id), sandbox.attempt))
    }

    /// Instances of one container, the newest first.
    pub(crate) fn instances(&self, name: &str) -> Vec<&ObservedContainer> {
        let mut all: Vec<_> = self
            .containers
            .iter()
            .filter(|container| container.name == name)
            .collect();
        all.sort_by_key(|container| std::cmp::Reverse((container.attempt, container.is_live())));
        all
    }

    /// The instance that counts: the newest live one, or else the newest.
    pub(crate) fn current(&self, name: &str) -> Option<&ObservedContainer> {
        let all = self.instances(name);
        all.iter()
            .find(|container| container.is_live())
            .or(all.first())
            .copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &ObservedContainer> {
        self.containers.iter().filter(|container| container.is_live())
    }
}

impl ObservedContainer {
    /// It runs, may run, or could be made to run: no other instance may start beside it.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.state, ObservedState::Exited { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_back_off_and_of_a_fresh_failure_show() {
        let mut workload = Workload::default();
        let crash = workload.crashes.entry("c".to_owned()).or_default();
        crash.restarted(&ContainerSpec::new("c", "image"), 1_000);
        crash.saw_end(1, 2_000);
        assert_eq!(workload.next_moment(2_000), Some(12_000));
        let failure = Failure {
            delay_ms: 10_000,
            since_ms: 2_000,
            until_ms: 12_000,
            fresh_until_ms: Some(3_000),
            reason: Reason::ErrImagePull,
            message: String::new(),
        };
        let image = Subject::Image("image".to_owned());
        workload.failures.insert(image, failure);
        assert_eq!(workload.next_moment(2_000), Some(3_000));
        assert_eq!(workload.next_moment(3_000), Some(12_000));
        assert_eq!(workload.next_moment(12_000), None);
    }
}
