//! Links: connections that come and go, and lanes that lose, double, reorder and repeat frames.

use edge_agent_core as agent;
use edge_protocol::Lane;
use iot_hub_core as hub;

use crate::coverage::Path;
use crate::event::{AgentEvent, At, DeviceEvent, Event, Frame, HubEvent};
use crate::trace::say;
use crate::world::World;

/// Frames kept to be sent once more in a later session.
const KEPT: usize = 24;

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) network: bool,
    pub(crate) connection: Option<u64>,
    dialing: bool,
    /// By lane, when the last frame arrives: within a lane frames keep their order.
    tails: [u64; 4],
    past: Vec<Frame>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            network: true,
            connection: None,
            dialing: false,
            tails: [0; 4],
            past: Vec::new(),
        }
    }
}

impl Link {
    /// Nobody dials: the process that did is gone.
    pub(crate) fn hang_up(&mut self) {
        self.dialing = false;
    }
}

fn index(lane: Lane) -> usize {
    match lane {
        Lane::Desired => 0,
        Lane::Command => 1,
        Lane::Status => 2,
        Lane::Bulk => 3,
    }
}

impl World {
    pub(crate) fn redial(&mut self, at: At) {
        let device = &mut self.devices[at];
        if device.agent.is_none() || std::mem::replace(&mut device.link.dialing, true) {
            return;
        }
        let life = device.life;
        let delay = self.rng.within(200, 3_000);
        self.push(delay, Event::Agent(at, life, AgentEvent::Dial));
    }

    pub(crate) fn dial(&mut self, at: At) {
        let link = &mut self.devices[at].link;
        if !std::mem::take(&mut link.dialing) || link.connection.is_some() {
            return;
        }
        if !link.network || self.hub.hub.is_none() {
            return self.redial(at);
        }
        self.connections += 1;
        let connection = self.connections;
        let link = &mut self.devices[at].link;
        link.connection = Some(connection);
        link.tails = [0; 4];
        say!(self, self.devices[at].id, "connection {connection}");
        let delay = self.rng.within(5, 60);
        let life = self.devices[at].life;
        self.push(delay, Event::Agent(at, life, AgentEvent::LinkUp(connection)));
        let device = &self.devices[at];
        let input = hub::Input::Connected {
            device: device.id.clone(),
            connection: hub::ConnectionId(connection),
            enrolment: device.enrolment.clone(),
        };
        self.step_hub(input);
    }

    pub(crate) fn link_up(&mut self, at: At, connection: u64) {
        if self.devices[at].link.connection == Some(connection) {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&self.rng.draw().to_be_bytes());
            self.step_agent(at, agent::Input::LinkUp { nonce });
        }
    }

    /// The connection is gone. The hub may be slow to see it; an agent that caused it knows.
    pub(crate) fn lose_link(&mut self, at: At, tell_agent: bool) {
        let Some(connection) = self.devices[at].link.connection.take() else {
            return;
        };
        self.coverage.met(Path::LinkLost);
        let soon = self.devices[at].link.network && self.rng.below(4) > 0;
        let delay = if soon { self.rng.within(5, 2_000) } else { 45_000 };
        let gone = HubEvent::Disconnected {
            device: at,
            connection,
        };
        let life = self.hub.life;
        self.push(delay, Event::Hub(life, gone));
        if tell_agent {
            let life = self.devices[at].life;
            let delay = self.rng.within(5, 500);
            self.push(delay, Event::Agent(at, life, AgentEvent::LinkDown));
        }
    }

    /// The network of a device is gone for a while: nothing arrives, and nobody is told.
    pub(crate) fn partition(&mut self, at: At, for_ms: u64) {
        self.coverage.met(Path::Partition);
        say!(self, self.devices[at].id, "network gone for {for_ms} ms");
        self.devices[at].link.network = false;
        self.push(for_ms, Event::Device(at, DeviceEvent::NetworkBack));
        if let Some(connection) = self.devices[at].link.connection {
            let noticed = self.rng.within(30_000, 50_000);
            self.push(noticed, Event::Device(at, DeviceEvent::Noticed(connection)));
        }
    }

    /// Keep-alive ran out at both ends.
    pub(crate) fn notice(&mut self, at: At, connection: u64) {
        let link = &self.devices[at].link;
        if !link.network && link.connection == Some(connection) {
            self.lose_link(at, true);
        }
    }

    pub(crate) fn transmit(&mut self, at: At, up: bool, frame: &Frame) {
        let Some(connection) = self.devices[at].link.connection else {
            return;
        };
        self.ledger.frames += 1;
        if self.calm_at.is_none() {
            let past = &mut self.devices[at].link.past;
            past.push(frame.clone());
            past.drain(..past.len().saturating_sub(KEPT));
            self.replay(at, up);
        }
        if self.strikes(Path::FrameLost, self.weather.drop) {
            say!(self, "wire", "loses a frame of {}", self.devices[at].id);
            return;
        }
        let copies = if self.strikes(Path::FrameDoubled, self.weather.duplicate) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let delay = self.rng.within(3, 150);
            let tail = self.devices[at].link.tails[index(frame.lane)];
            let due = if self.strikes(Path::FrameLate, self.weather.reorder) {
                self.now + delay * 20
            } else {
                let due = (self.now + delay).max(tail);
                self.devices[at].link.tails[index(frame.lane)] = due;
                due
            };
            let event = Event::Arrives {
                device: at,
                connection,
                frame: frame.clone(),
            };
            self.queue.push(due, event);
        }
    }

    /// A broker that is not to be trusted says something once more, or to someone else. Upwards the certificate forbids the latter.
    fn replay(&mut self, at: At, up: bool) {
        let often = self.weather.replay;
        if !self.rng.chance(often) {
            return;
        }
        let to = if up || self.rng.flip() {
            at
        } else {
            self.rng.below(self.devices.len())
        };
        let old = self.rng.pick(&self.devices[at].link.past).cloned();
        let down = |frame: &Frame| matches!(frame.lane, Lane::Desired | Lane::Command);
        if let (Some(frame), Some(connection)) = (
            old.filter(|frame| to == at || down(frame)),
            self.devices[to].link.connection,
        ) {
            self.coverage.met(if to == at {
                Path::FrameReplayed
            } else {
                Path::FrameMisrouted
            });
            say!(
                self,
                "wire",
                "gives {} an old frame of {}",
                self.devices[to].id,
                self.devices[at].id
            );
            let delay = self.rng.within(3, 2_000);
            let event = Event::Arrives {
                device: to,
                connection,
                frame,
            };
            self.push(delay, event);
        }
    }

    pub(crate) fn arrive(&mut self, at: At, connection: u64, frame: &Frame) {
        let device = &self.devices[at];
        if device.link.connection != Some(connection) || !device.link.network {
            return;
        }
        let bytes = frame.bytes.to_vec();
        if matches!(frame.lane, Lane::Desired | Lane::Command) {
            return self.step_agent(at, agent::Input::Frame(frame.lane, bytes));
        }
        if self.hub.hub.is_none() {
            return;
        }
        self.hear(at, frame.word.as_deref());
        let input = hub::Input::Frame {
            device: self.devices[at].id.clone(),
            connection: hub::ConnectionId(connection),
            lane: frame.lane,
            bytes,
        };
        self.step_hub(input);
    }
}
