//! One stream: its two directions and what waits in them.

use std::collections::VecDeque;
use std::task::Waker;

use crate::error::StreamError;
use crate::spdy::ResetCode;

/// A queue that has grown beyond this is given back as soon as it is empty.
const KEPT: usize = 4 * 1024;

/// What this side may still say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// Asked for; the peer has not replied.
    Opening,
    Open,
    /// Finished by its writer, with bytes or the end itself still to be written.
    Finishing,
    Finished,
}

/// Why a stream is over before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    ByPeer(ResetCode),
    Here,
}

impl From<Broken> for StreamError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::ByPeer(code) => Self::Reset(code),
            Broken::Here => Self::Abandoned,
        }
    }
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Entry {
    pub(super) inbound: VecDeque<u8>,
    pub(super) outbound: VecDeque<u8>,
    pub(super) own: Own,
    pub(super) peer_finished: bool,
    pub(super) broken: Option<Broken>,
    pub(super) read_held: bool,
    pub(super) write_held: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Whether it stands in the order of turns.
    pub(super) queued: bool,
}

impl Entry {
    pub(super) fn new(own: Own, peer_finished: bool) -> Self {
        Self {
            inbound: VecDeque::new(),
            outbound: VecDeque::new(),
            own,
            peer_finished,
            broken: None,
            read_held: true,
            write_held: true,
            reader: None,
            writer: None,
            queued: false,
        }
    }

    /// Whether the peer's bytes have a reader.
    pub(super) fn takes(&self) -> bool {
        self.read_held && !self.peer_finished && self.broken.is_none()
    }

    /// Whether there is something to write.
    pub(super) fn has_words(&self) -> bool {
        self.broken.is_none() && (!self.outbound.is_empty() || self.own == Own::Finishing)
    }

    /// Nothing more will be read or written, whoever holds it.
    pub(super) fn is_over(&self) -> bool {
        self.broken.is_some() || (self.peer_finished && self.own == Own::Finished)
    }

    pub(super) fn break_off(&mut self, broken: Broken) {
        if self.broken.is_none() {
            self.broken = Some(broken);
            self.outbound = VecDeque::new();
        }
        self.wake();
    }

    /// Takes up to `limit` bytes to write; whether they are the last.
    pub(super) fn take_words(&mut self, limit: usize) -> (Vec<u8>, bool) {
        let count = self.outbound.len().min(limit);
        let bytes = self.outbound.drain(..count).collect();
        give_back(&mut self.outbound);
        let fin = self.outbound.is_empty() && self.own == Own::Finishing;
        if fin {
            self.own = Own::Finished;
        }
        wake(&mut self.writer);
        (bytes, fin)
    }

    /// Moves what waits for the reader into `buffer`; how much.
    pub(super) fn read(&mut self, buffer: &mut tokio::io::ReadBuf<'_>) -> usize {
        let before = buffer.filled().len();
        let (front, back) = self.inbound.as_slices();
        for part in [front, back] {
            let count = part.len().min(buffer.remaining());
            buffer.put_slice(&part[..count]);
        }
        let count = buffer.filled().len() - before;
        self.inbound.drain(..count);
        give_back(&mut self.inbound);
        count
    }

    pub(super) fn drop_inbound(&mut self) {
        self.inbound = VecDeque::new();
    }

    pub(super) fn wake(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn give_back(queue: &mut VecDeque<u8>) {
    if queue.is_empty() && queue.capacity() > KEPT {
        *queue = VecDeque::new();
    }
}
