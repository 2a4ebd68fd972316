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
    /// Rises with every change; a report's `upto`.
    version: u64,
    /// The newest version told and when. One report is under way at a time, so that a slow link sees fewer and newer ones.
    sent: Option<(u64, u64)>,
    /// The whole is still owed to this session.
    complete_due: bool,
}

#[derive(Debug)]
struct Entry {
    status: WorkloadStatus,
    version: u64,
    acknowledged: bool,
}

impl Reports {
    /// The present status of one workload. Its `since` moves only when something else in it changed.
    pub(crate) fn update(&mut self, status: WorkloadStatus) {
        if let Some(entry) = self.entries.get(&status.uid)
            && (WorkloadStatus {
                since: entry.status.since,
                ..status.clone()
            }) == entry.status
        {
            return;
        }
        self.version += 1;
        let entry = Entry {
            version: self.version,
            acknowledged: false,
            status,
        };
        self.entries.insert(entry.status.uid.clone(), entry);
    }

    /// Says the same of every status, such as that the runtime is out of reach, and leaves the rest as it was.
    pub(crate) fn remark(&mut self, message: &str) {
        for entry in self
            .entries
            .values_mut()
            .filter(|entry| entry.status.message != message)
        {
            self.version += 1;
            message.clone_into(&mut entry.status.message);
            entry.version = self.version;
            entry.acknowledged = false;
        }
    }

    pub(crate) fn forget(&mut self, uid: &PodUid) {
        self.entries.remove(uid);
    }

    pub(crate) fn is_acknowledged(&self, uid: &PodUid) -> bool {
        self.entries.get(uid).is_none_or(|entry| entry.acknowledged)
    }

    /// A session began: it gets the whole, numbered after all that the hub remembers.
    pub(crate) fn begin(&mut self, floor: u64) {
        self.version = self.version.max(floor);
        for entry in self.entries.values_mut() {
            self.version += 1;
            entry.version = self.version;
            entry.acknowledged = false;
        }
        self.version += 1;
        self.sent = None;
        self.complete_due = true;
    }

    pub(crate) fn acknowledged(&mut self, upto: u64) {
        for entry in self.entries.values_mut().filter(|entry| entry.version <= upto) {
            entry.acknowledged = true;
        }
        if self.sent.is_some_and(|(sent, _)| sent <= upto) {
            self.sent = None;
            self.complete_due = false;
        }
    }

    /// The next report, if one is due. Call it only while a session is up and the runtime was seen.
    pub(crate) fn report(&mut self, now_ms: u64) -> Option<StatusReport> {
        let waits = self.sent.is_some_and(|(_, at)| now_ms < at + RESEND_MS);
        if waits || !(self.complete_due || self.entries.values().any(|entry| !entry.acknowledged)) {
            return None;
        }
        let complete = self.complete_due;
        let chosen = self
            .entries
            .values()
            .filter(|entry| complete || !entry.acknowledged);
        let workloads = chosen.map(|entry| entry.status.clone()).collect();
        self.sent = Some((self.version, now_ms));
        Some(StatusReport {
            upto: self.version,
            complete,
            workloads,
        })
    }

    /// The oldest changes alone, when [`report`](Self::report) gave more than a frame can carry. It is never complete.
    pub(crate) fn part(&mut self, now_ms: u64) -> StatusReport {
        let mut open: Vec<&Entry> = self
            .entries
            .values()
            .filter(|entry| !entry.acknowledged)
            .collect();
        open.sort_by_key(|entry| entry.version);
        open.truncate(BATCH);
        let upto = open.last().map_or(self.version, |entry| entry.version);
        self.sent = Some((upto, now_ms));
        StatusReport {
            upto,
            complete: false,
            workloads: open.iter().map(|entry| entry.status.clone()).collect(),
        }
    }

    pub(crate) fn wake_at(&self) -> Option<u64> {
        self.sent.map(|(_, at)| at + RESEND_MS)
    }

    pub(crate) fn rebase(&mut self) {
        self.sent = None;
    }
}
