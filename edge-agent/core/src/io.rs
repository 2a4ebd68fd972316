//! What goes into the [`Agent`](crate::Agent) machine and what comes out.

use edge_protocol::v1::{DeviceEvent, Facts, KeyWrap, Pressures, StreamRefusal};
use edge_protocol::{DesiredSet, Digest, Lane, PodUid, SessionEpoch, SetGeneration, TxId};
use serde::{Deserialize, Serialize};

use crate::stats::{Sample, SampleTarget};
use crate::step::{Observed, Step, StepId, StepOutcome};
use crate::streams::{StreamRefused, StreamTask};
use crate::usage::Usage;

/// One thing that happened. Lost, doubled or reordered inputs from the link change nothing in the end.
#[derive(Debug, Clone)]
pub enum Input {
    /// MQTT is connected and subscribed: begin a session with a hello.
    LinkUp {
        /// 16 fresh random bytes from the pump, for the hello's nonce.
        nonce: [u8; 16],
    },
    LinkDown,
    /// Bytes from one of the down lanes.
    Frame(Lane, Vec<u8>),
    /// A blob asked for by [`Effect::Fetch`]; `None` when this try failed.
    Blob {
        digest: Digest,
        body: Option<String>,
    },
    /// A complete look at the runtime. The pump looks at start, soon after every ended step that touched the runtime, at every runtime
    /// event, and from time to time.
    Observed {
        observed: Observed,
        /// How many [`Input::StepEnded`] this machine had been given when the look began: of a workload whose step ended since, the look may
        /// show what was before, and is not believed.
        told: u64,
    },
    /// The runtime cannot be looked at now; what runs there goes on.
    RuntimeDown {
        message: String,
    },
    StepEnded {
        step: StepId,
        outcome: StepOutcome,
    },
    Committed(TxId),
    /// A measurement: every ten seconds, as the kubelet's eviction manager.
    Usage(Box<Usage>),
    /// How an [`Effect::Sample`] ended; `None` when nothing could be read in time.
    Sampled(Option<Box<Sample>>),
    /// The facts of the device, at start and when they change.
    Facts(Box<Facts>),
    /// The moment asked for by the last [`Effect::WakeAt`] came.
    Wake,
    /// The process was asked to end: say goodbye, start nothing, leave workloads running.
    Stop,
}

/// One thing the pump must do, in the order given. It decides nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write all of it in one durable transaction, then report [`Input::Committed`].
    Commit(Tx),
    Send(Lane, Vec<u8>),
    /// Get a blob over HTTPS by digest; the answer is [`Input::Blob`].
    Fetch(Digest),
    Run(StepId, Step),
    /// Wake the machine at this moment of the monotonic clock, in milliseconds; replaces an earlier wish.
    WakeAt(u64),
    /// Keep-alive for the next CONNECT, in seconds.
    KeepAlive(u16),
    /// Remove these images, by id: nobody uses them. What cannot be removed stays, and is asked for again with a later measurement.
    RemoveImages(Vec<String>),
    /// Open this stream of the tunnel if the device's policy allows it, and serve it. No input tells how it went.
    OpenStream(Box<StreamTask>),
    /// Tell whoever asked for a stream that it cannot be.
    RefuseStream(Box<StreamRefused>),
    /// Read what the device and these workloads use now; the answer is [`Input::Sampled`].
    Sample(Vec<SampleTarget>),
    /// Give up this connection and dial again with backoff: the session is not answered, or is refused.
    Reconnect {
        why: String,
    },
    /// One line for the log and one count for the metrics.
    Report(Note),
}

/// One transaction: all of it is on disk, or none of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tx {
    pub id: TxId,
    pub writes: Vec<Write>,
}

/// What the store must be able to do; see [`Restored`] for what it gives back.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// The trusted set as a whole: generation, digest and items.
    Set(TrustedSet),
    PutBlob {
        digest: Digest,
        body: String,
    },
    DropBlob(Digest),
    /// An object beside a manifest: only the runtime reads it.
    PutObject {
        digest: Digest,
        /// The content key that it is sealed with, if it is.
        key: Option<Digest>,
        body: String,
    },
    DropObject(Digest),
    /// A content key as it was wrapped for this device, by the key's own digest.
    PutKey(KeyWrap),
    DropKey(Digest),
    PutWorkload {
        uid: PodUid,
        record: String,
    },
    DropWorkload(PodUid),
    PutEvent(DeviceEvent),
    /// Forget the events up to this sequence number.
    DropEventsUpTo(u64),
    /// Small facts of the machine by name, such as counters.
    PutMeta {
        key: String,
        value: String,
    },
}

/// The set a device acts on, with where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedSet {
    pub generation: SetGeneration,
    pub digest: Digest,
    pub items: DesiredSet,
}

/// What the store held when the process began. The default is a device that was never told anything.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    pub set: Option<TrustedSet>,
    pub blobs: Vec<(Digest, String)>,
    /// Objects whose bodies are there and what their digests say, with the keys of those that are sealed.
    pub objects: Vec<(Digest, Option<Digest>)>,
    pub keys: Vec<KeyWrap>,
    pub workloads: Vec<(PodUid, String)>,
    /// In the order of their sequence numbers.
    pub events: Vec<DeviceEvent>,
    pub meta: Vec<(String, String)>,
}

/// Decisions worth a line and a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    SessionBegan {
        session: SessionEpoch,
    },
    /// Something from the link was dropped; nothing of it was acted on.
    FrameRefused {
        why: String,
    },
    SetJudged {
        verdict: &'static str,
        generation: SetGeneration,
    },
    Adopted {
        uid: PodUid,
    },
    Started {
        uid: PodUid,
        container: String,
    },
    Stopped {
        uid: PodUid,
    },
    Retried {
        uid: PodUid,
        what: &'static str,
        in_ms: u64,
    },
    Refused {
        uid: PodUid,
        why: String,
    },
    /// Kept as it is, because a restored hub's word contradicts what is held.
    Quarantined {
        uid: PodUid,
    },
    /// What the device lacks, as a Node's conditions say it; a change of any of them.
    Pressure(Pressures),
    /// It has to go, for the reason that its status gives.
    Evicted {
        uid: PodUid,
    },
    /// A stream to this workload is to be opened, if the device's policy allows it.
    StreamOrdered {
        uid: PodUid,
    },
    /// A stream that was ordered cannot be.
    StreamRefused {
        why: StreamRefusal,
    },
    /// A part of the store could not be used; what it spoke of is kept and asked for again.
    Damaged {
        what: String,
    },
}

impl Note {
    /// A fixed name for the counter of this decision.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SessionBegan { .. } => "session_began",
            Self::FrameRefused { .. } => "frame_refused",
            Self::SetJudged { verdict, .. } => verdict,
            Self::Adopted { .. } => "adopted",
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
            Self::Retried { .. } => "retried",
            Self::Refused { .. } => "refused",
            Self::Quarantined { .. } => "quarantined",
            Self::Pressure(_) => "pressure",
            Self::Evicted { .. } => "evicted",
            Self::StreamOrdered { .. } => "stream_ordered",
            Self::StreamRefused { .. } => "stream_refused",
            Self::Damaged { .. } => "damaged",
        }
    }
}
