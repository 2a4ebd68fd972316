//! Which statuses the hub has, and which it must still be told.

use std::collections::BTreeMap;

use edge_protocol::PodUid;
use edge_protocol::v1::{StatusReport, WorkloadStatus};

/// An unacknowledged report is sent again after this long, in milliseconds.
const RESEND_MS: u64 = 10_000;
/// Statuses per report when all of them do not fit into one frame.
const BATCH: usize = 50;

#[derive(Debug, Default)]
pub(crate) struct Reports {
    entries: BTreeMap<PodUid, Entry>,
    /// Those that the hub does not have, by their versions.
    open: BTreeMap<u64, PodUid>,
    /// Rises with every change; a report's `upto`.
    version: u64,
    /// One report is under way at a time, so that a slow link sees fewer and newer ones.
    sent: Option<Sent>,
    /// The whole is still owed to this session.
    complete_due: bool,
    /// The version at which the whole did not fit into a frame: it is tried again when something changed.
    too_large: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    /// The newest version told.
    upto: u64,
    at_ms: u64,
    /// Whether it was the whole.
    complete: bool,
}

#[derive(Debug)]
struct Entry {
    status: WorkloadStatus,
    version: u64,
}

impl Reports {
    /// The present status of one workload. Its `since` moves only when something else in it changed.
    pub(crate) fn update(&mut self, mut status: WorkloadStatus) {
        if let Some(entry) = self.entries.get(&status.uid) {
            let since = std::mem::replace(&mut status.since, entry.status.since);
            if status == entry.status {
                return;
            }
            status.since = since;
            self.open.remove(&entry.version);
        }
        self.version += 1;
        let uid = status.uid.clone();
        self.open.insert(self.version, uid.clone());
        let version = self.version;
        self.entries.insert(uid, Entry { status, version });
    }

    /// What is said of this workload.
    pub(crate) fn status(&self, uid: &PodUid) -> Option<&WorkloadStatus> {
        self.entries.get(uid).map(|entry| &entry.status)
    }

    /// Says the same of every status, such as that the runtime is out of reach, and leaves the rest as it was.
    pub(crate) fn remark(&mut self, message: &str) {
        let others = self.entries.iter_mut();
        for (uid, entry) in others.filter(|(_, entry)| entry.status.message != message) {
            message.clone_into(&mut entry.status.message);
            self.version += 1;
            self.open.remove(&entry.version);
            self.open.insert(self.version, uid.clone());
            entry.version = self.version;
        }
    }

    pub(crate) fn forget(&mut self, uid: &PodUid) {
        if let Some(entry) = self.entries.remove(uid) {
            self.open.remove(&entry.version);
        }
    }

    pub(crate) fn is_acknowledged(&self, uid: &PodUid) -> bool {
        let entry = self.entries.get(uid);
        entry.is_none_or(|entry| !self.open.contains_key(&entry.version))
    }

    /// A session began, or the hub is another than it was: it gets the whole, numbered after all that the hub remembers.
    pub(crate) fn begin(&mut self, floor: u64) {
        self.version = self.version.max(floor);
        self.open.clear();
        for (uid, entry) in &mut self.entries {
            self.version += 1;
            entry.version = self.version;
            self.open.insert(self.version, uid.clone());
        }
        self.version += 1;
        self.sent = None;
        self.complete_due = true;
        self.too_large = None;
    }

    pub(crate) fn acknowledged(&mut self, upto: u64) {
        self.open = self.open.split_off(&upto.saturating_add(1));
        if let Some(sent) = self.sent.filter(|sent| sent.upto <= upto) {
            self.sent = None;
            // A part is not the whole, however much of it the hub has by now.
            self.complete_due &= !sent.complete;
        }
    }

    /// The next report, if one is due. Call it only while a session is up and the runtime was seen.
    pub(crate) fn report(&mut self, now_ms: u64) -> Option<StatusReport> {
        let waits = self.sent.is_some_and(|sent| now_ms < sent.at_ms + RESEND_MS);
        let complete = self.complete_due && self.too_large != Some(self.version);
        let nothing = !complete && self.open.is_empty();
        if waits || nothing {
            return None;
        }
        let workloads = if complete {
            self.entries.values().map(|entry| entry.status.clone()).collect()
        } else {
            self.open_statuses(usize::MAX)
        };
        self.sent = Some(Sent {
            upto: self.version,
            at_ms: now_ms,
            complete,
        });
        Some(StatusReport {
            upto: self.version,
            complete,
            workloads,
        })
    }

    /// The oldest changes alone, when [`report`](Self::report) gave more than a frame can carry; `None` when nothing
    /// changed. It is never complete: the whole stays owed.
    pub(crate) fn part(&mut self, now_ms: u64) -> Option<StatusReport> {
        self.too_large = Some(self.version);
        let Some(upto) = self.open.keys().take(BATCH).next_back().copied() else {
            self.sent = None;
            return None;
        };
        self.sent = Some(Sent {
            upto,
            at_ms: now_ms,
            complete: false,
        });
        Some(StatusReport {
            upto,
            complete: false,
            workloads: self.open_statuses(BATCH),
        })
    }

    /// The oldest of those that the hub does not have, at most so many.
    fn open_statuses(&self, most: usize) -> Vec<WorkloadStatus> {
        let open = self.open.values().take(most);
        let entries = open.filter_map(|uid| self.entries.get(uid));
        entries.map(|entry| entry.status.clone()).collect()
    }

    pub(crate) fn wake_at(&self) -> Option<u64> {
        self.sent.map(|sent| sent.at_ms + RESEND_MS)
    }

    pub(crate) fn rebase(&mut self) {
        self.sent = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(n: usize, message: &str) -> WorkloadStatus {
        serde_json::from_value(serde_json::json!({
            "uid": format!("w{n}"),
            "revision": 1,
            "manifest": edge_protocol::Digest::of(""),
            "rung": edge_protocol::v1::Rung::Healthy,
            "phase": edge_protocol::v1::Phase::Running,
            "message": message,
            "since": {"boot_id": "00000000-0000-0000-0000-000000000001", "mono_ms": 1, "wall_ms": 1, "wall_trusted": false},
            "containers": [],
        }))
        .unwrap()
    }

    #[test]
    fn parts_do_not_pay_for_the_whole() {
        let mut reports = Reports::default();
        for n in 0..=BATCH {
            reports.update(status(n, "long"));
        }
        reports.begin(0);
        assert!(reports.report(0).unwrap().complete);
        let part = reports.part(0).unwrap();
        assert_eq!((part.complete, part.workloads.len()), (false, BATCH));
        reports.acknowledged(part.upto);
        let rest = reports.report(1).unwrap();
        assert_eq!((rest.complete, rest.workloads.len()), (false, 1));
        reports.acknowledged(rest.upto);
        assert!(reports.report(2).is_none(), "the whole has not become smaller");
        reports.update(status(0, ""));
        let whole = reports.report(3).unwrap();
        assert_eq!((whole.complete, whole.workloads.len()), (true, BATCH + 1));
        reports.acknowledged(whole.upto);
        reports.update(status(0, "short"));
        assert!(!reports.report(4).unwrap().complete, "paid");
    }

    #[test]
    fn a_whole_that_does_not_fit_is_not_tried_for_ever() {
        let mut reports = Reports::default();
        reports.update(status(0, ""));
        reports.begin(0);
        let part = reports.report(0).and_then(|_| reports.part(0)).unwrap();
        reports.acknowledged(part.upto);
        assert!(reports.report(1).is_none());
        reports.forget(&status(0, "").uid);
        assert!(reports.part(1).is_none());
        assert_eq!(reports.wake_at(), None);
    }
}
