//! Counters of the port, by fixed words only: no label comes from a peer.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::reason::{DisconnectReason, RefuseReason};
use crate::topics::{DownLane, UpLane};

/// The counters of acceptor and endpoint. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    connects: Counter,
    refused: Family<ReasonLabel, Counter>,
    disconnects: Family<ReasonLabel, Counter>,
    messages: Family<MessageLabels, Counter>,
    sessions: Gauge,
    handshaking: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    lane: &'static str,
    direction: &'static str,
}

/// A lane's word in metrics.
#[derive(Clone, Copy)]
pub(crate) struct LaneWord(&'static str);

impl From<UpLane> for LaneWord {
    fn from(lane: UpLane) -> Self {
        Self(match lane {
            UpLane::Status => "status",
            UpLane::Bulk => "bulk",
        })
    }
}

impl From<DownLane> for LaneWord {
    fn from(lane: DownLane) -> Self {
        Self(match lane {
            DownLane::Command => "command",
            DownLane::Desired => "desired",
        })
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Up,
    Down,
}

impl Metrics {
    /// Registers everything below `mqtt_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("mqtt");
        registry.register("connects", "Sessions begun", self.connects.clone());
        registry.register(
            "refused",
            "Connections that became no session",
            self.refused.clone(),
        );
        registry.register("disconnects", "Sessions ended", self.disconnects.clone());
        registry.register(
            "messages",
            "Messages taken from and written to devices",
            self.messages.clone(),
        );
        registry.register("sessions", "Sessions now", self.sessions.clone());
        registry.register(
            "handshaking",
            "Connections in the TLS handshake now",
            self.handshaking.clone(),
        );
    }

    /// Connections refused for this reason since the start.
    pub fn refused_for(&self, reason: RefuseReason) -> u64 {
        self.refused
            .get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            })
            .get()
    }

    /// Connections in the TLS handshake now.
    pub fn handshaking(&self) -> i64 {
        self.handshaking.get()
    }

    pub(crate) fn connected(&self) {
        self.connects.inc();
        self.sessions.inc();
    }

    pub(crate) fn disconnected(&self, reason: DisconnectReason) {
        self.disconnects
            .get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            })
            .inc();
        self.sessions.dec();
    }

    pub(crate) fn refused(&self, reason: RefuseReason) {
        self.refused
            .get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            })
            .inc();
    }

    pub(crate) fn message(&self, lane: LaneWord, direction: Direction) {
        let direction = match direction {
            Direction::Up => "up",
            Direction::Down => "down",
        };
        self.messages
            .get_or_create(&MessageLabels {
                lane: lane.0,
                direction,
            })
            .inc();
    }

    /// Counts a handshake while the returned value lives.
    pub(crate) fn handshake(&self) -> Handshaking {
        self.handshaking.inc();
        Handshaking(self.handshaking.clone())
    }
}

pub(crate) struct Handshaking(Gauge);

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.0.dec();
    }
}
