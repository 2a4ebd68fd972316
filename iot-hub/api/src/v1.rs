//! The documents of `/api/v1`. Fields are added with a default, never renamed, re-typed or reused.

use std::collections::BTreeMap;
use std::fmt;

use edge_protocol::sign::Envelope;
use edge_protocol::v1::{
    Blob, DeploymentSpec, DeploymentState, DeploymentStatus, DeviceEvent, Facts, KeyWrap, LinkClass, Rung,
    Stats, StreamRequest, WorkloadStatus,
};
use edge_protocol::{DeploymentRevision, DeviceId, Digest, EnrolmentSerial, PodUid, SetGeneration};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A position in the hub's revisioned log. Rises with every committed change, and never goes back within one store.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All objects of one kind that the caller may see, read to the end at one moment. Watching from `revision` misses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    pub revision: Revision,
    pub items: Vec<T>,
}

/// One enrolled device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    pub id: DeviceId,
    pub enrolment: EnrolmentSerial,
    /// The SHA-256 of the key that secrets are sealed to for this device; `outrigger-agent` logs the same when it enrols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing_key_fingerprint: Option<Digest>,
    /// The group that its enrolment token put it in.
    pub group: String,
    /// Authoritative: set by people, never by the device.
    pub tags: BTreeMap<String, String>,
    pub link: LinkClass,
    pub state: DeviceState,
    /// Claims of the device.
    pub facts: Facts,
    #[serde(default)]
    pub agent_version: String,
    #[serde(default)]
    pub features: Vec<String>,
    pub connected: bool,
    /// Whether its last word is inside the deadline of its link class.
    pub online: bool,
    /// Milliseconds since the Unix epoch; absent before its first word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<i64>,
    /// The desired set as the hub wants it, and the one that the device said it has on disk.
    pub generation: SetGeneration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<SetGeneration>,
    /// Workloads that it keeps as they were, against the word of a hub that was restored from a backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantine: Vec<Quarantined>,
    /// The set that it would not take, until it takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedSet>,
    /// What it sent above its rates since the hub began.
    #[serde(default)]
    pub surplus: Surplus,
}

/// A workload that a device keeps as it was: what a restored hub wants of it contradicts what the device holds. It ends when somebody asks
/// for the deployment again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantined {
    pub uid: PodUid,
    /// The revision that the device holds.
    pub revision: DeploymentRevision,
    /// When the hub first heard of it.
    pub since_ms: i64,
    /// The device's words.
    pub message: String,
}

/// A set that a device refuses whole: it holds a newer one (`stale`), or the set breaks a bound of its agent (`refused`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedSet {
    pub generation: SetGeneration,
    pub why: String,
    pub since_ms: i64,
}

/// Counts of what a device sent above its rates. Nothing is lost by it but refusals, which are only counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Surplus {
    pub hellos: u64,
    pub statuses: u64,
    pub events: u64,
    /// Parts of samples of what it uses.
    #[serde(default)]
    pub stats: u64,
    pub refusals: u64,
}

/// The newest sample of what a device uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceStats {
    /// How long ago it came to the hub, in milliseconds.
    pub age_ms: u64,
    /// When that was, in milliseconds since the Unix epoch by the hub's clock. A figure whose moment is `at_ms` was read `stats.at.mono_ms - at_ms`
    /// before that, whatever the device's wall clock says.
    pub received_ms: i64,
    /// The device's own word. Workloads that are none of its own are left out.
    pub stats: Stats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    Active,
    /// May not connect; keeps what it runs.
    Disabled,
    /// Gone for good: its certificate is refused and its assignments end.
    Decommissioned,
}

/// Replaces all tags of a device. A key has 1 to 63 characters of `A-Z a-z 0-9 . _ / -`, a value at most 255 bytes; at most 64 tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TagsUpdate {
    pub tags: BTreeMap<String, String>,
}

/// Assigns the link class; used from the device's next CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkUpdate {
    pub link: LinkClass,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StateUpdate {
    pub state: DeviceState,
}

/// A workload that may run on a device, by the last that the device acknowledged and all that it was told since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceWorkload {
    pub uid: PodUid,
    pub desired: WorkloadDesired,
    /// The pod's, while its deployment is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What is asked of a device about a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadDesired {
    Run,
    /// Runs on though its pod is gone by no one's intent.
    Orphan,
    /// A tombstone lives: the device has not said that it stopped.
    Stop,
    /// Nothing any more: it was taken from the device's set since the device acknowledged it.
    Nothing,
    /// A word of a newer hub.
    #[serde(other)]
    Unknown,
}

/// Gives the id of a decommissioned device free although tombstones live there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetDevice {
    /// Must be true: the workloads that the tombstones were to stop may run on, on a device that nobody can tell to stop them.
    pub accept_running_workloads: bool,
}

/// Asks for a deployment, with the bodies of the objects that its manifest names. Those that the deployment has already may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PutDeployment {
    #[serde(flatten)]
    pub spec: DeploymentSpec,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<Blob>,
}

/// A device that waits for content keys of sealed objects, with what proves whose sealing key it is: who seals need not believe the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WantedKeys {
    pub device: DeviceId,
    /// The device's identity key vouches for its sealing key: a DSSE envelope, as it came with the enrolment.
    #[schema(value_type = Object)]
    pub sealing_proof: Envelope,
    /// PEM, leaf first: the certificate that names the device and its identity key.
    pub certificate_chain: String,
    pub keys: Vec<WantedKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WantedKey {
    /// The SHA-256 of the content key.
    pub key: Digest,
    /// Whose sealed object it opens.
    pub deployment: PodUid,
}

/// Content keys of a deployment's sealed objects, each wrapped for one device. Those that nobody wants any more are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyWraps {
    #[schema(value_type = Vec<Object>)]
    pub wraps: Vec<KeyWrap>,
}

/// A deployment, and what the devices say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    pub spec: DeploymentSpec,
    /// The digest of the manifest's bytes as devices see them.
    pub manifest: Digest,
    pub revision: DeploymentRevision,
    pub state: DeploymentState,
    pub created_ms: i64,
    pub status: DeploymentStatus,
}

/// One deployment on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assignment {
    pub uid: PodUid,
    pub device: DeviceId,
    /// Whether the device's last word is inside its deadline; if not, `status` is of `last_seen_ms`.
    pub online: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<i64>,
    pub since_ms: i64,
    /// How far the present revision has climbed on this device.
    pub rung: Rung,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<WorkloadStatus>,
    /// Whether the device is in the denominator of readiness when it is online.
    pub counted: bool,
    /// The device has as many workloads as it may: this one is given to it when one of them ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
    /// The device keeps the workload as it was, against the hub's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<Quarantined>,
}

/// Asks for a token that lets devices enrol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEnrolmentToken {
    #[serde(default)]
    pub group: String,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub link: LinkClass,
    /// How many devices may enrol with it, 1 to 100 000.
    #[serde(default = "one")]
    pub uses: u32,
    /// Seconds from now, 60 to 31 536 000 (a year).
    #[serde(default = "a_day")]
    pub ttl_s: u64,
    /// Fixes the id of the one device that may use it; `uses` must be 1 then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
}

impl Default for CreateEnrolmentToken {
    fn default() -> Self {
        Self {
            group: String::new(),
            tags: BTreeMap::new(),
            link: LinkClass::default(),
            uses: one(),
            ttl_s: a_day(),
            device: None,
        }
    }
}

fn one() -> u32 {
    1
}

fn a_day() -> u64 {
    86_400
}

/// A token that was just made. The hub keeps a hash only: this is the one time the token is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentTokenCreated {
    pub id: String,
    /// `id.secret.anchor`, as devices take it.
    pub token: String,
    pub expires_ms: i64,
}

impl fmt::Debug for EnrolmentTokenCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolmentTokenCreated")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// An enrolment token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentTokenInfo {
    pub id: String,
    pub group: String,
    pub tags: BTreeMap<String, String>,
    pub link: LinkClass,
    pub uses: u32,
    pub used: u32,
    pub expires_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
}

/// One event of a watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WatchEvent {
    /// Where the log stood. Resuming from here misses nothing and may repeat something.
    pub revision: Revision,
    pub change: Change,
}

/// The present state of what changed, read when the event was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    Device {
        device: Box<Device>,
    },
    Deployment {
        deployment: Box<Deployment>,
    },
    /// The deployment is gone: every device that may have held it acknowledged its end.
    DeploymentEnded {
        uid: PodUid,
    },
    DeviceEvent {
        record: DeviceEventRecord,
    },
    /// Nothing changed; the stream is alive and has delivered everything up to `revision`. The first one ends the replay.
    Bookmark,
    /// The revision asked for is compacted away or was never issued by this store. The stream ends here: list, then watch
    /// from the list's revision. What is not in the list afterwards may be concluded only from the list.
    Resync,
    /// A kind of a newer hub.
    #[serde(other)]
    Unknown,
}

/// Something that happened on a device, with whose word it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceEventRecord {
    pub device: DeviceId,
    pub event: DeviceEvent,
}

/// Who asked for which change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    pub id: u64,
    /// Milliseconds since the Unix epoch by the hub's clock.
    pub at_ms: i64,
    pub principal: String,
    /// Such as `put-deployment`.
    pub action: String,
    pub subject: String,
}

/// The WebSocket subprotocol of a device's streams. The client's first message is a [`StreamCall`], the hub's first a
/// [`StreamAnswer`](edge_protocol::v1::StreamAnswer), both JSON in a text message; after `begun` binary messages are bytes, and an empty one ends their
/// direction.
pub const STREAM_PROTOCOL: &str = "outrigger.stream.v1";
/// A [`StreamCall`] in bytes: the longest command, escaped.
pub const MAX_STREAM_CALL: usize = 1 << 20;

/// What a device is to do while the caller looks on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamCall {
    pub request: StreamRequest,
    /// The person on whose behalf the caller asks, for the logs of hub and device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}
