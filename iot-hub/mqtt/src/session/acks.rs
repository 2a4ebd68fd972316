//! PUBACKs that wait a moment for company.
//!
//! The hub answers most messages within milliseconds. A PUBACK that goes out with the answer, in one TLS record and one segment, costs a device
//! on a metered link 4 bytes; alone it costs 78 and wakes the radio a second time.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use crate::codec;

/// How long the first may wait. Linux delays the acknowledgement of a segment by 40 ms (`TCP_DELACK_MIN`), so up to here one packet carries all.
const MOST: Duration = Duration::from_millis(30);
/// How many may wait: less than any client's window, so that none stops sending for want of them.
const MANY: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Acks {
    /// In the order of their messages (MQTT 3.1.1, 4.6.0-2).
    waiting: Vec<u16>,
    due: Option<Instant>,
}

impl Acks {
    pub(super) fn add(&mut self, pkid: u16, now: Instant) {
        self.waiting.push(pkid);
        self.due.get_or_insert(now + MOST);
    }

    /// When they go although nothing else does.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Appends them to `out` if that goes out anyway, if they are many, or if the first has waited long enough.
    pub(super) fn put(&mut self, now: Instant, out: &mut BytesMut) {
        let overdue = self.due.is_some_and(|due| due <= now);
        if overdue || !out.is_empty() || self.waiting.len() >= MANY {
            for pkid in self.waiting.drain(..) {
                codec::put_puback(pkid, out);
            }
            self.due = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds `count` and says which went out after `waited` milliseconds, with `other` in the buffer before.
    fn gone(count: u16, waited: u64, other: &[u8]) -> Vec<u8> {
        let (mut acks, start) = (Acks::default(), Instant::now());
        (1..=count).for_each(|pkid| acks.add(pkid, start));
        let mut out = BytesMut::from(other);
        acks.put(start + Duration::from_millis(waited), &mut out);
        assert_eq!(acks.due().is_some(), out.len() == other.len() && count > 0);
        out[other.len()..].to_vec()
    }

    #[test]
    fn what_waits_goes_with_the_next_thing_or_when_it_is_time() {
        let check = |count, waited, other: &[u8], expect: &[u8]| {
            let pkids: Vec<u8> = gone(count, waited, other).chunks(4).map(|ack| ack[3]).collect();
            assert_eq!(pkids, expect, "{count} after {waited} ms with {other:?}");
        };
        check(0, 100, b"", &[]);
        check(0, 0, b"x", &[]);
        check(1, 0, b"", &[]);
        check(1, 29, b"", &[]);
        check(1, 30, b"", &[1]);
        check(2, 0, b"x", &[1, 2]);
        check(7, 0, b"", &[]);
        check(8, 0, b"", &[1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
