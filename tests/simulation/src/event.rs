//! Everything that can happen. What belongs to one life of a process carries that life's number and is nothing to the next.

use std::sync::Arc;

use edge_agent_core::{Observed, Step, StepId, StepOutcome};
use edge_protocol::v1::{ObjectKind, Rung, WorkloadStatus};
use edge_protocol::{Digest, Lane, PodUid, SessionEpoch};
use edge_provider_core as provider;
use iot_hub_core::{Call, CallError};

/// An index into the world's devices.
pub(crate) type At = usize;

#[derive(Debug)]
pub(crate) enum Event {
    Agent(At, u64, AgentEvent),
    Device(At, DeviceEvent),
    Hub(u64, HubEvent),
    Bridge(u64, BridgeEvent),
    HubBegins,
    BridgeBegins,
    /// A frame arrives at the hub's or at the device's end of a connection.
    Arrives {
        device: At,
        connection: u64,
        frame: Frame,
    },
    Request {
        caller: Caller,
        call: Call,
    },
    User(UserEvent),
    Calm,
    Settle,
}

/// Bytes on a lane; what goes up carries what it says along, so that it is not decoded twice.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) lane: Lane,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) word: Option<Arc<Word>>,
}

/// What a frame that goes up said.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) session: Option<SessionEpoch>,
    pub(crate) seq: u64,
    pub(crate) status: Option<StatusWord>,
}

/// What a status report said.
#[derive(Debug)]
pub(crate) struct StatusWord {
    pub(crate) complete: bool,
    pub(crate) rungs: Vec<(PodUid, Rung, Digest)>,
}

impl StatusWord {
    pub(crate) fn rung(status: &WorkloadStatus) -> (PodUid, Rung, Digest) {
        (status.uid.clone(), status.rung, status.manifest)
    }
}

#[derive(Debug)]
pub(crate) enum AgentEvent {
    /// The oldest transaction under way is on disk.
    Stored,
    Wake(u64),
    StepEnded(StepId, StepOutcome),
    LookEnds {
        begun: u64,
        at: u64,
        seen: Option<Observed>,
    },
    LookDue(u64),
    Dial,
    LinkUp(u64),
    LinkDown,
    Blob(Digest, Option<String>),
}

#[derive(Debug)]
pub(crate) enum DeviceEvent {
    AgentBegins(u64),
    /// A step takes effect in the runtime of this boot.
    Acts {
        boot: u64,
        life: u64,
        id: StepId,
        step: Box<Step>,
    },
    Exits {
        boot: u64,
        container: String,
        code: i32,
    },
    RuntimeBack,
    NetworkBack,
    /// Keep-alive ran out on a connection without network.
    Noticed(u64),
}

#[derive(Debug)]
pub(crate) enum HubEvent {
    Stored,
    Wake(u64),
    Disconnected { device: At, connection: u64 },
}

#[derive(Debug, Clone)]
pub(crate) enum Caller {
    Bridge(u64, provider::OpId),
    /// Asks again until it is done.
    Person,
    /// Asks the hub anew what is wanted, whatever became of it.
    Sealer,
}

#[derive(Debug)]
pub(crate) enum BridgeEvent {
    Input(Box<provider::Input>),
    Wake(u64),
    /// Lists, then follows; of the watch with this number.
    Watch {
        stream: u64,
        input: Box<provider::Input>,
    },
    ReadPods,
    FollowHub {
        stream: u64,
        input: Box<provider::Input>,
    },
    ReadHub,
    /// Look at one deployment that the hub's stream named.
    Look {
        stream: u64,
        uid: PodUid,
    },
    Show(PodUid, Box<provider::PodView>),
    Finish(provider::OpId, PodUid, Box<provider::PodView>),
    EnsureNode,
    Seal,
    Answer(provider::OpId, Result<(), CallError>),
    Unanswered(provider::OpId),
}

#[derive(Debug)]
pub(crate) enum UserEvent {
    Acts,
    Incident,
    Replace(PodUid),
    DeleteOld(PodUid),
    RemoveFinalizer(PodUid),
    CollectPods(u64),
    BackUp,
    RestoreHub,
    RepairImage(String),
    EditsSomething,
    Edit(PodUid, ObjectKind),
}
