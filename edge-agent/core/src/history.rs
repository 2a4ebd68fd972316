//! Events of the dark time and of the light: a bounded ring that is told again until the hub has it.

use std::collections::VecDeque;

use edge_protocol::v1::{DeviceEvent, EventReport};

use crate::io::Write;

/// Where the last sequence number given out is kept while no event is.
pub(crate) const SEQ_KEY: &str = "event-seq";
/// Events per report.
const BATCH: usize = 100;
/// An unacknowledged report is sent again after this long, in milliseconds.
const RESEND_MS: u64 = 30_000;

#[derive(Debug)]
pub(crate) struct History {
    ring: VecDeque<DeviceEvent>,
    cap: usize,
    last_seq: u64,
    /// Events up to this one are on disk. Only these are told: a number told and then lost could be given to another event.
    committed: u64,
    sent: Option<(u64, u64)>,
}

impl History {
    pub(crate) fn new(events: Vec<DeviceEvent>, last_seq: u64, cap: usize) -> Self {
        let last_seq = events.last().map_or(0, |event| event.seq).max(last_seq);
        Self {
            ring: events.into(),
            cap,
            last_seq,
            committed: last_seq,
            sent: None,
        }
    }

    /// Takes an event in, numbers it, and says what to write. The oldest gives way to the newest.
    pub(crate) fn push(&mut self, mut event: DeviceEvent) -> Vec<Write> {
        self.last_seq += 1;
        event.seq = self.last_seq;
        self.ring.push_back(event.clone());
        let mut writes = vec![Write::PutEvent(event)];
        while self.ring.len() > self.cap {
            writes.extend(
                self.ring
                    .pop_front()
                    .map(|oldest| Write::DropEventsUpTo(oldest.seq)),
            );
        }
        writes
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub(crate) fn committed(&mut self, seq: u64) {
        self.committed = self.committed.max(seq);
    }

    /// The hub has them up to this one, by its own word.
    pub(crate) fn acknowledged(&mut self, seq: u64) -> Vec<Write> {
        let seq = seq.min(self.committed);
        if self.sent.is_some_and(|(last, _)| last <= seq) {
            self.sent = None;
        }
        if self.ring.front().is_none_or(|oldest| oldest.seq > seq) {
            return Vec::new();
        }
        while self.ring.front().is_some_and(|oldest| oldest.seq <= seq) {
            self.ring.pop_front();
        }
        vec![
            Write::DropEventsUpTo(seq),
            Write::PutMeta {
                key: SEQ_KEY.to_owned(),
                value: self.last_seq.to_string(),
            },
        ]
    }

    /// A session began: nothing told in another one counts, and numbers go on after those that the hub remembers.
    pub(crate) fn begin(&mut self, floor: u64) {
        self.sent = None;
        if self.ring.is_empty() && floor > self.last_seq {
            self.last_seq = floor;
            self.committed = floor;
        }
    }

    /// The next report, if one is due. Call it only while a session is up.
    pub(crate) fn report(&mut self, now_ms: u64) -> Option<EventReport> {
        if self.sent.is_some_and(|(_, at)| now_ms < at + RESEND_MS) {
            return None;
        }
        let events: Vec<DeviceEvent> = self
            .ring
            .iter()
            .take_while(|event| event.seq <= self.committed)
            .take(BATCH)
            .cloned()
            .collect();
        let last = events.last()?.seq;
        self.sent = Some((last, now_ms));
        Some(EventReport { events })
    }

    pub(crate) fn wake_at(&self) -> Option<u64> {
        self.sent.map(|(_, at)| at + RESEND_MS)
    }

    pub(crate) fn rebase(&mut self) {
        self.sent = None;
    }
}
