//! Frames from the hub to a device. What changes a device is a signed [`Statement`]; what only acknowledges is not.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::facts::LinkClass;
use super::object::KeyWrap;
use super::stats::StatsAsk;
use crate::set::SetItem;
use crate::sign::Envelope;
use crate::{
    DeviceId, Digest, EnrolmentSerial, HubId, Incarnation, Nonce, PodUid, SessionEpoch, SetGeneration,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownFrame {
    pub v: u16,
    pub body: Down,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Down {
    /// A signed statement, with those blobs it names that are small enough to travel along. The device fetches the others by digest.
    Statement {
        envelope: Envelope,
        blobs: Vec<Blob>,
    },
    Ack(ReportAck),
    /// Content keys that the device asked for, or waits for: unsigned, for a forged one opens nothing.
    Keys {
        wraps: Vec<KeyWrap>,
    },
    /// A signed [`StreamOrder`](super::StreamOrder), for devices with the ability [`STREAMS`](super::ability::STREAMS).
    Stream {
        envelope: Envelope,
    },
    /// Somebody asks what a device with the ability [`STATS`](super::ability::STATS) uses.
    StatsAsk(StatsAsk),
    /// A kind of a newer hub: counted and ignored.
    #[serde(other)]
    Unknown,
}

/// Content by its address. The reader checks the digest; the signature covers the digest. `Debug` does not show the body.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Blob {
    pub digest: Digest,
    pub body: String,
}

impl Blob {
    pub fn new(body: impl Into<String>) -> Self {
        let body = body.into();
        Self {
            digest: Digest::of(&body),
            body,
        }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.digest, self.body.len())
    }
}

/// The hub has committed all reports up to these.
///
/// It is unsigned, because it changes nothing a device runs, but it lets a device forget what it has to report: the nonce of the session's
/// hello binds it to that one session of that one device, whatever a broker delivers where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAck {
    pub nonce: Nonce,
    pub session: SessionEpoch,
    pub status_upto: u64,
    pub event_seq: u64,
    /// The newest frame of this session whose facts are on disk, if one but the hello told any. Hubs that do not know such frames never say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts_seq: Option<u64>,
}

/// What the hub signs. All of the binding must match the device's own session before the body is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    pub v: u16,
    pub hub: HubId,
    pub incarnation: Incarnation,
    pub device: DeviceId,
    pub enrolment: EnrolmentSerial,
    /// The nonce of the hello that began the session.
    pub nonce: Nonce,
    pub session: SessionEpoch,
    /// Rises by one per statement of a session, from 1: a replay inside the session is recognised.
    pub seq: u64,
    /// The request that caused it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The hub's wall clock, in milliseconds since the Unix epoch: raises the device's floor of trusted time.
    pub issued_ms: i64,
    pub link: LinkClass,
    /// The set after this statement.
    pub generation: SetGeneration,
    pub set_digest: Digest,
    /// Reports the hub already has on disk from earlier sessions.
    pub status_upto: u64,
    pub event_seq: u64,
    pub body: StatementBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum StatementBody {
    /// The device holds the current set.
    Same,
    /// What changed since the set with this generation and digest.
    Delta {
        base: SetGeneration,
        base_digest: Digest,
        put: Vec<SetItem>,
        forget: Vec<PodUid>,
    },
    /// One part of the whole set. The end mark is `part + 1 == of`; before all parts are there nothing may be concluded from absence.
    Snapshot { part: u32, of: u32, items: Vec<SetItem> },
}
