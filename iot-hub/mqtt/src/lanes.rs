//! A bounded pair of queues: the urgent one goes first, but gives the other every ninth turn.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::options::LaneLimits;

/// After this many urgent messages in a row a waiting bulk message has its turn, so that neither lane starves.
pub(crate) const URGENT_RUN: u8 = 8;

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    Urgent,
    Bulk,
}

/// Whose turn it is, given who waits. Shared by the queues of one device and the turns between devices.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    run: u8,
}

impl Turns {
    pub(crate) fn next(&mut self, urgent: bool, bulk: bool) -> Option<Rank> {
        let rank = match (urgent, bulk) {
            (false, false) => return None,
            (true, true) if self.run >= URGENT_RUN => Rank::Bulk,
            (true, _) => Rank::Urgent,
            (false, true) => Rank::Bulk,
        };
        // Only turns that bulk waited for count.
        self.run = if bulk && rank == Rank::Urgent {
            self.run + 1
        } else {
            0
        };
        Some(rank)
    }
}

/// One bounded queue of messages.
#[derive(Debug)]
pub(crate) struct Lane {
    limits: LaneLimits,
    queue: VecDeque<Bytes>,
    bytes: usize,
}

impl Lane {
    pub(crate) fn new(limits: LaneLimits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Appends `message`, or gives it back if the lane is full.
    pub(crate) fn push(&mut self, message: Bytes) -> Result<(), Bytes> {
        let full = self.queue.len() >= self.limits.messages || self.bytes + message.len() > self.limits.bytes;
        if full {
            return Err(message);
        }
        self.bytes += message.len();
        self.queue.push_back(message);
        Ok(())
    }

    /// Takes the first message; an emptied lane keeps no memory.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let message = self.queue.pop_front()?;
        self.bytes -= message.len();
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(message)
    }

    pub(crate) fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_bounded_by_messages_and_bytes() {
        let mut lane = Lane::new(LaneLimits {
            messages: 3,
            bytes: 10,
        });
        assert!(lane.push(Bytes::from_static(b"12345")).is_ok());
        assert!(lane.push(Bytes::from_static(b"123456")).is_err(), "eleven bytes");
        assert!(lane.push(Bytes::from_static(b"12345")).is_ok());
        assert!(lane.push(Bytes::from_static(b"1")).is_err(), "bytes are used up");
        lane.pop();
        assert!(lane.push(Bytes::new()).is_ok());
        assert!(lane.push(Bytes::new()).is_ok());
        assert!(lane.push(Bytes::new()).is_err(), "three messages");
    }

    #[test]
    fn urgent_goes_first_and_does_not_starve_bulk() {
        let mut turns = Turns::default();
        let ranks: Vec<_> = (0..18).map(|_| turns.next(true, true)).collect();
        let expect = |i: usize| if i % 9 == 8 { Rank::Bulk } else { Rank::Urgent };
        for (i, rank) in ranks.into_iter().enumerate() {
            assert_eq!(rank, Some(expect(i)), "turn {i}");
        }
        assert_eq!(turns.next(false, true), Some(Rank::Bulk));
        assert_eq!(turns.next(false, false), None);
    }
}
