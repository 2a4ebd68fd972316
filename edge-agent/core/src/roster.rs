//! The workloads of a device with what the runtime has of each, and which of them must be attended to.
//!
//! A step costs in proportion to what changed because of this rule: a plan and a status are functions of a workload, of those it is tied to,
//! of the time, and of what all have in common. Who changes a workload does so through here and thereby touches it; whoever it is tied to by
//! succession is attended to with it; when its moment comes it is touched; and when what all have in common changes, all are. Of all others
//! plan and status are what they were: `proof` says so at every step of a test.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::{Now, PodUid};

use crate::allocation;
use crate::step::StepId;
use crate::ties::Ties;
use crate::workload::{InFlight, Pod, Workload};

/// Whether a pass over all workloads changed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    No,
    Yes,
}

impl Touch {
    pub(crate) fn of(changed: bool) -> Self {
        if changed { Self::Yes } else { Self::No }
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self::of(self == Self::Yes || other == Self::Yes)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Roster {
    workloads: BTreeMap<PodUid, Workload>,
    pods: BTreeMap<PodUid, Pod>,
    /// Whose steps are under way.
    owners: BTreeMap<StepId, PodUid>,
    /// Those that may have changed since they were last attended to.
    touched: BTreeSet<PodUid>,
    /// Those that may have changed since records were last written.
    unsaved: BTreeSet<PodUid>,
    /// Those attended to now.
    turn: BTreeSet<PodUid>,
    ties: Ties,
    /// As of when each was last attended to: those that something of the device is yet to be given,
    unweighed: BTreeSet<PodUid>,
    /// those on their way out,
    leaving: BTreeSet<PodUid>,
    /// those with a deadline that is counted on the wall clock, which may jump at any time,
    restless: BTreeSet<PodUid>,
    /// and when the next moment of each comes, on the monotonic clock.
    moments: BTreeMap<PodUid, u64>,
    by_moment: BTreeSet<(u64, PodUid)>,
}

impl Roster {
    pub(crate) fn new(workloads: BTreeMap<PodUid, Workload>) -> Self {
        let all: BTreeSet<PodUid> = workloads.keys().cloned().collect();
        Self {
            workloads,
            touched: all.clone(),
            unsaved: all,
            ..Self::default()
        }
    }

    pub(crate) fn workloads(&self) -> &BTreeMap<PodUid, Workload> {
        &self.workloads
    }

    pub(crate) fn pods(&self) -> &BTreeMap<PodUid, Pod> {
        &self.pods
    }

    pub(crate) fn get(&self, uid: &PodUid) -> Option<&Workload> {
        self.workloads.get(uid)
    }

    pub(crate) fn pod(&self, uid: &PodUid) -> Option<&Pod> {
        self.pods.get(uid)
    }

    pub(crate) fn get_mut(&mut self, uid: &PodUid) -> Option<&mut Workload> {
        self.touch(uid);
        self.workloads.get_mut(uid)
    }

    pub(crate) fn get_mut_with_pod(&mut self, uid: &PodUid) -> Option<(&mut Workload, &mut Pod)> {
        self.touch(uid);
        let workload = self.workloads.get_mut(uid)?;
        Some((workload, self.pods.entry(uid.clone()).or_default()))
    }

    /// The workload of this uid, if need be a new one of which nothing is known.
    pub(crate) fn ensure(&mut self, uid: &PodUid) -> &mut Workload {
        self.touch(uid);
        self.workloads.entry(uid.clone()).or_default()
    }

    pub(crate) fn remove(&mut self, uid: &PodUid) {
        self.touch(uid);
        self.workloads.remove(uid);
        self.pods.remove(uid);
    }

    /// Goes through all of them; those that change are touched.
    pub(crate) fn each(&mut self, mut change: impl FnMut(&PodUid, &mut Workload, Option<&Pod>) -> Touch) {
        for (uid, workload) in &mut self.workloads {
            if change(uid, workload, self.pods.get(uid)) == Touch::Yes {
                self.touched.insert(uid.clone());
                self.unsaved.insert(uid.clone());
            }
        }
    }

    /// Replaces what the runtime has of all of them; those of which it has something else than before are touched.
    pub(crate) fn observe(&mut self, pods: BTreeMap<PodUid, Pod>) {
        let before = std::mem::replace(&mut self.pods, pods);
        let changed = self
            .pods
            .iter()
            .filter(|(uid, pod)| before.get(*uid) != Some(*pod));
        let gone = before.iter().filter(|(uid, _)| !self.pods.contains_key(*uid));
        let changed: Vec<PodUid> = changed.chain(gone).map(|(uid, _)| uid.clone()).collect();
        for uid in changed {
            self.touch(&uid);
        }
    }

    pub(crate) fn begin_step(&mut self, uid: &PodUid, id: StepId, flight: InFlight) {
        if let Some(workload) = self.get_mut(uid) {
            workload.steps.insert(id, flight);
            self.owners.insert(id, uid.clone());
        }
    }

    /// The step that ended, and whose it was.
    pub(crate) fn end_step(&mut self, id: StepId) -> Option<(PodUid, InFlight)> {
        let uid = self.owners.remove(&id)?;
        let flight = self.get_mut(&uid)?.steps.remove(&id)?;
        Some((uid, flight))
    }

    fn touch(&mut self, uid: &PodUid) {
        if !self.touched.contains(uid) {
            self.touched.insert(uid.clone());
        }
        if !self.unsaved.contains(uid) {
            self.unsaved.insert(uid.clone());
        }
    }

    pub(crate) fn touch_all(&mut self) {
        self.touched.extend(self.workloads.keys().cloned());
    }

    /// A turn begins: with those that were touched, and those whose moment has come.
    pub(crate) fn begin_turn(&mut self, now: &Now) {
        self.turn.clear();
        while let Some((at, _)) = self.by_moment.first()
            && *at <= now.mono_ms
            && let Some((_, uid)) = self.by_moment.pop_first()
        {
            self.moments.remove(&uid);
            self.touched.insert(uid);
        }
        self.touched.extend(self.restless.iter().cloned());
        self.gather(now);
    }

    /// Takes into the turn who was touched since, with those they are tied to, be it by what they name now or by what they named before.
    pub(crate) fn gather(&mut self, now: &Now) {
        while let Some(uid) = self.touched.pop_first() {
            let workload = self.workloads.get(&uid);
            let pod = self.pods.get(&uid);
            self.turn.extend(self.ties.update(&uid, workload));
            let enlist = |list: &mut BTreeSet<PodUid>, belongs: bool| {
                if belongs {
                    list.insert(uid.clone());
                } else {
                    list.remove(&uid);
                }
            };
            let is = |what: fn(&Workload) -> bool| workload.is_some_and(what);
            let unweighed = is(|workload| workload.awaits_admission() || allocation::is_unsettled(workload));
            enlist(&mut self.unweighed, unweighed);
            enlist(&mut self.leaving, is(|workload| workload.record.ending.is_some()));
            let restless = workload.is_some_and(|workload| workload.counts_wall_clock(now));
            enlist(&mut self.restless, restless);
            debug_assert!(workload.is_some() || pod.is_none(), "what runs has a workload");
            self.turn.insert(uid);
        }
    }

    /// Those attended to in this turn, in the order of their names. What `attend` does to one touches nobody: all of them are planned after
    /// it.
    pub(crate) fn attend(&mut self, mut attend: impl FnMut(&PodUid, &mut Workload, Option<&Pod>)) {
        for uid in &self.turn {
            if let Some(workload) = self.workloads.get_mut(uid) {
                attend(uid, workload, self.pods.get(uid));
            }
        }
    }

    pub(crate) fn turn(&self) -> &BTreeSet<PodUid> {
        &self.turn
    }

    /// Those of this turn, and those that were touched since it was planned.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&PodUid, &Workload)> {
        let all = self.turn.union(&self.touched);
        all.filter_map(|uid| self.workloads.get_key_value(uid))
    }

    pub(crate) fn is_any_unweighed(&self) -> bool {
        !self.unweighed.is_empty()
    }

    pub(crate) fn leaving(&self) -> &BTreeSet<PodUid> {
        &self.leaving
    }

    /// When this one must be attended to again if nothing touches it before.
    pub(crate) fn set_moment(&mut self, uid: &PodUid, at_ms: Option<u64>) {
        let before = match at_ms {
            Some(at_ms) => self.moments.insert(uid.clone(), at_ms),
            None => self.moments.remove(uid),
        };
        if before == at_ms {
            return;
        }
        if let Some(before) = before {
            self.by_moment.remove(&(before, uid.clone()));
        }
        self.by_moment.extend(at_ms.map(|at_ms| (at_ms, uid.clone())));
    }

    pub(crate) fn moment(&self, uid: &PodUid) -> Option<u64> {
        self.moments.get(uid).copied()
    }

    pub(crate) fn next_moment(&self) -> Option<u64> {
        self.by_moment.first().map(|(at, _)| *at)
    }

    /// Those whose records are not written as they are. They count as written from now on.
    pub(crate) fn take_unsaved(&mut self) -> Vec<PodUid> {
        let unsaved = std::mem::take(&mut self.unsaved).into_iter();
        let dirty = |uid: &PodUid| {
            self.workloads
                .get(uid)
                .is_some_and(|workload| workload.disk.dirty)
        };
        unsaved.filter(dirty).collect()
    }
}

#[cfg(test)]
mod tests {
    use edge_protocol::BootId;

    use super::*;
    use crate::record::Superseded;
    use crate::step::ObservedSandbox;

    fn uid(name: &str) -> PodUid {
        PodUid::new(name).unwrap()
    }

    fn roster() -> Roster {
        let all = ["a", "b", "c"].map(|name| (uid(name), Workload::default()));
        let mut roster = Roster::new(all.into());
        assert_eq!(turn(&mut roster, 0), "abc", "nothing is known of any");
        assert_eq!(turn(&mut roster, 0), "");
        roster
    }

    fn turn(roster: &mut Roster, mono_ms: u64) -> String {
        roster.begin_turn(&Now {
            mono_ms,
            wall_ms: 0,
            boot_id: BootId(uuid::Uuid::from_u128(1)),
        });
        roster.turn().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_may_change_one_touches_it_and_no_other() {
        let mut roster = roster();
        roster.get_mut(&uid("b"));
        assert_eq!(turn(&mut roster, 0), "b");
        roster.each(|name, _, _| Touch::of(*name == uid("c")));
        assert_eq!(turn(&mut roster, 0), "c");
        roster.attend(|_, workload, _| workload.cleaned = true);
        assert_eq!(turn(&mut roster, 0), "");
        roster.remove(&uid("a"));
        roster.ensure(&uid("d"));
        assert_eq!(turn(&mut roster, 0), "ad");
        roster.touch_all();
        assert_eq!(turn(&mut roster, 0), "bcd");
    }

    #[test]
    fn a_look_touches_those_of_which_it_shows_something_else() {
        let mut roster = roster();
        let seen = |names: &[&str], ready| -> BTreeMap<PodUid, Pod> {
            let sandbox = |name| ObservedSandbox {
                id: "s".to_owned(),
                uid: uid(name),
                attempt: 0,
                ready,
                ips: Vec::new(),
                created_at_ms: 0,
            };
            let pod = |name| Pod {
                sandboxes: vec![sandbox(name)],
                containers: vec![],
            };
            names.iter().map(|name| (uid(name), pod(name))).collect()
        };
        roster.observe(seen(&["a", "b"], true));
        assert_eq!(turn(&mut roster, 0), "ab");
        roster.observe(seen(&["a", "b"], true));
        assert_eq!(turn(&mut roster, 0), "");
        roster.observe(seen(&["a"], true));
        assert_eq!(turn(&mut roster, 0), "b");
        roster.observe(seen(&["a"], false));
        assert_eq!(turn(&mut roster, 0), "a");
    }

    #[test]
    fn each_has_its_moment_once() {
        let mut roster = roster();
        roster.set_moment(&uid("a"), Some(5));
        roster.set_moment(&uid("b"), Some(7));
        roster.set_moment(&uid("a"), Some(9));
        assert_eq!(roster.next_moment(), Some(7));
        assert_eq!(turn(&mut roster, 6), "");
        assert_eq!(turn(&mut roster, 9), "ab");
        assert_eq!(roster.next_moment(), None);
        assert_eq!(turn(&mut roster, 9), "");
    }

    #[test]
    fn who_is_tied_to_one_that_is_touched_is_attended_to_with_it() {
        let mut roster = roster();
        let superseded = Superseded {
            by: uid("b"),
            manifest: None,
            for_good: false,
        };
        roster.get_mut(&uid("a")).unwrap().record.superseded = Some(superseded);
        assert_eq!(turn(&mut roster, 0), "ab");
        roster.get_mut(&uid("b"));
        assert_eq!(turn(&mut roster, 0), "ab");
        roster.remove(&uid("b"));
        assert_eq!(turn(&mut roster, 0), "ab");
    }

    #[test]
    fn only_dirty_records_are_unsaved_and_only_once() {
        let mut roster = roster();
        assert_eq!(roster.take_unsaved(), []);
        roster.get_mut(&uid("a")).unwrap().disk.dirty = true;
        roster.get_mut(&uid("b"));
        turn(&mut roster, 0);
        assert_eq!(roster.take_unsaved(), [uid("a")]);
        assert_eq!(roster.take_unsaved(), []);
    }
}
