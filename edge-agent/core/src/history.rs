//! Events of the dark time and of the light: a bounded ring that is told again until the hub has it.

use std::collections::VecDeque;

use edge_protocol::v1::{DeviceEvent, EventReport, MAX_REPORT_EVENTS};

use crate::io::Write;

/// Where the last sequence number given out is kept while no event is.
pub(crate) const SEQ_KEY: &str = "event-seq";
/// Events per report: fewer than a hub takes, so that the longest messages fit into a frame.
const BATCH: usize = 100;
const _: () = assert!(BATCH <= MAX_REPORT_EVENTS);
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

    /// A session began: nothing told in another one counts. A hub that remembers greater numbers than this device gave out knew an
    /// earlier store of it: what is still to be told is numbered after those, or the hub would take it for a repeat.
    pub(crate) fn begin(&mut self, floor: u64) -> Vec<Write> {
        self.sent = None;
        if floor <= self.last_seq {
            return Vec::new();
        }
        let mut writes = vec![Write::DropEventsUpTo(self.last_seq)];
        (self.last_seq, self.committed) = (floor, floor);
        let untold = std::mem::take(&mut self.ring);
        writes.extend(untold.into_iter().flat_map(|event| self.push(event)));
        writes
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

#[cfg(test)]
mod tests {
    use super::*;
    use edge_protocol::v1::{EventLevel, Reason};

    fn event() -> DeviceEvent {
        serde_json::from_value(serde_json::json!({
            "seq": 0,
            "at": {"boot_id": "00000000-0000-0000-0000-000000000001", "mono_ms": 1, "wall_ms": 1, "wall_trusted": false},
            "uid": "w",
            "level": EventLevel::Normal,
            "reason": Reason::Started,
            "message": "",
        }))
        .unwrap()
    }

    fn told(history: &mut History, now_ms: u64) -> Vec<u64> {
        history.report(now_ms).map_or(vec![], |report| {
            report.events.iter().map(|event| event.seq).collect()
        })
    }

    #[test]
    fn only_what_is_on_disk_is_told_and_told_again_until_the_hub_has_it() {
        let mut history = History::new(vec![], 0, 10);
        history.push(event());
        history.push(event());
        assert_eq!(told(&mut history, 0), [0; 0]);
        history.committed(1);
        assert_eq!(told(&mut history, 0), [1]);
        assert_eq!(told(&mut history, RESEND_MS - 1), [0; 0]);
        history.committed(2);
        assert_eq!(told(&mut history, RESEND_MS), [1, 2]);
        assert!(!history.acknowledged(2).is_empty());
        assert!(history.acknowledged(2).is_empty());
        assert_eq!(told(&mut history, 10 * RESEND_MS), [0; 0]);
        assert_eq!(history.last_seq(), 2);
    }

    #[test]
    fn the_ring_is_bounded_and_the_oldest_goes() {
        let mut history = History::new(vec![], 7, 2);
        history.push(event());
        history.push(event());
        let writes = history.push(event());
        assert_eq!(writes.last(), Some(&Write::DropEventsUpTo(8)));
        history.committed(10);
        assert_eq!(told(&mut history, 0), [9, 10]);
    }

    #[test]
    fn a_report_is_bounded_and_the_next_follows_its_acknowledgement() {
        let mut history = History::new(vec![], 0, 1_000);
        for _ in 0..=BATCH {
            history.push(event());
        }
        history.committed(history.last_seq());
        let first = told(&mut history, 0);
        assert_eq!(first.len(), BATCH);
        history.acknowledged(BATCH as u64);
        assert_eq!(told(&mut history, 1), [history.last_seq()]);
    }

    #[test]
    fn a_device_that_lost_its_store_does_not_repeat_numbers() {
        let mut history = History::new(vec![], 0, 10);
        history.push(event());
        history.committed(1);
        history.begin(500);
        assert!(history.acknowledged(500).is_empty());
        assert_eq!(told(&mut history, 0), [0; 0]);
        history.committed(501);
        assert_eq!(told(&mut history, 0), [501]);
    }
}
