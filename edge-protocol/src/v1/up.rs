//! Frames from a device to the hub.

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::stats::StatsReport;
use super::status::{DeviceEvent, WorkloadStatus};
use crate::time::DeviceTime;
use crate::{Digest, Incarnation, Nonce, SessionEpoch, SetGeneration};

/// One message on a device's status or bulk lane. The certificate says which device; the frame does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpFrame {
    pub v: u16,
    /// The session this belongs to; absent only in the hello that asks for one. Another session's frame is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionEpoch>,
    /// The incarnation the device trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// Rises by one per frame within a session; 0 is the hello.
    pub seq: u64,
    pub time: DeviceTime,
    pub body: Up,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Up {
    Hello(Box<Hello>),
    Ack(SetAck),
    Status(StatusReport),
    Events(EventReport),
    /// The content keys of sealed objects on the device's disk that it has no wrap of, by their SHA-256. The hub answers with those it has,
    /// and tells of the others when they come.
    WantKeys {
        keys: Vec<Digest>,
    },
    /// The facts of the hello are no longer true; these are. The hub acknowledges them once they are on its disk
    /// ([`ReportAck::facts_seq`](super::ReportAck)); a device whose hub does not, begins another session.
    Facts {
        facts: Box<Facts>,
    },
    /// What it uses, as asked. Never answered.
    Stats(StatsReport),
    /// Nothing to say but that the device lives. The hub answers with an acknowledgement, whatever it acknowledges, so that the device
    /// knows that the hub lives: a device that hears nothing for one and a half keep-alives dials again.
    Heartbeat,
    /// A clean stop of the agent; workloads go on.
    Bye,
    /// A kind of a newer agent: counted and ignored.
    #[serde(other)]
    Unknown,
}

impl Up {
    /// Whether the hub answers it whatever it says, so that silence after it means that the hub, or the way to it, is gone. Facts that
    /// come too often it passes over.
    pub fn is_answered(&self) -> bool {
        match self {
            Self::Hello(_) | Self::Status(_) | Self::Events(_) | Self::Heartbeat => true,
            Self::Ack(_)
            | Self::Facts { .. }
            | Self::WantKeys { .. }
            | Self::Stats(_)
            | Self::Bye
            | Self::Unknown => false,
        }
    }
}

/// The beginning of a session. The hub answers with a signed statement bound to `nonce`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub nonce: Nonce,
    pub agent_version: String,
    /// Abilities of this agent; a manifest's `requires` is checked against them.
    pub features: Vec<String>,
    /// The trusted set on the device's disk. Absent asks for a whole snapshot, and until it is complete the device keeps all it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldSet>,
    pub facts: Facts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSet {
    pub generation: SetGeneration,
    pub digest: Digest,
}

/// How far a set got on the device. `Persisted` is sent after the commit that it speaks of, never before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAck {
    pub generation: SetGeneration,
    pub digest: Digest,
    pub stage: AckStage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckStage {
    Received,
    Persisted,
    /// `Stale` by `judge`: not acted on.
    Stale,
    /// `Conflict` by `judge`, or an item of a restored hub that contradicts what is held: not acted on.
    Quarantined,
    /// A delta whose base is not what the device holds: it wants a snapshot.
    BaseMissing,
    /// The set breaks a bound of this agent, such as that on its workloads: not acted on. To repeat it does not help, another set does.
    Refused,
    #[serde(other)]
    Unknown,
}

/// The workloads whose status changed since the last acknowledged report. `upto` is the newest change in it:
/// the hub's acknowledgement of `upto` lets the device forget that these were unreported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    pub upto: u64,
    /// Whether these are all workloads the device has, so that what is not listed does not exist there.
    pub complete: bool,
    pub workloads: Vec<WorkloadStatus>,
}

/// Events of one [`EventReport`]. A device sends no more; a hub takes the first of more and acknowledges only those.
pub const MAX_REPORT_EVENTS: usize = 256;

/// Keys of one [`Up::WantKeys`]: a device asks for no more at a time, a hub answers for no more.
pub const MAX_WANTED_KEYS: usize = 1_024;

/// The greatest number that an event or a status report may carry: stores hold counts as signed 64-bit numbers. A hub refuses a report that
/// carries a greater one.
pub const MAX_REPORT_SEQ: u64 = i64::MAX.unsigned_abs();

/// History, oldest first, with consecutive `seq`, at most [`MAX_REPORT_EVENTS`]. Acknowledged by the newest `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventReport {
    pub events: Vec<DeviceEvent>,
}
