//! What a workload was allocated of the device, and what becomes of a wish for other resources of it
//! (`pkg/kubelet/allocation/allocation_manager.go`).
//!
//! Everything is made from what was allocated, never from what is merely asked: the manifest that a workload is planned by has the
//! allocation in it (`UpdatePodFromAllocation`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use edge_protocol::v1::{
    DeferredResize, DeviceEvent, EventLevel, Manifest, QosClass, Reason, ResizeFailure, Resizing, Resources,
    WorkloadSpec,
};
use edge_protocol::{DeviceTime, Now, PodUid};
use serde::{Deserialize, Serialize};

use crate::admission;
use crate::agent::Agent;
use crate::lifecycle;
use crate::plan::{Mark, World};
use crate::sums;
use crate::workload::{Subject, Workload};

/// Resources by container, and of the workload as a whole where it states some.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Allocation {
    pub(crate) containers: BTreeMap<String, Resources>,
    pub(crate) whole: Option<Resources>,
}

/// A resize that does not fit beside what the others were allocated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deferred {
    pub(crate) asked: Allocation,
    pub(crate) word: DeferredResize,
}

/// What becomes of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is no wish for more or less: what is asked counts as allocated, as of an agent that did not weigh, or of further containers.
    Noted,
    Admitted,
    Deferred {
        reason: Reason,
        message: String,
    },
    /// What is asked is what is allocated, again.
    Withdrawn,
    /// What was taken in is in force.
    InForce,
}

impl Allocation {
    pub(crate) fn of(workload: &WorkloadSpec) -> Self {
        let containers = workload.all_containers();
        Self {
            containers: containers
                .map(|spec| (spec.name.clone(), spec.resources.clone()))
                .collect(),
            whole: workload.resources.clone(),
        }
    }

    /// Whether it speaks of every container.
    fn covers(&self, workload: &WorkloadSpec) -> bool {
        let mut containers = workload.all_containers();
        containers.all(|spec| self.containers.contains_key(&spec.name))
    }

    /// Whether nothing else is asked. Of a container that it does not speak of, nothing else can be.
    fn holds_for(&self, workload: &WorkloadSpec) -> bool {
        let mut containers = workload.all_containers();
        self.whole == workload.resources
            && containers.all(|spec| {
                let allocated = self.containers.get(&spec.name);
                allocated.is_none_or(|allocated| *allocated == spec.resources)
            })
    }
}

/// The manifest as it may be acted on.
pub(crate) fn allocated(asked: &Arc<Manifest>, allocation: Option<&Allocation>) -> Arc<Manifest> {
    let Some(allocation) = allocation.filter(|allocation| !allocation.holds_for(&asked.workload)) else {
        return Arc::clone(asked);
    };
    let mut manifest = Manifest::clone(asked);
    let workload = &mut manifest.workload;
    workload.resources.clone_from(&allocation.whole);
    let containers = workload
        .init_containers
        .iter_mut()
        .chain(&mut workload.containers);
    for spec in containers {
        if let Some(allocated) = allocation.containers.get(&spec.name) {
            spec.resources.clone_from(allocated);
        }
    }
    Arc::new(manifest)
}

/// A workload that asks for something else than it was allocated.
struct Pending<'a> {
    uid: &'a PodUid,
    workload: &'a Workload,
    asked: &'a WorkloadSpec,
}

/// The next wish that can be decided now, at most one per call: each changes what there is for the others. What fits goes before what does
/// not, and everything in the kubelet's order.
pub(crate) fn next(world: World<'_>) -> Option<(PodUid, Mark)> {
    let mut pending = Vec::new();
    for (uid, workload) in world.workloads {
        match look(world, uid, workload) {
            Some(Look::Decided(verdict)) => return Some((uid.clone(), Mark::Allocation(verdict))),
            Some(Look::Pending(found)) => pending.push(found),
            None => {}
        }
    }
    pending.sort_by_key(Pending::rank);
    let mut deferred = None;
    for wish in &pending {
        let others = admission::neighbours(world, wish.uid, wish.workload, true);
        let verdict = match admission::misfit(world, wish.asked, &others)? {
            None => return Some((wish.uid.clone(), Mark::Allocation(Verdict::Admitted))),
            Some((reason, message)) => Verdict::Deferred { reason, message },
        };
        if deferred.is_none() && wish.is_news(&verdict) {
            deferred = Some((wish.uid.clone(), Mark::Allocation(verdict)));
        }
    }
    deferred
}

/// Whether [`next`] has something to say of it, be it now or when there is more room.
pub(crate) fn is_unsettled(workload: &Workload) -> bool {
    let (Some(asked), Some(manifest)) = (&workload.asked, &workload.manifest) else {
        return false;
    };
    let record = &workload.record;
    let is_noted = |allocation: &Allocation| allocation.covers(&asked.workload);
    let is_settled = Arc::ptr_eq(asked, manifest)
        && record.allocated.as_ref().is_some_and(is_noted)
        && record.deferred.is_none();
    counts(workload) && !is_settled
}

/// It has, or gets, something of the device that may change while it runs.
fn counts(workload: &Workload) -> bool {
    let record = &workload.record;
    record.admitted
        && record.rejected.is_none()
        && record.failed.is_none()
        && record.superseded.is_none()
        && workload.wants_run()
}

enum Look<'a> {
    Decided(Verdict),
    Pending(Pending<'a>),
}

/// Most workloads ask for what they have, and this is asked of all of them at each step: that answer costs nothing.
fn look<'a>(world: World<'a>, uid: &'a PodUid, workload: &'a Workload) -> Option<Look<'a>> {
    let record = &workload.record;
    let (asked, manifest) = (workload.asked.as_ref()?, workload.manifest.as_ref()?);
    if !counts(workload) {
        return None;
    }
    if Arc::ptr_eq(asked, manifest) {
        let is_noted = |allocation: &Allocation| allocation.covers(&asked.workload);
        return if !record.allocated.as_ref().is_some_and(is_noted) {
            Some(Look::Decided(Verdict::Noted))
        } else if record.deferred.is_some() {
            Some(Look::Decided(Verdict::Withdrawn))
        } else {
            None
        };
    }
    let is_over = lifecycle::is_finished(&world.given(uid, workload));
    (!is_over).then_some(Look::Pending(Pending {
        uid,
        workload,
        asked: &asked.workload,
    }))
}

impl Pending<'_> {
    /// `sortPendingResizes`: what takes no more goes first, then the higher priority, then guaranteed ones, then what waits longest.
    fn rank(&self) -> (bool, Reverse<i32>, bool, bool, Option<i64>) {
        let increases = self.workload.manifest.as_ref().is_some_and(|manifest| {
            let (before, after) = (sums::of(&manifest.workload), sums::of(self.asked));
            after.cpu_request_milli > before.cpu_request_milli
                || after.memory_request_bytes > before.memory_request_bytes
        });
        let since = self.workload.record.deferred.as_ref();
        let since = since.map(|deferred| deferred.word.since.wall_ms);
        (
            increases,
            Reverse(self.asked.priority),
            self.asked.qos != QosClass::Guaranteed,
            since.is_none(),
            since,
        )
    }

    fn is_news(&self, verdict: &Verdict) -> bool {
        let (Verdict::Deferred { reason, message }, Some(known)) = (verdict, &self.workload.record.deferred)
        else {
            return true;
        };
        (known.word.reason, &known.word.message) != (*reason, message)
            || known.asked != Allocation::of(self.asked)
    }
}

impl Agent {
    pub(crate) fn weighed(&mut self, now: &Now, uid: &PodUid, verdict: Verdict) {
        let at = self.device_time(now);
        let Some(workload) = self.roster.get_mut(uid) else {
            return;
        };
        let Some(asked) = workload.asked.clone() else {
            return;
        };
        let record = &mut workload.record;
        let event = match verdict {
            Verdict::Noted => {
                record.allocated = Some(Allocation::of(&asked.workload));
                None
            }
            Verdict::Withdrawn => {
                record.deferred = None;
                None
            }
            Verdict::Admitted => {
                record.allocated = Some(Allocation::of(&asked.workload));
                record.deferred = None;
                record.resizing = Some(Resizing {
                    since: at,
                    failure: None,
                });
                workload.note_bounds();
                workload.manifest = Some(asked);
                workload.failures.remove(&Subject::Resize);
                // Files may tell of resources.
                workload.volumes = None;
                Some((Reason::ResizeStarted, "Pod resize started".to_owned()))
            }
            Verdict::Deferred { reason, message } => {
                if defer(workload, &asked.workload, (reason, &message), at) {
                    self.tell_deferred(now, uid, reason, &message);
                }
                None
            }
            Verdict::InForce => {
                record.resizing = None;
                Some((Reason::ResizeCompleted, "Pod resize completed".to_owned()))
            }
        };
        if let Some((reason, message)) = event {
            self.event(now, uid, (EventLevel::Normal, reason), None, &message);
        }
    }

    /// The runtime would not: told once, and again when it says something else (`SetPodResizeInProgressCondition`). Figures, such as what is in
    /// use, are other ones at each try: by them alone it says nothing else, or a metered link would pay for each.
    pub(crate) fn resize_failed(&mut self, now: &Now, uid: &PodUid, message: &str) {
        let at = self.device_time(now);
        let Some(workload) = self.roster.get_mut(uid) else {
            return;
        };
        let resizing = workload.record.resizing.get_or_insert(Resizing {
            since: at,
            failure: None,
        });
        let before = resizing.failure.as_ref();
        if before.is_some_and(|before| words(&before.message).eq(words(message))) {
            return;
        }
        resizing.failure = Some(ResizeFailure {
            message: message.to_owned(),
            since: before.map_or(at, |before| before.since),
        });
        workload.disk.dirty = true;
        self.event(
            now,
            uid,
            (EventLevel::Warning, Reason::ResizeError),
            None,
            message,
        );
    }

    fn tell_deferred(&mut self, now: &Now, uid: &PodUid, cause: Reason, message: &str) {
        let event = DeviceEvent {
            cause: Some(cause),
            ..self.event_of(now, uid, (EventLevel::Warning, Reason::ResizeDeferred), message)
        };
        self.tell_event(event);
    }
}

/// A text without its figures.
fn words(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_ascii_digit())
}

/// Whether it is news. As with `SetPodResizePendingCondition`, one wish is news once, and that it is deferred is as old as it is, whatever there is
/// not enough of.
fn defer(
    workload: &mut Workload,
    asked: &WorkloadSpec,
    (reason, message): (Reason, &str),
    at: DeviceTime,
) -> bool {
    let asked = Allocation::of(asked);
    let before = workload.record.deferred.take();
    let is_news = before.as_ref().is_none_or(|before| before.asked != asked);
    let word = DeferredResize {
        reason,
        message: message.to_owned(),
        since: before.map_or(at, |before| before.word.since),
    };
    workload.record.deferred = Some(Deferred { asked, word });
    is_news
}
