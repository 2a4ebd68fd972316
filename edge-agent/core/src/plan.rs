//! From what is desired, observed and remembered to what is done next: a total function without effects.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::{Action, Facts, Manifest, Reason};
use edge_protocol::{ItemState, Now, PodUid};

use crate::allocation::Verdict;
use crate::health::{self, Scope};
use crate::lifecycle::{self, Gate};
use crate::record::Failed;
use crate::step::{InContainer, ObservedContainer, Step};
use crate::succession;
use crate::teardown::{self, Depth, Stage};
use crate::workload::{Pod, Subject, Workload};

/// All that a plan is made from.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) workloads: &'a BTreeMap<PodUid, Workload>,
    pub(crate) pods: &'a BTreeMap<PodUid, Pod>,
    /// Of the workloads those on their way out.
    pub(crate) leaving: &'a BTreeSet<PodUid>,
    pub(crate) facts: Option<&'a Facts>,
    pub(crate) now: &'a Now,
    /// The wall clock can be trusted.
    pub(crate) wall_trusted: bool,
}

/// The part of it that concerns one workload.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) uid: &'a PodUid,
    pub(crate) workload: &'a Workload,
    pub(crate) pod: &'a Pod,
    pub(crate) now: &'a Now,
    pub(crate) wall_trusted: bool,
}

/// What to do for one workload now, and when to look again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Planned>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) wake_at: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) subject: Subject,
    pub(crate) step: Step,
    /// When a stop will kill, on the monotonic clock.
    pub(crate) deadline_ms: Option<u64>,
    /// What the event of a stop says, where there is more to say than that it is one.
    pub(crate) why: Option<String>,
}

/// A change of what is remembered of a workload that the plan asks for; of its record, but where it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    Admitted,
    Rejected {
        reason: Reason,
        message: String,
    },
    /// Its place is taken by the named workload from now on.
    Superseded {
        by: PodUid,
    },
    /// Its successor had started and is gone: an orphan stays stopped.
    SupersededForGood,
    /// Its successor is gone: it goes on.
    GoesOn,
    /// The container is stopped because its spec changed, and starts again whatever its exit.
    Replacing {
        container: String,
    },
    /// It failed as a whole.
    Failed(Failed),
    /// All its containers go, to begin anew.
    Resetting,
    /// They are gone.
    Reset,
    /// All of it is being stopped, and has this one grace together. Only memory changes.
    Halting {
        deadline_ms: u64,
    },
    /// Remember how these containers ended.
    Ended {
        containers: Vec<String>,
    },
    /// The container waits in crash back-off after this attempt, and nobody was told yet. Only memory changes.
    BackingOff {
        container: String,
        attempt: u32,
    },
    /// What becomes of a wish for other resources.
    Allocation(Verdict),
    /// The teardown came to its end while the workload is desired again: begin from nothing.
    Fresh,
}

impl Plan {
    pub(crate) fn push(&mut self, subject: Subject, step: Step) {
        self.steps.push(Planned {
            subject,
            step,
            deadline_ms: None,
            why: None,
        });
    }

    pub(crate) fn wake(&mut self, at_ms: u64) {
        self.wake_at = Some(self.wake_at.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }
}

static NOTHING: Pod = Pod {
    sandboxes: Vec::new(),
    containers: Vec::new(),
};

impl<'a> World<'a> {
    pub(crate) fn pod(&self, uid: &PodUid) -> &'a Pod {
        self.pods.get(uid).unwrap_or(&NOTHING)
    }

    pub(crate) fn given(&self, uid: &'a PodUid, workload: &'a Workload) -> Given<'a> {
        Given {
            uid,
            workload,
            pod: self.pod(uid),
            now: self.now,
            wall_trusted: self.wall_trusted,
        }
    }

    /// Nothing of it is in the runtime, and nothing is being done that could change that.
    pub(crate) fn is_clear(&self, uid: &PodUid) -> bool {
        self.pod(uid).is_empty()
            && self
                .workloads
                .get(uid)
                .is_none_or(|workload| !workload.is_busy() && !workload.is_blind())
    }
}

impl Given<'_> {
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        self.workload.manifest.as_deref()
    }

    /// An action in a container, or towards it: on the device's own network it is at the device's own address.
    pub(crate) fn in_container(&self, container: &ObservedContainer, action: &Action) -> InContainer {
        let host_network = self
            .manifest()
            .is_some_and(|manifest| manifest.workload.namespaces.host_network);
        let mut sandboxes = self.pod.sandboxes.iter();
        let sandbox = sandboxes.find(|sandbox| sandbox.id == container.sandbox_id);
        InContainer {
            container_id: container.id.clone(),
            action: action.clone(),
            pod_ip: sandbox
                .filter(|_| !host_network)
                .and_then(|sandbox| sandbox.shown_ips().first().copied()),
        }
    }

    /// Plans a step unless one of its subject is under way or must wait after a failure. Whether it was planned.
    pub(crate) fn try_step(&self, plan: &mut Plan, subject: Subject, step: Step) -> bool {
        if self.workload.in_flight(&subject) {
            return false;
        }
        if let Some(until) = self.workload.retry_at(&subject, self.now.mono_ms) {
            plan.wake(until);
            return false;
        }
        plan.push(subject, step);
        true
    }
}

/// The next steps of each of these workloads. It may be called at any time and as often as wanted: what is under way is not planned again,
/// and a converged state plans nothing.
pub(crate) fn plan<'a>(world: World<'a>, whom: impl IntoIterator<Item = &'a PodUid>) -> Vec<(PodUid, Plan)> {
    let vacating = succession::vacating(world);
    whom.into_iter()
        .filter_map(|uid| world.workloads.get_key_value(uid))
        .filter(|(_, workload)| !workload.is_blind())
        .map(|(uid, workload)| {
            let plan = plan_workload(world, &vacating, &world.given(uid, workload));
            (uid.clone(), plan)
        })
        .collect()
}

fn plan_workload(world: World<'_>, vacating: &BTreeSet<&PodUid>, given: &Given<'_>) -> Plan {
    let record = &given.workload.record;
    if let Some(ending) = &record.ending {
        let (mut plan, stage) = teardown::run(given, Depth::Everything, ending.deadline_ms(given.now));
        health::plan(given, Scope::Readiness, &mut plan);
        let again = given
            .workload
            .item
            .as_ref()
            .is_some_and(|item| item.state != ItemState::Stop);
        if stage == Stage::Empty && again {
            plan.marks.push(Mark::Fresh);
        }
        return plan;
    }
    if let Some(superseded) = &record.superseded {
        // The latch is on disk before the first stop: after a crash the teardown goes on instead of wavering.
        if !given.workload.is_settled() || !succession::may_stop(world, superseded) {
            return Plan::default();
        }
        return teardown::make_way(given);
    }
    if record.rejected.is_some() || !given.workload.wants_run() || given.manifest().is_none() {
        return Plan::default();
    }
    if record.failed.is_some() {
        return teardown::stay_ended(given);
    }
    lifecycle::run(given, gate(world, vacating, given))
}

/// Containers start only when the record is on disk, the workload is admitted, and what it replaces has left the runtime, as has what
/// replaced it and is going now.
fn gate(world: World<'_>, vacating: &BTreeSet<&PodUid>, given: &Given<'_>) -> Gate {
    let mut replaced = given
        .manifest()
        .into_iter()
        .flat_map(|manifest| succession::replaced(world, manifest));
    // One without a readable manifest does not start, so that its place is free as soon as it is clear.
    let in_place = |uid: &PodUid| {
        uid != given.uid
            && (!world.is_clear(uid)
                || world.workloads.get(uid).is_some_and(|other| {
                    other.wants_run() && other.manifest.is_some() && other.record.superseded.is_none()
                }))
    };
    if !given.workload.record.admitted {
        Gate::Shut
    } else if given.workload.disk.stored && !vacating.contains(given.uid) && !replaced.any(in_place) {
        Gate::Open
    } else {
        Gate::PullOnly
    }
}

#[cfg(test)]
mod tests;
