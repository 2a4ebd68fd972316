//! When a successor on another node makes an orphan superfluous (law 1: "Ready elsewhere: stop the orphan").
//!
//! Only while there are orphans that no pod here has claimed are other nodes looked at, seldom and by owner.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::PodUid;
use edge_protocol::v1::Owner;

use crate::entry::Entry;
use crate::successor::claimed;

/// How often each line is looked at, at most.
pub const LOOK_MS: u64 = 30_000;
/// Lines per look; the others have their turn later.
pub const LINES: usize = 8;

/// Whose successors are looked for: a controller's pods or, without one, the pod of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub namespace: String,
    pub of: Kin,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kin {
    Controller(Owner),
    Name(String),
}

/// What was found of a line on other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The UID of `kube-system` in the cluster that answered.
    pub cluster_uid: String,
    pub line: Line,
    /// How many pods the controller wants; 1 without a controller.
    pub wanted: u32,
    /// How many of them are Ready on other nodes, and not going.
    pub ready: u32,
}

/// The lines of all orphans that wait for a successor.
pub fn lines(entries: &BTreeMap<PodUid, Entry>) -> BTreeSet<Line> {
    let claimed = claimed(entries, None);
    let waiting = entries
        .iter()
        .filter(|(uid, entry)| entry.is_left_behind() && !claimed.contains(uid));
    waiting.filter_map(|(_, entry)| line_of(entry)).collect()
}

/// The orphans that `found` makes superfluous: with them out of the count the controller has all the pods that it wants, at least one of
/// them Ready elsewhere. Fewer would mean that a sibling was taken for a successor.
pub fn superfluous(entries: &BTreeMap<PodUid, Entry>, found: &Elsewhere) -> Vec<PodUid> {
    let of_line = |entry: &&Entry| line_of(entry).as_ref() == Some(&found.line);
    let here = entries
        .values()
        .filter(of_line)
        .filter(|entry| entry.is_active() && entry.is_seen() && entry.fate.is_none());
    let present = u64::from(found.ready) + here.count() as u64;
    if found.ready == 0 || found.wanted == 0 || present < u64::from(found.wanted) {
        return Vec::new();
    }
    let claimed = claimed(entries, None);
    let waiting = entries
        .iter()
        .filter(|(uid, entry)| entry.is_left_behind() && !claimed.contains(uid) && of_line(entry));
    waiting.map(|(uid, _)| uid.clone()).collect()
}

fn line_of(entry: &Entry) -> Option<Line> {
    let held = entry.held.as_ref()?;
    let of = match &held.spec.owner {
        Some(owner) => Kin::Controller(owner.clone()),
        None => Kin::Name(held.spec.name.clone()),
    };
    Some(Line {
        namespace: held.spec.namespace.clone(),
        of,
    })
}

/// When to look, and at which lines next.
#[derive(Debug, Default)]
pub struct Looks {
    due: Option<u64>,
    last: Option<Line>,
}

impl Looks {
    /// The time of the next look; none is needed while nothing `waits`.
    pub fn due(&mut self, waits: bool, now_ms: u64) -> Option<u64> {
        self.due = if waits {
            self.due.or(Some(now_ms + LOOK_MS))
        } else {
            None
        };
        self.due
    }

    /// The lines to look at now, if the time has come.
    pub fn take(&mut self, entries: &BTreeMap<PodUid, Entry>, now_ms: u64) -> Vec<Line> {
        if self.due.is_none_or(|due| due > now_ms) {
            return Vec::new();
        }
        self.due = Some(now_ms + LOOK_MS);
        let all = lines(entries);
        let after = all
            .iter()
            .filter(|line| self.last.as_ref().is_none_or(|last| *line > last));
        let mut next: Vec<Line> = after.take(LINES).cloned().collect();
        if next.len() < LINES {
            let before = all
                .iter()
                .filter(|line| self.last.as_ref().is_some_and(|last| *line <= last));
            next.extend(before.take(LINES - next.len()).cloned());
        }
        self.last = next.last().cloned();
        next
    }
}
