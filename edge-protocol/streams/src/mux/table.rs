//! All streams of a connection: who may say what, whose turn it is, what waits for whom.

use std::collections::{BTreeMap, VecDeque};

use super::entry::{Broken, Entry, Own, wake};
use crate::error::{ConnectionError, StreamError};
use crate::limits::{Limits, WRITE_CHUNK};
use crate::spdy::{Headers, ResetCode, StreamId};

/// Something to write to the connection. The WebSocket protocols have words for data and the end of all only; the rest they pass over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Open {
        stream: u32,
        headers: Headers,
    },
    Reply {
        stream: u32,
    },
    Reset {
        stream: u32,
        code: ResetCode,
    },
    Pong(u32),
    Data {
        stream: u32,
        bytes: Vec<u8>,
        fin: bool,
    },
    /// The last word. `failed`: the peer broke the protocol.
    End {
        last_accepted: u32,
        failed: bool,
    },
}

/// What the writing task does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Say(Word),
    Wait,
    Stop,
}

/// Which way a channel goes that exists from the start, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
    Both,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// This side ends the connection: what is queued is still written, what comes is discarded.
    Closing {
        said: bool,
    },
    /// `last_word`: the peer is yet to be told that it broke the protocol.
    Ended {
        reason: ConnectionError,
        last_word: bool,
    },
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) limits: Limits,
    streams: BTreeMap<u32, Entry>,
    /// Streams with something to write, each once.
    turns: VecDeque<u32>,
    signals: VecDeque<Word>,
    arrived: VecDeque<(u32, Headers)>,
    phase: Phase,
    /// The peer said that it goes.
    peer_goes: bool,
    last_accepted: u32,
    /// Whether the peer may open streams.
    accepting: bool,
    next_own: u32,
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            streams: BTreeMap::new(),
            turns: VecDeque::new(),
            signals: VecDeque::new(),
            arrived: VecDeque::new(),
            phase: Phase::Open,
            peer_goes: false,
            last_accepted: 0,
            accepting: true,
            next_own: 1,
        }
    }

    pub(super) fn entry(&mut self, stream: u32) -> Option<&mut Entry> {
        self.streams.get_mut(&stream)
    }

    pub(super) fn ended(&self) -> Option<&ConnectionError> {
        match &self.phase {
            Phase::Ended { reason, .. } => Some(reason),
            Phase::Open | Phase::Closing { .. } => None,
        }
    }

    // What the peer does.

    /// The peer opens a stream; it is replied to at once, or refused. After this side said that it goes, it is passed over.
    /// `unidirectional`: nothing may be said on it. Ids have been checked to rise.
    pub(super) fn accept(&mut self, stream: u32, headers: Headers, (fin, unidirectional): (bool, bool)) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        self.last_accepted = stream;
        if !self.accepting || self.streams.len() >= self.limits.streams {
            let code = ResetCode::REFUSED_STREAM;
            self.signals.push_back(Word::Reset { stream, code });
            return;
        }
        let own = if unidirectional { Own::Finished } else { Own::Open };
        self.streams.insert(stream, Entry::new(own, fin));
        if !unidirectional {
            self.signals.push_back(Word::Reply { stream });
        }
        self.arrived.push_back((stream, headers));
    }

    /// The peer replied to a stream that this side opened.
    pub(super) fn replied(&mut self, stream: u32, fin: bool) {
        if let Some(entry) = self.streams.get_mut(&stream)
            && entry.own == Own::Opening
        {
            entry.own = Own::Open;
            entry.wake();
            if fin {
                self.peer_finished(stream);
            }
        }
    }

    /// Data of the peer, no more than a `READ_CHUNK`: discarded if nobody can read it. `false` if it has to wait.
    #[must_use]
    pub(super) fn deliver(&mut self, stream: u32, bytes: &[u8]) -> bool {
        let open = matches!(self.phase, Phase::Open);
        let Some(entry) = self
            .streams
            .get_mut(&stream)
            .filter(|entry| open && entry.takes())
        else {
            return true;
        };
        if !self.limits.receives(entry.inbound.len()) {
            return false;
        }
        entry.inbound.extend(bytes);
        wake(&mut entry.reader);
        true
    }

    pub(super) fn peer_finished(&mut self, stream: u32) {
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.peer_finished = true;
            wake(&mut entry.reader);
            self.settle(stream);
        }
    }

    pub(super) fn peer_reset(&mut self, stream: u32, code: ResetCode) {
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.break_off(Broken::ByPeer(code));
            self.settle(stream);
        }
    }

    pub(super) fn peer_goes(&mut self) {
        self.peer_goes = true;
    }

    /// Why no stream can be opened any more, by either side.
    pub(super) fn goes(&self) -> Option<ConnectionError> {
        match &self.phase {
            Phase::Ended { reason, .. } => Some(reason.clone()),
            Phase::Closing { .. } => Some(ConnectionError::Closed),
            Phase::Open => self.peer_goes.then_some(ConnectionError::Closed),
        }
    }

    /// Whether the peer may say more: what it makes this side answer is bounded.
    pub(super) fn may_read(&self) -> bool {
        self.signals.len() < self.limits.signals() || self.ended().is_some()
    }

    pub(super) fn pong(&mut self, id: u32) {
        self.signals.push_back(Word::Pong(id));
    }

    // What users do.

    /// The next stream of the peer, or why there will be none.
    pub(super) fn arrival(&mut self) -> Result<Option<(u32, Headers)>, ConnectionError> {
        match (self.arrived.pop_front(), self.goes()) {
            (None, Some(reason)) => Err(reason),
            (arrived, _) => Ok(arrived),
        }
    }

    /// From now on the peer's streams are refused, also those that nobody took.
    pub(super) fn stop_accepting(&mut self) {
        self.accepting = false;
        for (stream, _) in std::mem::take(&mut self.arrived) {
            self.streams.remove(&stream);
            let code = ResetCode::REFUSED_STREAM;
            self.signals.push_back(Word::Reset { stream, code });
        }
    }

    /// Queues a stream of this side; the next odd id. `None` when there are too many, or no ids are left.
    pub(super) fn open(&mut self, headers: Headers) -> Option<u32> {
        let stream = self.next_own;
        let full = self.streams.len() >= self.limits.streams || self.signals.len() >= self.limits.signals();
        if full || stream > StreamId::MAX.get() {
            return None;
        }
        self.next_own += 2;
        self.streams.insert(stream, Entry::new(Own::Opening, false));
        self.signals.push_back(Word::Open { stream, headers });
        Some(stream)
    }

    /// A channel that exists from the start.
    pub(super) fn fix(&mut self, stream: u32, direction: Direction) {
        let own = if direction == Direction::In {
            Own::Finished
        } else {
            Own::Open
        };
        self.streams
            .insert(stream, Entry::new(own, direction == Direction::Out));
    }

    /// Queues bytes of a writer: how many were taken, 0 when it has to wait.
    pub(super) fn write(&mut self, stream: u32, bytes: &[u8]) -> Result<usize, StreamError> {
        let limits = self.limits;
        let entry = self.writable(stream)?;
        if !matches!(entry.own, Own::Opening | Own::Open) {
            return Err(StreamError::Finished);
        }
        let count = bytes.len().min(limits.sends(entry.outbound.len()));
        entry.outbound.extend(&bytes[..count]);
        self.queue(stream);
        Ok(count)
    }

    /// Says that nothing more will be written.
    pub(super) fn finish(&mut self, stream: u32) {
        if let Some(entry) = self.streams.get_mut(&stream)
            && matches!(entry.own, Own::Opening | Own::Open)
        {
            entry.own = Own::Finishing;
            self.queue(stream);
        }
    }

    /// The stream, if the connection and both sides still let it speak.
    pub(super) fn writable(&mut self, stream: u32) -> Result<&mut Entry, StreamError> {
        if let Phase::Ended { reason, .. } = &self.phase {
            return Err(StreamError::Connection(reason.clone()));
        }
        let entry = self.streams.get_mut(&stream).ok_or(StreamError::Abandoned)?;
        match entry.broken {
            Some(broken) => Err(broken.into()),
            None => Ok(entry),
        }
    }

    pub(super) fn drop_reader(&mut self, stream: u32) {
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.read_held = false;
            entry.drop_inbound();
            entry.reader = None;
            self.settle(stream);
        }
    }

    /// A writer that did not finish breaks the stream off.
    pub(super) fn drop_writer(&mut self, stream: u32) {
        let Some(entry) = self.streams.get_mut(&stream) else {
            return;
        };
        entry.write_held = false;
        entry.writer = None;
        if matches!(entry.own, Own::Opening | Own::Open) && entry.broken.is_none() {
            entry.break_off(Broken::Here);
            self.cancel(stream);
        }
        self.settle(stream);
    }

    // The writing task and the ends.

    /// The next word. Signals come before data, and streams take turns.
    pub(super) fn next(&mut self) -> Next {
        if let Phase::Ended { last_word, .. } = &mut self.phase {
            let last_accepted = self.last_accepted;
            return if std::mem::take(last_word) {
                Next::Say(Word::End {
                    last_accepted,
                    failed: true,
                })
            } else {
                Next::Stop
            };
        }
        if let Some(signal) = self.signals.pop_front() {
            return Next::Say(signal);
        }
        while let Some(stream) = self.turns.pop_front() {
            if let Some(word) = self.turn(stream) {
                return Next::Say(word);
            }
        }
        if let Phase::Closing { said: said @ false } = &mut self.phase {
            *said = true;
            let last_accepted = self.last_accepted;
            return Next::Say(Word::End {
                last_accepted,
                failed: false,
            });
        }
        Next::Wait
    }

    fn turn(&mut self, stream: u32) -> Option<Word> {
        let entry = self.streams.get_mut(&stream)?;
        entry.queued = false;
        if !entry.has_words() {
            return None;
        }
        let (bytes, fin) = entry.take_words(WRITE_CHUNK);
        self.queue(stream);
        self.settle(stream);
        Some(Word::Data { stream, bytes, fin })
    }

    /// Begins the end: streams are finished with what they have queued, then the last word is said.
    pub(super) fn close(&mut self) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        self.stop_accepting();
        self.phase = Phase::Closing { said: false };
        let streams: Vec<u32> = self.streams.keys().copied().collect();
        for stream in streams {
            self.finish(stream);
            if let Some(entry) = self.streams.get_mut(&stream) {
                entry.wake();
            }
        }
    }

    /// Whether all that was written to these streams is on its way, as far as it can be.
    pub(super) fn is_written(&self, streams: &[u32]) -> bool {
        let waits = |stream| self.streams.get(stream).is_some_and(Entry::has_words);
        self.ended().is_some() || !streams.iter().any(waits)
    }

    /// Whether every direction that this side could write is finished and written.
    pub(super) fn is_quiet(&self) -> bool {
        let mut entries = self.streams.values();
        self.ended().is_some() || entries.all(|entry| entry.broken.is_some() || entry.own == Own::Finished)
    }

    /// Whether both sides have said their last word.
    pub(super) fn is_done(&self) -> bool {
        self.peer_goes && matches!(self.phase, Phase::Closing { said: true })
    }

    /// The stream of bytes is over: in order or not, depending on what was said before.
    pub(super) fn over(&self) -> ConnectionError {
        match self.phase {
            Phase::Closing { said: true } => ConnectionError::Closed,
            _ if self.peer_goes => ConnectionError::Closed,
            _ => ConnectionError::Vanished,
        }
    }

    /// The end; the first reason stays. The streams' readers still get what came before it.
    pub(super) fn end(&mut self, reason: ConnectionError, tell: bool) {
        if self.ended().is_some() {
            return;
        }
        self.phase = Phase::Ended {
            reason,
            last_word: tell,
        };
        self.signals = VecDeque::new();
        self.turns = VecDeque::new();
        for entry in self.streams.values_mut() {
            entry.outbound = VecDeque::new();
            entry.wake();
        }
    }

    fn cancel(&mut self, stream: u32) {
        if self.ended().is_none() {
            let code = ResetCode::CANCEL;
            self.signals.push_back(Word::Reset { stream, code });
        }
    }

    fn queue(&mut self, stream: u32) {
        if let Some(entry) = self.streams.get_mut(&stream)
            && entry.has_words()
            && !entry.queued
        {
            entry.queued = true;
            self.turns.push_back(stream);
        }
    }

    /// Forgets a stream that nobody holds, as soon as nothing of it is left to say. A peer that could go on gets told.
    fn settle(&mut self, stream: u32) {
        let Some(entry) = self.streams.get(&stream) else {
            return;
        };
        if entry.read_held || entry.write_held {
            return;
        }
        let ended = self.ended().is_some();
        if entry.is_over() || ended {
            self.streams.remove(&stream);
        } else if entry.own == Own::Finished {
            self.streams.remove(&stream);
            self.cancel(stream);
        }
    }
}

#[cfg(test)]
mod tests;
