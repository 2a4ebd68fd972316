//! The ends of orphans that nobody here succeeds (law 1): their author's own deadline, or a successor on another node.

use edge_protocol::{Now, PodUid};

use super::Bridge;
use crate::disconnect::Disconnect;
use crate::elsewhere::{Elsewhere, superfluous};
use crate::entry::{End, Entry};
use crate::io::{Effect, Note};

const END: End = End::Delete { grace_period_s: None };

impl Bridge {
    /// Keeps in mind which entries wait for a list, for a successor or for a time.
    pub(super) fn note_standing(&mut self, now: Now, uid: &PodUid) {
        let entry = self.entries.get_mut(uid);
        let in_limbo = entry.as_ref().is_some_and(|entry| entry.is_in_limbo());
        let left_behind = entry.as_ref().is_some_and(|entry| entry.is_left_behind());
        for (set, member) in [(&mut self.limbo, in_limbo), (&mut self.left_behind, left_behind)] {
            if member {
                set.insert(uid.clone());
            } else {
                set.remove(uid);
            }
        }
        if let Some(entry) = entry {
            let stop_at = if left_behind { stop_at(entry, now) } else { None };
            if let Some(at) = stop_at.filter(|_| entry.stop_at != stop_at) {
                self.retries.insert((at, uid.clone()));
            }
            entry.stop_at = stop_at;
        }
    }

    /// Ends what its author wanted ended by now.
    pub(super) fn end_overdue(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        for uid in &self.left_behind {
            let entry = self.entries.get_mut(uid);
            let Some(entry) = entry.filter(|entry| entry.stop_at.is_some_and(|at| at <= now_ms)) else {
                continue;
            };
            if entry.is_left_behind() {
                entry.decide(END);
                self.dirty.insert(uid.clone());
                out.push(Effect::Report(Note::StopsAfter { uid: uid.clone() }));
            }
        }
    }

    pub(super) fn find_elsewhere(&mut self, found: &Elsewhere, out: &mut Vec<Effect>) {
        if self.evidence.cluster_uid() != Some(&found.cluster_uid) {
            return;
        }
        for uid in superfluous(&self.entries, found) {
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.decide(END);
                out.push(Effect::Report(Note::Succeeded { uid: uid.clone() }));
                self.dirty.insert(uid);
            }
        }
    }

    /// Owners that have no pod here any more are told again if they come back.
    pub(super) fn forget_owners(&mut self) {
        let owners = self.entries.values().filter_map(|entry| entry.owner());
        let known: std::collections::BTreeSet<&str> = owners.map(|owner| owner.uid.as_str()).collect();
        self.told_owners.retain(|uid| known.contains(uid.as_str()));
    }
}

/// By the clock that hub and bridge share, the wall's: counted from the release as the hub dates it. Once known it stays, so that a
/// clock that jumps moves nothing (law 11); one that went back counts from now.
fn stop_at(entry: &Entry, now: Now) -> Option<u64> {
    let Disconnect::StopAfter { ms } = entry.disconnect() else {
        return None;
    };
    let age = now.wall_ms.saturating_sub(entry.released_ms()?);
    let left = ms.saturating_sub(u64::try_from(age).unwrap_or(0));
    Some(entry.stop_at.unwrap_or(now.mono_ms.saturating_add(left)))
}
