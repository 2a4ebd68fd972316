//! Device → session: one session per device, begun and ended in sequence.
//!
//! A slot is claimed when a CONNECT is accepted and released after the session's `Disconnected` was handed to the hub.
//! Between the two nobody else can be that device. A newcomer stops the holder and waits for the release, so an old
//! session never acts after a new one began (K6 and K7 in rumqttd).

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::endpoint::SessionInfo;
use crate::gate::Identity;
use crate::ids::{ConnectionId, DeviceId};
use crate::reason::{CutReason, DisconnectReason};
use crate::session::Outbox;

/// What [`EndpointHandle::cut`](crate::EndpointHandle::cut) ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutTarget {
    /// This one connection, if it still is the device's session.
    Connection(DeviceId, ConnectionId),
    /// Whatever session the device has.
    Device(DeviceId),
}

pub(crate) struct Table {
    max_sessions: usize,
    max_arrivals: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    slots: HashMap<DeviceId, Arc<Slot>>,
    arrivals: HashMap<DeviceId, usize>,
    last_connection: u64,
    /// Rises with every cut; see [`Table::epoch`].
    epoch: u64,
    closing: bool,
}

/// The claim of one session on its device.
pub(crate) struct Slot {
    pub(crate) identity: Identity,
    pub(crate) connection: ConnectionId,
    pub(crate) peer: SocketAddr,
    pub(crate) outbox: Outbox,
    stop: CancellationToken,
    stop_reason: OnceLock<DisconnectReason>,
    released: CancellationToken,
}

impl Slot {
    /// Resolves when the session is to end.
    pub(crate) async fn stopped(&self) -> DisconnectReason {
        self.stop.cancelled().await;
        self.stop_reason
            .get()
            .copied()
            .unwrap_or(DisconnectReason::Stopping)
    }

    /// Resolves when the session has ended and the hub knows.
    pub(crate) async fn released(&self) {
        self.released.cancelled().await;
    }

    fn stop(&self, reason: DisconnectReason) {
        self.outbox.close();
        // Only the first reason counts.
        let _ = self.stop_reason.set(reason);
        self.stop.cancel();
    }
}

/// Why a slot could not be claimed.
pub(crate) enum Occupied {
    /// By this session, which was told to stop; try again when it is released.
    Held(Arc<Slot>),
    /// Something was cut since the gate was asked: ask again.
    GateOutdated,
    Capacity,
    Closing,
}

impl Table {
    pub(crate) fn new(max_sessions: usize, max_arrivals: usize) -> Self {
        Self {
            max_sessions,
            max_arrivals,
            state: Mutex::new(State::default()),
        }
    }

    /// A number to take before asking the gate and to hand to [`claim`](Self::claim): an answer from before a cut does
    /// not open a session after it.
    pub(crate) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Makes this connection the device's session, or says what stands in the way. A holder is told to stop.
    pub(crate) fn claim(
        &self,
        identity: &Identity,
        peer: SocketAddr,
        epoch: u64,
        outbox: impl FnOnce() -> Outbox,
    ) -> Result<Arc<Slot>, Occupied> {
        let mut state = self.lock();
        if state.closing {
            return Err(Occupied::Closing);
        }
        if state.epoch != epoch {
            return Err(Occupied::GateOutdated);
        }
        if let Some(holder) = state.slots.get(&identity.device) {
            let holder = Arc::clone(holder);
            drop(state);
            holder.stop(DisconnectReason::TakenOver);
            return Err(Occupied::Held(holder));
        }
        if state.slots.len() >= self.max_sessions {
            return Err(Occupied::Capacity);
        }
        state.last_connection += 1;
        let slot = Arc::new(Slot {
            identity: identity.clone(),
            connection: ConnectionId(state.last_connection),
            peer,
            outbox: outbox(),
            stop: CancellationToken::new(),
            stop_reason: OnceLock::new(),
            released: CancellationToken::new(),
        });
        state.slots.insert(identity.device.clone(), Arc::clone(&slot));
        Ok(slot)
    }

    /// Frees the slot of an ended session; of no effect on any other session of the device.
    pub(crate) fn release(&self, device: &DeviceId, connection: ConnectionId) {
        let mut state = self.lock();
        if state
            .slots
            .get(device)
            .is_some_and(|slot| slot.connection == connection)
        {
            let slot = state.slots.remove(device);
            drop(state);
            if let Some(slot) = slot {
                slot.released.cancel();
            }
        }
    }

    /// The session of a device, if it is this connection and was not told to stop.
    pub(crate) fn live(&self, device: &DeviceId, connection: ConnectionId) -> Option<Arc<Slot>> {
        let state = self.lock();
        let slot = state
            .slots
            .get(device)
            .filter(|slot| slot.connection == connection)?;
        if slot.stop.is_cancelled() {
            None
        } else {
            Some(Arc::clone(slot))
        }
    }

    pub(crate) fn sessions(&self) -> Vec<SessionInfo> {
        let state = self.lock();
        let live = state.slots.values().filter(|slot| !slot.stop.is_cancelled());
        live.map(|slot| SessionInfo {
            device: slot.identity.device.clone(),
            serial: slot.identity.serial.clone(),
            connection: slot.connection,
            peer: slot.peer,
        })
        .collect()
    }

    /// Stops the sessions that match and outdates every answer of the gate that has not become a session yet.
    pub(crate) fn cut(&self, target: &CutTarget, reason: CutReason) -> usize {
        let mut state = self.lock();
        state.epoch += 1;
        let hit: Vec<_> = match target {
            CutTarget::Connection(device, connection) => state
                .slots
                .get(device)
                .filter(|slot| slot.connection == *connection)
                .cloned()
                .into_iter()
                .collect(),
            CutTarget::Device(device) => state.slots.get(device).cloned().into_iter().collect(),
        };
        drop(state);
        let live: Vec<_> = hit.into_iter().filter(|slot| !slot.stop.is_cancelled()).collect();
        for slot in &live {
            slot.stop(DisconnectReason::Cut(reason));
        }
        live.len()
    }

    /// Lets no session begin any more and stops all.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        let all: Vec<_> = state.slots.values().cloned().collect();
        drop(state);
        for slot in all {
            slot.stop(DisconnectReason::Stopping);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().slots.is_empty()
    }

    /// Counts a connection of a device that has not sent its CONNECT yet; `None` if there are too many. Without this
    /// bound one device's certificate could hold all connections of the port.
    pub(crate) fn arrive(self: &Arc<Self>, device: &DeviceId) -> Option<Arrival> {
        let mut state = self.lock();
        let count = state.arrivals.entry(device.clone()).or_insert(0);
        if *count >= self.max_arrivals {
            return None;
        }
        *count += 1;
        Some(Arrival {
            table: Arc::clone(self),
            device: device.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

/// A connection between gate and session; uncounted when dropped.
pub(crate) struct Arrival {
    table: Arc<Table>,
    device: DeviceId,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut state = self.table.lock();
        if let Some(count) = state.arrivals.get_mut(&self.device) {
            *count -= 1;
            if *count == 0 {
                state.arrivals.remove(&self.device);
            }
        }
    }
}
