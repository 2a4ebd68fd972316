//! Where watchers learn that there is something to read: how far the log is, and what changed in memory only.
//!
//! The log itself is in the store, so that a watcher that resumes after a restart reads the same. What is announced is not;
//! the feed remembers for each subject its last announcement and the revision of that moment, and a watcher that resumes at or before
//! that revision is shown the subject again. At the start every subject counts as announced: whatever a watcher knew of a
//! device's liveness is from the process before. Memory: one entry per device and deployment, and the log's newest entries.

mod tail;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use iot_hub_core::Change;
use tokio::sync::watch;

pub(crate) use self::tail::Recent;
use self::tail::Tail;

/// How far everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Committed and known to the machine.
    pub(crate) revision: u64,
    /// Counts announcements of this process, from 1.
    pub(crate) announced: u64,
}

#[derive(Debug)]
pub(crate) struct Feed {
    position: watch::Sender<Position>,
    announced: Mutex<Announced>,
    tail: Mutex<Tail>,
}

#[derive(Debug, Default)]
struct Announced {
    last: u64,
    number_of: BTreeMap<Change, u64>,
    /// Number → revision at that moment, subject. Both rise together.
    by_number: BTreeMap<u64, (u64, Change)>,
}

impl Announced {
    fn put(&mut self, revision: u64, change: Change) {
        self.last += 1;
        if let Some(earlier) = self.number_of.insert(change.clone(), self.last) {
            self.by_number.remove(&earlier);
        }
        self.by_number.insert(self.last, (revision, change));
    }
}

impl Feed {
    pub(crate) fn new(revision: u64, subjects: impl IntoIterator<Item = Change>) -> Self {
        let mut announced = Announced::default();
        for subject in subjects {
            announced.put(revision, subject);
        }
        let position = Position {
            revision,
            announced: announced.last,
        };
        Self {
            position: watch::Sender::new(position),
            announced: Mutex::new(announced),
            tail: Mutex::new(Tail::new(revision)),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.position.borrow().revision
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    /// These were committed, in this order.
    pub(crate) fn advance(&self, entries: Vec<Recent>) {
        let Some(revision) = entries.last().map(|entry| entry.revision) else {
            return;
        };
        self.tail
            .lock()
            .expect("nothing panics under this lock")
            .extend(entries);
        self.position
            .send_modify(|position| position.revision = position.revision.max(revision));
    }

    /// At most `limit` entries of the log after `revision`; `None` when only the store has them.
    pub(crate) fn recent_after(&self, revision: u64, limit: usize) -> Option<Vec<Recent>> {
        let tail = self.tail.lock().expect("nothing panics under this lock");
        tail.after(revision, limit)
    }

    pub(crate) fn announce(&self, change: Change) {
        let mut announced = self.lock();
        announced.put(self.revision(), change);
        let last = announced.last;
        drop(announced);
        self.position.send_modify(|position| position.announced = last);
    }

    /// The subject is gone.
    pub(crate) fn forget(&self, change: &Change) {
        let mut announced = self.lock();
        if let Some(number) = announced.number_of.remove(change) {
            announced.by_number.remove(&number);
        }
    }

    /// The announcement before the first that a watcher at `revision` may have missed.
    pub(crate) fn seen_at(&self, revision: u64) -> u64 {
        let announced = self.lock();
        let missed = announced
            .by_number
            .iter()
            .rev()
            .take_while(|(_, (at, _))| *at >= revision);
        missed.last().map_or(announced.last, |(number, _)| number - 1)
    }

    /// At most `limit` subjects announced after `number`, oldest first, and the number to go on from.
    pub(crate) fn announced_after(&self, number: u64, limit: usize) -> (u64, Vec<Change>) {
        let announced = self.lock();
        let mut upto = number;
        let mut changes = Vec::new();
        for (number, (_, change)) in announced.by_number.range(number + 1..).take(limit) {
            upto = *number;
            changes.push(change.clone());
        }
        (upto, changes)
    }

    fn lock(&self) -> MutexGuard<'_, Announced> {
        self.announced.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use edge_protocol::DeviceId;

    use super::*;

    fn device(id: &str) -> Change {
        Change::Device {
            device: DeviceId::new(id).unwrap(),
        }
    }

    #[test]
    fn a_watcher_is_shown_what_it_may_have_missed() {
        let feed = Feed::new(5, [device("a"), device("b")]);
        let at = feed.seen_at(5);
        assert_eq!(feed.announced_after(at, 9), (2, vec![device("a"), device("b")]));
        feed.advance(vec![Recent {
            revision: 6,
            change: device("c"),
            event: None,
        }]);
        feed.announce(device("a"));
        assert_eq!(feed.announced_after(feed.seen_at(6), 9), (3, vec![device("a")]));
        assert_eq!(feed.announced_after(feed.seen_at(7), 9), (3, vec![]));
        assert_eq!(feed.announced_after(feed.seen_at(1), 1), (2, vec![device("b")]));
        feed.forget(&device("b"));
        assert_eq!(feed.announced_after(feed.seen_at(1), 9), (3, vec![device("a")]));
    }
}
