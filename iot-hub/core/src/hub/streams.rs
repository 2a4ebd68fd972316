//! Streams: an order with a ticket goes to the device, and who comes with the ticket is given the stream, once.
//!
//! A ticket is good for one device, one enrolment and one session, for [`TICKET_MS`]. It ends with the session, and so does the stream that was
//! opened with it.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::stream::TICKET_MS;
use edge_protocol::v1::{Down, DownFrame, StreamOrder, Ticket, VERSION, ability};
use edge_protocol::{DeviceId, EnrolmentSerial, Lane, SessionEpoch, frame};

use super::timers::Timer;
use super::{Hub, Turn};
use crate::device::Device;
use crate::io::{DeviceState, Effect, Note, PresentationId, StreamAsk, StreamEnd, StreamId};

/// Streams that are ordered or open. No larger than the limits allow.
#[derive(Debug, Default)]
pub(super) struct Streams {
    all: BTreeMap<StreamId, Entry>,
    /// Those that wait for their device.
    by_ticket: BTreeMap<Ticket, StreamId>,
    by_device: BTreeMap<DeviceId, BTreeSet<StreamId>>,
}

#[derive(Debug)]
struct Entry {
    device: DeviceId,
    enrolment: EnrolmentSerial,
    session: SessionEpoch,
    /// Until the device came with it.
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    /// By the monotonic clock.
    until_ms: u64,
}

impl Streams {
    fn insert(&mut self, stream: StreamId, entry: Entry) {
        if let Some(pending) = &entry.pending {
            self.by_ticket.insert(pending.ticket.clone(), stream);
        }
        let device = entry.device.clone();
        self.by_device.entry(device).or_default().insert(stream);
        self.all.insert(stream, entry);
    }

    fn remove(&mut self, stream: StreamId) -> Option<Entry> {
        let entry = self.all.remove(&stream)?;
        if let Some(pending) = &entry.pending {
            self.by_ticket.remove(&pending.ticket);
        }
        if let Some(streams) = self.by_device.get_mut(&entry.device) {
            streams.remove(&stream);
            if streams.is_empty() {
                self.by_device.remove(&entry.device);
            }
        }
        Some(entry)
    }

    /// The ticket is spent: the stream waits no more.
    fn spend(&mut self, stream: StreamId) {
        if let Some(pending) = self.all.get_mut(&stream).and_then(|entry| entry.pending.take()) {
            self.by_ticket.remove(&pending.ticket);
        }
    }

    fn of(&self, device: &DeviceId) -> Vec<StreamId> {
        let streams = self.by_device.get(device);
        streams.into_iter().flatten().copied().collect()
    }
}

impl Hub {
    /// Streams that are ordered or open.
    pub fn streams(&self) -> usize {
        self.streams.all.len()
    }

    pub(super) fn stream_asked(&mut self, turn: &mut Turn, stream: StreamId, ask: StreamAsk) {
        if self.streams.all.contains_key(&stream) {
            return;
        }
        if let Err(why) = self.order(turn, stream, ask) {
            turn.effects.push(Effect::EndStream { stream, why });
        }
    }

    fn order(&mut self, turn: &mut Turn, stream: StreamId, ask: StreamAsk) -> Result<(), StreamEnd> {
        let StreamAsk {
            device: id,
            operator,
            request,
            ticket,
        } = ask;
        let device = self
            .devices
            .get(&id)
            .filter(|device| device.record.state != DeviceState::Decommissioned)
            .ok_or_else(|| StreamEnd::NoSuchDevice(id.clone()))?;
        // A device that has not spoken in its session may not know it yet, and would take the order for another one's.
        let session = device.session().filter(|session| session.has_spoken());
        let (Some(connection), Some(session)) = (device.connection, session) else {
            return Err(StreamEnd::NotConnected(id));
        };
        if !device.record.features.iter().any(|word| word == ability::STREAMS) {
            return Err(StreamEnd::NoStreams(id));
        }
        self.check_room(&id)?;
        let order = StreamOrder {
            v: VERSION,
            hub: self.config.hub,
            device: id.clone(),
            enrolment: device.record.enrolment.clone(),
            nonce: session.nonce.clone(),
            session: session.epoch,
            ticket: ticket.clone(),
            operator,
            request,
        };
        let frame = DownFrame {
            v: VERSION,
            body: Down::Stream {
                envelope: self.config.signer.seal_stream_order(&order),
            },
        };
        let bytes = frame::encode(&frame).map_err(|_| StreamEnd::TooLarge(id.clone()))?;
        let until_ms = turn.now.mono_ms.saturating_add(TICKET_MS);
        let entry = Entry {
            device: id.clone(),
            enrolment: order.enrolment,
            session: order.session,
            pending: Some(Pending { ticket, until_ms }),
        };
        self.streams.insert(stream, entry);
        self.timers.set(Timer::Ticket(stream), until_ms);
        turn.audited = true;
        // At once: somebody waits, and all that the order says is on disk since the device spoke of it.
        turn.effects.push(Effect::Send {
            device: id,
            connection,
            lane: Lane::Command,
            bytes,
        });
        Ok(())
    }

    fn check_room(&self, id: &DeviceId) -> Result<(), StreamEnd> {
        let limits = &self.config.limits;
        let of_device = self.streams.by_device.get(id).map_or(0, BTreeSet::len);
        if of_device >= limits.device_streams {
            return Err(StreamEnd::TooMany {
                what: format!("device {id}"),
                limit: limits.device_streams,
            });
        }
        if self.streams.all.len() >= limits.streams {
            return Err(StreamEnd::TooMany {
                what: "the hub".to_owned(),
                limit: limits.streams,
            });
        }
        Ok(())
    }

    pub(super) fn ticket_presented(
        &mut self,
        turn: &mut Turn,
        presentation: PresentationId,
        (id, enrolment): (&DeviceId, &EnrolmentSerial),
        ticket: &Ticket,
    ) {
        let stream = match self.match_ticket(turn, id, enrolment, ticket) {
            Ok(stream) => {
                self.streams.spend(stream);
                self.timers.cancel(&Timer::Ticket(stream));
                Some(stream)
            }
            Err(why) => {
                let device = id.clone();
                turn.audited |= self.tell(turn, id, Note::TicketRefused { device, why });
                None
            }
        };
        // Once the audit of its opening is on disk.
        turn.after.push(Effect::GiveStream { presentation, stream });
    }

    /// Another device's ticket stays good for that device.
    fn match_ticket(
        &self,
        turn: &Turn,
        id: &DeviceId,
        enrolment: &EnrolmentSerial,
        ticket: &Ticket,
    ) -> Result<StreamId, &'static str> {
        let stream = self.streams.by_ticket.get(ticket).copied();
        let found = stream.and_then(|stream| Some((stream, self.streams.all.get(&stream)?)));
        let Some((stream, entry)) = found else {
            return Err("unknown, spent or expired");
        };
        if entry.device != *id {
            return Err("of another device");
        }
        if entry.enrolment != *enrolment {
            return Err("of another enrolment");
        }
        let session = self.devices.get(id).and_then(Device::session);
        if session.map(|session| session.epoch) != Some(entry.session) {
            return Err("of another session");
        }
        let good = |pending: &Pending| turn.now.mono_ms < pending.until_ms;
        if !entry.pending.as_ref().is_some_and(good) {
            return Err("expired");
        }
        Ok(stream)
    }

    pub(super) fn stream_over(&mut self, stream: StreamId) {
        self.streams.remove(stream);
        self.timers.cancel(&Timer::Ticket(stream));
    }

    pub(super) fn expire_ticket(&mut self, turn: &mut Turn, stream: StreamId) {
        if let Some(entry) = self.streams.remove(stream) {
            let why = StreamEnd::Unanswered {
                device: entry.device,
                seconds: TICKET_MS / 1_000,
            };
            turn.effects.push(Effect::EndStream { stream, why });
        }
    }

    /// The session of the device is over, and with it all that was ordered in it.
    pub(super) fn end_streams(&mut self, turn: &mut Turn, id: &DeviceId) {
        let device = self.devices.get(id);
        let active = device.is_some_and(|device| device.record.state == DeviceState::Active);
        for stream in self.streams.of(id) {
            self.stream_over(stream);
            let why = if active {
                StreamEnd::SessionEnded(id.clone())
            } else {
                StreamEnd::NotAdmitted(id.clone())
            };
            turn.effects.push(Effect::EndStream { stream, why });
        }
    }
}
