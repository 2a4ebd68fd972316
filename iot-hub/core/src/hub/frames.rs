//! Connections and frames: only the present session of the present connection is listened to.

use edge_protocol::v1::{Facts, HeldSet, Hello, SetAck, Up, UpFrame, VERSION};
use edge_protocol::{DeviceId, EnrolmentSerial, Incarnation, Lane, frame};

use super::devices::cut_connection;
use super::timers::Timer;
use super::{Hub, Turn};
use crate::device::{AckOutcome, Greeting};
use crate::io::{ConnectionId, DeviceState, Note};

/// Incarnations are wall clock milliseconds at most this far ahead of ours. A device that claims more is not believed, or a single one could
/// use up the numbers.
const MAX_INCARNATION_LEAD_MS: u64 = 366 * 24 * 3_600_000;

impl Hub {
    pub(super) fn connected(
        &mut self,
        turn: &mut Turn,
        id: &DeviceId,
        connection: ConnectionId,
        enrolment: &EnrolmentSerial,
    ) {
        let device = self.devices.get_mut(id).filter(|device| {
            device.record.state == DeviceState::Active && device.record.enrolment == *enrolment
        });
        let Some(device) = device else {
            cut_connection(turn, id, connection, "not an active enrolment");
            return;
        };
        if device.connection == Some(connection) {
            return;
        }
        if let Some(former) = device.connection.replace(connection) {
            cut_connection(turn, id, former, "replaced by a newer connection");
        }
        self.end_session(turn, id);
        turn.announce_device(id);
    }

    /// The loss of a connection proves nothing but itself: whether the device is there is for its deadline to say.
    pub(super) fn disconnected(&mut self, turn: &mut Turn, id: &DeviceId, connection: ConnectionId) {
        let device = self.devices.get_mut(id);
        let Some(device) = device.filter(|device| device.connection == Some(connection)) else {
            return;
        };
        device.connection = None;
        self.end_session(turn, id);
        turn.announce_device(id);
    }

    pub(super) fn frame(
        &mut self,
        turn: &mut Turn,
        id: &DeviceId,
        connection: ConnectionId,
        (lane, bytes): (Lane, &[u8]),
    ) {
        let device = self.devices.get(id);
        let Some(device) = device.filter(|device| device.connection == Some(connection)) else {
            return self.refuse(turn, id, "not of the device's present connection");
        };
        if !matches!(lane, Lane::Status | Lane::Bulk) {
            return self.refuse(
                turn,
                id,
                format!("lane '{}' is not the device's to write", lane.topic_level()),
            );
        }
        let frame: UpFrame = match frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => return self.refuse(turn, id, describe(&error)),
        };
        if frame.v != VERSION {
            return self.refuse(turn, id, format!("version {}", frame.v));
        }
        if let Up::Hello(hello) = frame.body {
            return self.hello(turn, id, connection, &hello);
        }
        let session = device.session().map(|session| session.epoch);
        if session.is_none() || session != frame.session {
            return self.refuse(turn, id, "of another session");
        }
        if let Some(device) = self.devices.get_mut(id) {
            device.spoke();
        }
        self.hear(turn, id);
        match frame.body {
            Up::Ack(ack) => self.ack(turn, id, &ack),
            Up::Status(report) => self.status(turn, id, frame.seq, report),
            Up::Events(report) => self.events(turn, id, frame.seq, report),
            Up::Facts { facts } => self.facts(turn, id, frame.seq, &facts),
            // The device listens for the hub as the hub does for the device: silence would make it dial again.
            Up::Heartbeat => {
                turn.acks.insert(id.clone());
            }
            // Its own word that it is away: nothing is gained by waiting for the deadline.
            Up::Bye => self.set_online(turn, id, false),
            Up::Stats(report) => self.stats_report(turn, id, report),
            Up::WantKeys { keys } => self.want_keys(turn, id, &keys),
            Up::Hello(_) => {}
            Up::Unknown => self.refuse(turn, id, "of a kind this hub does not know"),
        }
    }

    /// Tells that a frame was refused, up to the device's rate; the others are counted.
    pub(super) fn refuse(&mut self, turn: &mut Turn, id: &DeviceId, why: impl Into<String>) {
        let why = why.into();
        self.tell(
            turn,
            id,
            Note::FrameRefused {
                device: id.clone(),
                why,
            },
        );
    }

    /// A note that a device can bring about at will; whether it was told. Those of a device that is not known count against one allowance for all.
    pub(super) fn tell(&mut self, turn: &mut Turn, id: &DeviceId, note: Note) -> bool {
        let rates = &self.config.limits.rates;
        let allowance = match self.devices.get_mut(id) {
            Some(device) => &mut device.allowance,
            None => &mut self.strangers,
        };
        let told = allowance.refusal(rates, &turn.now);
        if told {
            turn.note(note);
        } else {
            turn.surplus(id, "refusals");
        }
        told
    }

    fn hello(&mut self, turn: &mut Turn, id: &DeviceId, connection: ConnectionId, hello: &Hello) {
        if hello.held.is_some_and(|held| !self.is_plausible(turn, &held)) {
            let why = "what it says it holds is not plausible";
            self.refuse(turn, id, why);
            return self.cut(turn, id, why);
        }
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        if device.is_repeat(connection, &hello.nonce) {
            device.greet_again();
            turn.offers.insert(id.clone());
            return self.hear(turn, id);
        }
        if !device.allowance.hello(&self.config.limits.rates, &turn.now) {
            turn.surplus(id, "hellos");
            return self.cut(turn, id, "it begins sessions too often");
        }
        let before = device.record.facts.clone();
        let session = device.begin(connection, hello);
        self.end_streams(turn, id);
        turn.offers.insert(id.clone());
        turn.note(Note::SessionBegan {
            device: id.clone(),
            session,
        });
        turn.device_changed(id);
        self.timers.cancel(&Timer::Resend(id.clone()));
        self.greet(turn, id, hello.held);
        self.hear(turn, id);
        self.follow_claims(turn, id, &before);
        self.refresh_all(turn, id);
    }

    /// What the hello said of the device is so no longer. Facts beyond its rate are not acknowledged, and it will say them with a hello.
    fn facts(&mut self, turn: &mut Turn, id: &DeviceId, seq: u64, facts: &Facts) {
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        if !device.allowance.status(&self.config.limits.rates, &turn.now) {
            return turn.surplus(id, "statuses");
        }
        let before = device.record.facts.clone();
        device.take_facts(seq, facts);
        turn.acks.insert(id.clone());
        if device.record.facts != before {
            turn.device_changed(id);
            self.follow_claims(turn, id, &before);
        }
    }

    /// An incarnation from the far future was not given by any hub. The lead counts from the wall clock alone: from our own incarnation, which
    /// a claim may raise, each claim would make room for the next. Our own is plausible whatever the clock says (law 11).
    fn is_plausible(&self, turn: &Turn, held: &HeldSet) -> bool {
        let wall = u64::try_from(turn.now.wall_ms).unwrap_or(0);
        let claimed = held.generation.incarnation;
        claimed <= self.incarnation || claimed.0 <= wall.saturating_add(MAX_INCARNATION_LEAD_MS)
    }

    /// Holds what the device has against its set. A set of an earlier incarnation is issued anew in the present one: since then this hub
    /// cannot know which of its generations the device has seen.
    fn greet(&mut self, turn: &mut Turn, id: &DeviceId, held: Option<HeldSet>) {
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        match device.greet(held.as_ref()) {
            Greeting::Same => {
                if device.acknowledge_current() {
                    turn.sets.insert(id.clone());
                    self.settle_all(turn, id);
                }
            }
            Greeting::Known => {}
            Greeting::Unknown => {
                turn.sets.insert(id.clone());
            }
            Greeting::Ahead => {
                let held = held.map_or(Incarnation(0), |held| held.generation.incarnation);
                if held >= self.incarnation {
                    self.begin_incarnation(turn, held);
                }
                turn.sets.insert(id.clone());
            }
        }
        let stale = self
            .devices
            .get(id)
            .is_some_and(|device| device.generation().incarnation != self.incarnation);
        if stale {
            turn.edited.insert(id.clone());
        }
    }

    /// This hub was restored from an older state: what it gives out from now on is above all that it gave before.
    fn begin_incarnation(&mut self, turn: &mut Turn, held: Incarnation) {
        let wall = u64::try_from(turn.now.wall_ms).unwrap_or(0);
        self.incarnation = Incarnation(wall.max(held.0.saturating_add(1)));
        turn.incarnation = true;
        turn.note(Note::NewIncarnation(self.incarnation));
        // Nobody has confirmed any of them yet: their providers are told.
        for uid in self.fleet.uids() {
            turn.announce_deployment(&uid);
        }
    }

    fn ack(&mut self, turn: &mut Turn, id: &DeviceId, ack: &SetAck) {
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        match device.ack(ack, &turn.now) {
            AckOutcome::Ignored => {}
            AckOutcome::Received => self.refresh_all(turn, id),
            AckOutcome::Persisted => {
                turn.sets.insert(id.clone());
                turn.offers.insert(id.clone());
                self.timers.cancel(&Timer::Resend(id.clone()));
                self.refresh_all(turn, id);
                self.settle_all(turn, id);
            }
            AckOutcome::WantsSnapshot => {
                turn.offers.insert(id.clone());
            }
            AckOutcome::Quarantined => {
                let (device, generation) = (id.clone(), ack.generation);
                self.tell(turn, id, Note::Quarantined { device, generation });
            }
            AckOutcome::Refused => {
                turn.announce_device(id);
                turn.note(Note::SetRefused {
                    device: id.clone(),
                    generation: ack.generation,
                    stage: ack.stage,
                });
            }
        }
    }
}

/// An error with its causes, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    edge_protocol::text::sanitise(&text)
}
