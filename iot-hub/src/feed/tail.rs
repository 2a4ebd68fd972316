//! The newest entries of the log, so that a watcher that keeps up asks no disk.

use std::collections::VecDeque;
use std::sync::Arc;

use edge_protocol::v1::DeviceEvent;
use iot_hub_core::Change;

/// Entries kept. Whoever is further behind reads the store.
const KEPT: usize = 1024;

/// One entry of the log, with the event that it is about if that is at hand; otherwise the store has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recent {
    pub(crate) revision: u64,
    pub(crate) change: Change,
    pub(crate) event: Option<Arc<DeviceEvent>>,
}

/// All entries after `floor`, and no others.
#[derive(Debug)]
pub(super) struct Tail {
    floor: u64,
    entries: VecDeque<Recent>,
}

impl Tail {
    /// Of a log that ends at `revision`.
    pub(super) fn new(revision: u64) -> Self {
        Self {
            floor: revision,
            entries: VecDeque::new(),
        }
    }

    fn head(&self) -> u64 {
        self.entries.back().map_or(self.floor, |last| last.revision)
    }

    /// Entries that do not follow the last one leave a gap, which only the store can fill: the tail begins anew after it.
    pub(super) fn extend(&mut self, entries: Vec<Recent>) {
        for entry in entries {
            if entry.revision != self.head() + 1 {
                self.entries.clear();
                self.floor = entry.revision.saturating_sub(1);
            }
            self.entries.push_back(entry);
        }
        while self.entries.len() > KEPT {
            self.floor = self.entries.pop_front().map_or(self.floor, |gone| gone.revision);
        }
    }

    /// At most `limit` entries after `revision`, oldest first; `None` when some of them, or that revision itself, are not known here.
    pub(super) fn after(&self, revision: u64, limit: usize) -> Option<Vec<Recent>> {
        if revision < self.floor || revision > self.head() {
            return None;
        }
        let first = self.entries.partition_point(|entry| entry.revision <= revision);
        Some(self.entries.range(first..).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use edge_protocol::DeviceId;

    use super::*;

    fn entries(revisions: impl IntoIterator<Item = u64>) -> Vec<Recent> {
        let entry = |revision| Recent {
            revision,
            change: Change::Device {
                device: DeviceId::new("a").unwrap(),
            },
            event: None,
        };
        revisions.into_iter().map(entry).collect()
    }

    #[track_caller]
    fn check(tail: &Tail, after: u64, expected: Option<&[u64]>) {
        let found = tail.after(after, 2);
        let found: Option<Vec<u64>> =
            found.map(|entries| entries.iter().map(|entry| entry.revision).collect());
        assert_eq!(found.as_deref(), expected, "after {after}");
    }

    #[test]
    fn it_answers_only_for_what_it_has_without_a_gap() {
        let mut tail = Tail::new(7);
        check(&tail, 7, Some(&[]));
        check(&tail, 6, None);
        tail.extend(entries(8..=10));
        check(&tail, 7, Some(&[8, 9]));
        check(&tail, 9, Some(&[10]));
        check(&tail, 10, Some(&[]));
        check(&tail, 11, None);
        tail.extend(entries([13]));
        check(&tail, 10, None);
        check(&tail, 12, Some(&[13]));
    }

    #[test]
    fn it_forgets_the_oldest() {
        let mut tail = Tail::new(0);
        let kept = KEPT as u64;
        tail.extend(entries(1..=kept + 3));
        check(&tail, 2, None);
        check(&tail, 3, Some(&[4, 5]));
        assert_eq!(tail.entries.len(), KEPT);
    }
}
