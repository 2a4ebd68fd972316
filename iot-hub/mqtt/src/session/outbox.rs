//! What waits for one device: a bounded lane each for commands and desired sets.

use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::lanes::{Lane, Rank, Turns};
use crate::options::Options;
use crate::topics::DownLane;

pub(crate) struct Outbox {
    state: Mutex<State>,
    work: Notify,
}

struct State {
    command: Lane,
    desired: Lane,
    turns: Turns,
    closed: bool,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

impl Outbox {
    pub(crate) fn new(options: &Options) -> Self {
        let state = State {
            command: Lane::new(options.command),
            desired: Lane::new(options.desired),
            turns: Turns::default(),
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            work: Notify::new(),
        }
    }

    pub(crate) fn push(&self, lane: DownLane, message: Bytes) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        let queue = match lane {
            DownLane::Command => &mut state.command,
            DownLane::Desired => &mut state.desired,
        };
        queue.push(message).map_err(|_| Refused::Full)?;
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// The next message in fair order among the lanes that `open` admits.
    pub(crate) fn pop(&self, open: impl Fn(DownLane) -> bool) -> Option<(DownLane, Bytes)> {
        let mut state = self.lock();
        let command = open(DownLane::Command) && !state.command.is_empty();
        let desired = open(DownLane::Desired) && !state.desired.is_empty();
        match state.turns.next(command, desired)? {
            Rank::Urgent => state.command.pop().map(|message| (DownLane::Command, message)),
            Rank::Bulk => state.desired.pop().map(|message| (DownLane::Desired, message)),
        }
    }

    /// Resolves after a push. For one waiter.
    pub(crate) async fn pushed(&self) {
        self.work.notified().await;
    }

    /// Takes no more messages and drops those that wait.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.command.clear();
        state.desired.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_go_first_among_the_open_lanes() {
        let outbox = Outbox::new(&Options::default());
        for lane in [DownLane::Desired, DownLane::Desired, DownLane::Command] {
            outbox.push(lane, Bytes::from_static(b"x")).expect("room");
        }
        let lane = |open: &dyn Fn(DownLane) -> bool| outbox.pop(open).map(|(lane, _)| lane);
        assert_eq!(lane(&|_| false), None);
        assert_eq!(lane(&|lane| lane == DownLane::Desired), Some(DownLane::Desired));
        assert_eq!(lane(&|_| true), Some(DownLane::Command));
        assert_eq!(lane(&|_| true), Some(DownLane::Desired));
        assert_eq!(lane(&|_| true), None);
    }

    #[test]
    fn a_closed_outbox_takes_nothing() {
        let outbox = Outbox::new(&Options::default());
        outbox.push(DownLane::Command, Bytes::new()).expect("room");
        outbox.close();
        assert_eq!(outbox.push(DownLane::Command, Bytes::new()), Err(Refused::Closed));
        assert_eq!(outbox.pop(|_| true), None);
    }
}
