//! What goes into the [`Hub`](crate::Hub) machine and what comes out.

mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_protocol::v1::{
    AckStage, Blob, DeploymentSpec, DeploymentState, DeploymentStatus, DeviceEvent, Facts, KeyWrap,
    LinkClass, Phase, Stats, Ticket, TombstoneReason, WorkloadStatus,
};
use edge_protocol::{
    DeploymentRevision, DesiredSet, DeviceId, Digest, EnrolmentSerial, Incarnation, Lane, PodUid, SealingKey,
    SessionEpoch, SetGeneration, TxId,
};
use serde::{Deserialize, Serialize};

pub use streams::{PresentationId, StreamAsk, StreamEnd, StreamId};

/// One TCP connection of a device; never reused within a life of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One caller of the API who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

#[derive(Debug, Clone)]
pub enum Input {
    /// A device opened an MQTT session; the endpoint checked its certificate.
    Connected {
        device: DeviceId,
        connection: ConnectionId,
        enrolment: EnrolmentSerial,
    },
    Disconnected {
        device: DeviceId,
        connection: ConnectionId,
    },
    /// Bytes from one of the up lanes.
    Frame {
        device: DeviceId,
        connection: ConnectionId,
        lane: Lane,
        bytes: Vec<u8>,
    },
    /// A call of the REST API, authenticated and authorised by the shell.
    Call {
        request: RequestId,
        call: Call,
    },
    /// A caller of the API asks for a stream, authenticated and authorised by the shell.
    StreamAsked {
        stream: StreamId,
        ask: Box<StreamAsk>,
    },
    /// A device began a stream of its tunnel with this ticket; the port checked its certificate.
    TicketPresented {
        presentation: PresentationId,
        device: DeviceId,
        enrolment: EnrolmentSerial,
        ticket: Ticket,
    },
    /// Whoever asked for the stream has gone, or it has ended.
    StreamOver(StreamId),
    /// Somebody wants to know what a device uses, from a sample that is at most so old; authenticated and authorised by the shell. The reply comes when
    /// [`Hub::stats`](crate::Hub::stats) has the best there is.
    StatsWanted {
        request: RequestId,
        device: DeviceId,
        max_age_ms: u64,
    },
    Committed(TxId),
    Wake,
}

/// Changes asked for by people and providers. Each is idempotent.
#[derive(Debug, Clone)]
pub enum Call {
    /// Register a device, or a further enrolment of it (another serial).
    EnrolDevice {
        device: DeviceId,
        enrolment: Box<Enrolment>,
    },
    SetTags {
        device: DeviceId,
        tags: BTreeMap<String, String>,
    },
    SetLink {
        device: DeviceId,
        link: LinkClass,
    },
    SetDeviceState {
        device: DeviceId,
        state: DeviceState,
    },
    /// Gives the id of a decommissioned device free although tombstones live there: an operator's named act, who accepts that what they
    /// were to stop may run on.
    ForgetDevice {
        device: DeviceId,
    },
    /// Create, replace or (same content) confirm a deployment.
    PutDeployment {
        spec: Box<DeploymentSpec>,
        /// The bodies of the objects that its manifest names; those that the deployment has already may be left out.
        objects: Vec<Blob>,
    },
    /// Tombstones on all devices that may hold it. A repeat with a shorter grace shortens it.
    DeleteDeployment {
        uid: PodUid,
        source_node: Option<String>,
        grace_period_s: Option<u32>,
        reason: TombstoneReason,
    },
    /// Content keys of the deployment's sealed objects for its devices, from whoever sealed them. What is wanted no more is passed over.
    PutKeyWraps {
        uid: PodUid,
        wraps: Vec<KeyWrap>,
    },
    /// Its pod is gone by no one's intent: keep the workloads as orphans.
    ReleaseDeployment {
        uid: PodUid,
    },
}

/// What one enrolment says of a device. Group, tags and link class are for a device that is new: a further enrolment of a known one
/// keeps what people have said of it since.
#[derive(Debug, Clone)]
pub struct Enrolment {
    pub serial: EnrolmentSerial,
    /// The enrolment that the device had when this one was begun; none for an id that no device had. What came between is not overwritten.
    pub expected_previous: Option<EnrolmentSerial>,
    /// The device's identity key vouched for it; the shell checked that.
    pub sealing_key: SealingKey,
    pub group: String,
    pub tags: BTreeMap<String, String>,
    pub link: LinkClass,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    Active,
    /// May not connect; keeps what it runs.
    Disabled,
    /// Gone for good: its certificate is refused and its assignments end.
    Decommissioned,
}

/// Why a call was refused; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("there is no device {0}")]
    NoSuchDevice(DeviceId),
    #[error("there is no deployment {0}")]
    NoSuchDeployment(PodUid),
    #[error("{field}: {message} (at character {position})")]
    BadCondition {
        field: &'static str,
        position: usize,
        message: String,
    },
    #[error("the manifest is not valid: {0}")]
    BadManifest(String),
    #[error("{kind} {name:?} is not valid: {why}")]
    BadObject { kind: String, name: String, why: String },
    #[error("the wrap of key {key} is not valid")]
    BadKeyWrap { key: Digest },
    #[error("the deployment belongs to another provider")]
    NotYours,
    #[error("device id {0} is taken; only a token made for this id can enrol the device anew")]
    DeviceIdTaken(DeviceId),
    #[error(
        "device id {device} is not free: the device that had it never acknowledged {count} tombstones, so their workloads may \
         still run there; an operator who accepts that may say `outrigger device forget {device} --accept-running-workloads`"
    )]
    TombstonesLive { device: DeviceId, count: usize },
    #[error("device {0} is not decommissioned")]
    NotDecommissioned(DeviceId),
    #[error("another enrolment of device {0} came first, or it was decommissioned since")]
    EnrolmentSuperseded(DeviceId),
    #[error("the deployment is being deleted")]
    BeingDeleted,
    #[error("the tags are not valid: {0}")]
    BadTags(String),
    #[error("device {0} is not connected")]
    NotConnected(DeviceId),
    #[error("the agent of device {0} does not tell what it uses")]
    NoStats(DeviceId),
    #[error("device {0} is connected and did not answer in time")]
    NotAnswered(DeviceId),
    #[error("the limit of {limit} {what} is reached")]
    LimitReached { what: &'static str, limit: usize },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write all of it in one durable transaction, append one log entry per [`Change`] and a row for the audit if the input has a cause, then report
    /// [`Input::Committed`]. One without writes is for the audit alone.
    Commit(Tx),
    Send {
        device: DeviceId,
        connection: ConnectionId,
        lane: Lane,
        bytes: Vec<u8>,
    },
    /// Cut the connection.
    Cut {
        device: DeviceId,
        connection: ConnectionId,
        why: &'static str,
    },
    Reply {
        request: RequestId,
        result: Result<(), CallError>,
    },
    /// What the device brought is for whoever asked for this stream; for nobody: drop it. Each presentation is answered once.
    GiveStream {
        presentation: PresentationId,
        stream: Option<StreamId>,
    },
    /// The stream does not begin, or is cut. The machine has forgotten it.
    EndStream {
        stream: StreamId,
        why: StreamEnd,
    },
    /// The device is not to have a tunnel with the certificate that it has shown up to now.
    CutTunnel {
        device: DeviceId,
    },
    /// Something a watcher would see changed in memory only (liveness); nothing is written.
    Announce(Change),
    WakeAt(u64),
    Report(Note),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Tx {
    pub id: TxId,
    pub writes: Vec<Write>,
    /// What the revisioned log says of this transaction; SSE watchers and audit read it.
    pub changes: Vec<Change>,
}

/// The subject of one log entry. Watchers fetch or are given the present state of the subject: the log is level-triggered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    Device { device: DeviceId },
    Deployment { uid: PodUid },
    DeploymentEnded { uid: PodUid },
    DeviceEvent { device: DeviceId, seq: u64 },
}

/// Row-like writes; the store maps each to a table and knows nothing of their meaning.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    Incarnation(Incarnation),
    PutDevice(Box<DeviceRecord>),
    PutDeployment(Box<DeploymentRecord>),
    DropDeployment(PodUid),
    PutDeviceSet {
        device: DeviceId,
        set: Box<SetRecord>,
    },
    PutAssignment(Box<AssignmentRecord>),
    DropAssignment {
        uid: PodUid,
        device: DeviceId,
    },
    /// Content-addressed; stored once, dropped by the hub when nothing names it.
    PutBlob {
        digest: Digest,
        body: String,
    },
    DropBlob(Digest),
    /// By its key and the device's sealing key.
    PutKeyWrap(Box<KeyWrap>),
    DropKeyWrap {
        key: Digest,
        sealing_key: Digest,
    },
    PutEvent {
        device: DeviceId,
        event: DeviceEvent,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    pub id: DeviceId,
    pub enrolment: EnrolmentSerial,
    /// Registered with this enrolment.
    pub sealing_key: SealingKey,
    pub group: String,
    pub tags: BTreeMap<String, String>,
    pub link: LinkClass,
    pub state: DeviceState,
    pub facts: Facts,
    pub agent_version: String,
    pub features: Vec<String>,
    /// Milliseconds since the Unix epoch of the last word that was persisted; the memory may know a later one.
    pub last_seen_ms: Option<i64>,
    pub last_session: SessionEpoch,
    /// Reports committed here; the device may forget them.
    pub status_upto: u64,
    pub event_seq: u64,
    /// Whether it was past its deadline when this was written. A hub that begins again cannot measure the silence of the time it was
    /// away: it presumes the others to be there until their deadline, and these not.
    #[serde(default)]
    pub offline: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRecord {
    pub spec: DeploymentSpec,
    pub manifest: Digest,
    pub revision: DeploymentRevision,
    pub state: DeploymentState,
    pub created_ms: i64,
    /// The incarnation in which somebody last asked for it, by a put, a delete or a release. One below the hub's own came with a backup: a
    /// device that holds something newer keeps that until somebody asks again (law 4).
    pub asked: Incarnation,
    /// `Succeeded` or `Failed` once reached: a terminal phase is final, whoever joins later.
    #[serde(default)]
    pub ended: Option<Phase>,
}

/// One device's set as the hub wants it, and the last one the device said it has on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRecord {
    pub generation: SetGeneration,
    pub items: DesiredSet,
    pub acknowledged: Option<(SetGeneration, DesiredSet)>,
}

/// One deployment on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentRecord {
    pub uid: PodUid,
    pub device: DeviceId,
    pub since_ms: i64,
    pub status: Option<WorkloadStatus>,
    /// Set from the beginning for a device that matched when the deployment was made; for a late joiner once it was healthy or its
    /// join deadline passed.
    pub counted: bool,
    /// A successor runs here in its place, so that matching again does not bring it back.
    #[serde(default)]
    pub superseded: bool,
    /// The device runs as many workloads as it may; this one is in its set once there is room.
    #[serde(default)]
    pub waiting: bool,
}

/// What the store held when the process began.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    pub incarnation: Option<Incarnation>,
    pub devices: Vec<DeviceRecord>,
    pub deployments: Vec<DeploymentRecord>,
    pub sets: Vec<(DeviceId, SetRecord)>,
    pub assignments: Vec<AssignmentRecord>,
    /// Manifests and tombstones that sets name, and the objects that manifests name; all of them.
    pub blobs: Vec<(Digest, String)>,
    pub key_wraps: Vec<KeyWrap>,
}

/// What the machine knows of a device beyond its record, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceView {
    pub record: DeviceRecord,
    pub connected: bool,
    /// Whether the last word is inside the link class's deadline.
    pub online: bool,
    pub last_seen_ms: Option<i64>,
    pub generation: SetGeneration,
    pub acknowledged: Option<SetGeneration>,
    /// What it holds against the word of this hub, in the order of the uids.
    pub quarantine: Vec<QuarantinedWorkload>,
    /// The set that it would not take, until it takes one.
    pub refused: Option<RefusedSet>,
    pub surplus: Surplus,
}

/// A set that a device refuses whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedSet {
    pub generation: SetGeneration,
    /// `Stale` or `Refused`.
    pub stage: AckStage,
    /// When the hub heard of it, in milliseconds since the Unix epoch.
    pub since_ms: i64,
}

/// What a device sent above its rates since this process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Surplus {
    pub hellos: u64,
    pub statuses: u64,
    pub events: u64,
    /// Parts of samples of what it uses; they are dropped.
    pub stats: u64,
    /// Refusals that were counted only.
    pub refusals: u64,
}

/// The newest sample of what a device uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsView {
    /// As the device said it, bounded, without workloads that are none of its own.
    pub stats: Arc<Stats>,
    /// When it came, on the monotonic clock and on the wall clock.
    pub heard_ms: u64,
    pub heard_wall_ms: i64,
}

/// A workload that a device keeps as it was, for what a restored hub wants of it contradicts what the device holds (law 4). It ends when
/// somebody asks for the deployment again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedWorkload {
    pub uid: PodUid,
    /// The revision that the device holds.
    pub revision: DeploymentRevision,
    /// When this process first heard of it, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// The device's words.
    pub message: String,
}

/// A deployment with the roll-up of its assignments, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentView {
    pub record: DeploymentRecord,
    pub status: DeploymentStatus,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    FrameRefused {
        device: DeviceId,
        why: String,
    },
    /// A status report speaks of workloads that are none of the device's: nothing of them is kept.
    Strangers {
        device: DeviceId,
        count: usize,
        /// One of them.
        uid: PodUid,
    },
    /// Something that a device sent above its rates; only to be counted. `what` is a field of [`Surplus`].
    Surplus {
        device: DeviceId,
        what: &'static str,
    },
    SessionBegan {
        device: DeviceId,
        session: SessionEpoch,
    },
    SetOffered {
        device: DeviceId,
        generation: SetGeneration,
        form: &'static str,
    },
    /// The device holds something against the set.
    Quarantined {
        device: DeviceId,
        generation: SetGeneration,
    },
    /// The device does not take the set; told once per set.
    SetRefused {
        device: DeviceId,
        generation: SetGeneration,
        stage: AckStage,
    },
    NewIncarnation(Incarnation),
    /// A device began a stream with a ticket that is not good.
    TicketRefused {
        device: DeviceId,
        why: &'static str,
    },
    /// A stored deployment that this build cannot read: its devices keep it as it is.
    Unreadable {
        uid: PodUid,
        why: String,
    },
}
