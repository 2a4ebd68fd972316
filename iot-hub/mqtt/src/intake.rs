//! Messages and session events from all devices on their way to the hub, one fair turn each.
//!
//! Every session has its own bounded lanes; the dispatcher takes one message per session and turn. Status of all
//! sessions goes before bulk of all sessions, except that bulk has every ninth turn. So a flooding device fills its own
//! lanes, is no longer read, and another device's message waits for at most one turn of each session.
//!
//! Per session the order is: `Connected`, messages (ordered within a lane), `Disconnected`.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::endpoint::Event;
use crate::ids::{ConnectionId, DeviceId};
use crate::lanes::{Lane, Rank, Turns};
use crate::options::Options;
use crate::topics::UpLane;

pub(crate) struct Intake {
    limits: [crate::options::LaneLimits; 2],
    state: Mutex<State>,
    work: Notify,
}

#[derive(Default)]
struct State {
    entries: HashMap<ConnectionId, Entry>,
    status: VecDeque<ConnectionId>,
    bulk: VecDeque<ConnectionId>,
    turns: Turns,
}

struct Entry {
    device: DeviceId,
    opened: Option<Event>,
    status: Lane,
    bulk: Lane,
    closed: Option<Event>,
    /// Whether the session stands in the status ring and in the bulk ring.
    ringed: (bool, bool),
    space: Arc<Notify>,
}

/// A lane is full; here is the message back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full(pub(crate) Bytes);

impl Intake {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            limits: [options.status, options.bulk],
            state: Mutex::new(State::default()),
            work: Notify::new(),
        }
    }

    /// Begins a session. The returned notice rings whenever the session's lanes got room.
    pub(crate) fn open(&self, device: DeviceId, connection: ConnectionId, connected: Event) -> Arc<Notify> {
        let space = Arc::new(Notify::new());
        let [status, bulk] = self.limits;
        let entry = Entry {
            device,
            opened: Some(connected),
            status: Lane::new(status),
            bulk: Lane::new(bulk),
            closed: None,
            ringed: (false, false),
            space: Arc::clone(&space),
        };
        let mut state = self.lock();
        state.entries.insert(connection, entry);
        state.ring(connection);
        drop(state);
        self.work.notify_one();
        space
    }

    /// Queues a message of an open session.
    ///
    /// # Errors
    /// [`Full`] if the lane has no room. A message of a session that is closed or unknown is dropped.
    pub(crate) fn push(&self, connection: ConnectionId, lane: UpLane, message: Bytes) -> Result<(), Full> {
        let mut state = self.lock();
        let Some(entry) = state
            .entries
            .get_mut(&connection)
            .filter(|entry| entry.closed.is_none())
        else {
            return Ok(());
        };
        let queue = match lane {
            UpLane::Status => &mut entry.status,
            UpLane::Bulk => &mut entry.bulk,
        };
        queue.push(message).map_err(Full)?;
        state.ring(connection);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Ends a session: `disconnected` follows what still waits, or replaces it if `discard`. Only the first end counts.
    pub(crate) fn close(&self, connection: ConnectionId, disconnected: Event, discard: bool) {
        let mut state = self.lock();
        let Some(entry) = state
            .entries
            .get_mut(&connection)
            .filter(|entry| entry.closed.is_none())
        else {
            return;
        };
        if discard {
            entry.status.clear();
            entry.bulk.clear();
        }
        entry.closed = Some(disconnected);
        state.ring(connection);
        drop(state);
        self.work.notify_one();
    }

    /// The next event in fair order. Cancel-safe. For one caller at a time.
    pub(crate) async fn next(&self) -> Event {
        loop {
            if let Some(event) = self.lock().pop() {
                return event;
            }
            self.work.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl State {
    /// Puts a session into the rings where it has work.
    fn ring(&mut self, connection: ConnectionId) {
        let Some(entry) = self.entries.get_mut(&connection) else {
            return;
        };
        if entry.has_status_work() && !entry.ringed.0 {
            entry.ringed.0 = true;
            self.status.push_back(connection);
        }
        if !entry.bulk.is_empty() && !entry.ringed.1 {
            entry.ringed.1 = true;
            self.bulk.push_back(connection);
        }
    }

    fn pop(&mut self) -> Option<Event> {
        while let Some(rank) = self.turns.next(!self.status.is_empty(), !self.bulk.is_empty()) {
            let ring = match rank {
                Rank::Urgent => &mut self.status,
                Rank::Bulk => &mut self.bulk,
            };
            let connection = ring.pop_front()?;
            let Some(entry) = self.entries.get_mut(&connection) else {
                continue;
            };
            match rank {
                Rank::Urgent => entry.ringed.0 = false,
                Rank::Bulk => entry.ringed.1 = false,
            }
            let event = entry.pop(connection, rank);
            if matches!(event, Some(Event::Disconnected { .. })) {
                self.entries.remove(&connection);
            } else {
                self.ring(connection);
            }
            if event.is_some() {
                return event;
            }
        }
        None
    }
}

impl Entry {
    /// Session events go with status: the beginning before all messages, the end after all of them.
    fn has_status_work(&self) -> bool {
        let end = self.closed.is_some() && self.bulk.is_empty();
        self.opened.is_some() || !self.status.is_empty() || end
    }

    fn pop(&mut self, connection: ConnectionId, rank: Rank) -> Option<Event> {
        if let Some(connected) = self.opened.take() {
            return Some(connected);
        }
        let (lane, queue) = match rank {
            Rank::Urgent => (UpLane::Status, &mut self.status),
            Rank::Bulk => (UpLane::Bulk, &mut self.bulk),
        };
        if let Some(bytes) = queue.pop() {
            self.space.notify_one();
            return Some(Event::Message {
                device: self.device.clone(),
                connection,
                lane,
                bytes,
            });
        }
        if self.status.is_empty() && self.bulk.is_empty() {
            self.closed.take()
        } else {
            None
        }
    }
}
