//! What goes into the [`Bridge`](crate::Bridge) machine and what comes out.

use edge_protocol::v1::{
    DeploymentSpec, DeploymentState, DeploymentStatus, EventLevel, Manifest, Owner, ReadyPolicy, TargetSpec,
};
use edge_protocol::{DeploymentRevision, PodUid};

use crate::disconnect::Disconnect;
use crate::elsewhere::{Elsewhere, Line};
use crate::memory::Memory;

/// One operation in flight; its answer carries the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// A pod bound to our node, as the API server shows it now.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedPod {
    pub uid: PodUid,
    pub namespace: String,
    pub name: String,
    /// The owning controller, followed from `ReplicaSet` to `Deployment`.
    pub owner: Option<Owner>,
    /// What it asks of devices, or every reason why it cannot be honoured.
    pub plan: Result<PodPlan, PodRefusal>,
    /// Set once the API server accepted a deletion.
    pub deletion: Option<Deletion>,
    /// Whether the pod's phase is already Succeeded or Failed.
    pub terminal: bool,
    /// `outrigger.io/disconnect`.
    pub disconnect: Disconnect,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PodPlan {
    /// `replaces` is empty: the machine fills it in.
    pub manifest: Manifest,
    pub target: TargetSpec,
    pub ready_policy: ReadyPolicy,
    pub update: UpdateStrategy,
}

/// `outrigger.io/update`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UpdateStrategy {
    /// The new revision runs beside the old one until it is Ready, as on any node.
    #[default]
    Surge,
    /// On each device the new revision takes the old one's place: pull, stop, start.
    Replace,
}

/// A condition and event of this reason on the pod; nothing reaches a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRefusal {
    /// Such as `UnsupportedField`, `TargetNotAllowed`, `NoTarget`, `TaintNotAcknowledged`.
    pub reason: &'static str,
    /// Names every offending path at once.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    pub grace_period_s: Option<u32>,
    pub cause: DeletionCause,
}

/// Why a pod goes. Only intent stops a workload (law 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionCause {
    /// A person or a controller wants this pod UID gone.
    Intent,
    /// Kubernetes' reaction to silence: taint manager, pod garbage collector.
    Reaction,
}

/// A list of all our pods, read to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct PodList {
    /// The UID of `kube-system` in the cluster that answered.
    pub cluster_uid: String,
    pub resource_version: u64,
    /// The UID of our Node object, read after the list; absent when there is no such Node.
    pub node_uid: Option<String>,
    pub pods: Vec<WantedPod>,
}

/// A deployment of ours at the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldDeployment {
    pub spec: DeploymentSpec,
    pub revision: DeploymentRevision,
    pub state: DeploymentState,
    pub status: DeploymentStatus,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    PodsListed(PodList),
    /// The watch has come to this version: told before each change of a pod with that change's version, and by itself.
    WatchedTo {
        resource_version: u64,
    },
    PodSeen(Box<WantedPod>),
    /// The pod object is gone; `cause` is read from the last state of the object that the watch delivered.
    PodVanished {
        uid: PodUid,
        cause: DeletionCause,
    },
    /// Our Node object as it is now: sent whenever the shell created it or saw another UID.
    NodeSeen {
        uid: Option<String>,
    },
    /// All our deployments at the hub, read to the end from the pinned hub. A failed read is not an input.
    DeploymentsListed(Vec<HeldDeployment>),
    DeploymentChanged(Box<HeldDeployment>),
    DeploymentEnded {
        uid: PodUid,
    },
    Ended {
        op: OpId,
        outcome: Outcome,
    },
    /// What was found of a line on other nodes.
    Elsewhere(Elsewhere),
    /// An operator lets held-back removals pass.
    BrakeReleased,
    /// The memory of this number, or a later one, will outlive the process.
    Remembered {
        seq: u64,
    },
    Wake,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The hub has no such deployment; only for `Delete` and `Release`. Nothing is left to do there.
    Missing,
    /// Try again with backoff.
    Unavailable {
        message: String,
    },
    /// The hub does not accept it as things are; shown on the pod, and asked again seldom.
    Refused {
        reason: &'static str,
        message: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Put {
        op: OpId,
        spec: Box<DeploymentSpec>,
    },
    Delete {
        op: OpId,
        uid: PodUid,
        grace_period_s: Option<u32>,
    },
    Release {
        op: OpId,
        uid: PodUid,
    },
    /// Show this on the pod object; the shell compares with the object and patches only a difference.
    Show {
        uid: PodUid,
        view: PodView,
    },
    /// One last status, then DELETE with grace 0 and a UID precondition. An object that is gone already is done.
    Finish {
        op: OpId,
        uid: PodUid,
        view: PodView,
    },
    /// A complete list is wanted soon: something is missing and only lists can tell what that means. Answered by `PodsListed`
    /// or not at all; the machine asks again.
    ListPods,
    /// Orphans of this line wait for a successor: is there one on another node? Answered by [`Input::Elsewhere`] or not at all; the
    /// machine asks again.
    LookElsewhere(Line),
    Event {
        uid: PodUid,
        level: EventLevel,
        reason: &'static str,
        message: String,
    },
    WakeAt(u64),
    /// Keep this for the next process at once, and answer [`Input::Remembered`]; a later one replaces it. No end of a pod goes out
    /// before that: else a restart that reads an older list would take the pod for alive and start it again.
    Remember {
        seq: u64,
        memory: Memory,
    },
    Report(Note),
}

/// What a pod's status is made from.
#[derive(Debug, Clone, PartialEq)]
pub enum PodView {
    /// Not at the hub yet.
    Accepted,
    Refused(PodRefusal),
    Deployed(Box<DeploymentStatus>),
    /// What was deployed runs on, but the pod as it is written now cannot be.
    EditRefused {
        status: Box<DeploymentStatus>,
        refusal: PodRefusal,
    },
    /// Everything has stopped; containers are shown terminated from the last status known.
    Stopped(Option<Box<DeploymentStatus>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    ListIgnored {
        why: &'static str,
    },
    /// The first put waits: a predecessor of the same owner is missing from the last list, and only the next can say whether it is
    /// an orphan to be replaced.
    PutWaits {
        uid: PodUid,
        missing: PodUid,
    },
    Released {
        uid: PodUid,
    },
    /// A successor is Ready on another node.
    Succeeded {
        uid: PodUid,
    },
    /// Its author's `stop-after` is over.
    StopsAfter {
        uid: PodUid,
    },
    BrakeHolds {
        waiting: usize,
        allowed: usize,
    },
    Retried {
        op: OpId,
        in_ms: u64,
        message: String,
    },
}
