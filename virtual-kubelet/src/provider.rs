//! The seam to whoever knows what a pod means: facts about pods in, effects on pods out.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use serde_json::Value;
use virtual_kubelet_core::deletion::{Cause, Condition, deletion_cause};
use virtual_kubelet_core::events::EventText;
use virtual_kubelet_core::{NodeAim, NodeFacts};

use crate::cluster::stripped;

/// Runs pods somewhere. It sees every fact about its pods in the order in which the API server told them.
pub trait Provider: Send + 'static {
    /// Takes one fact and says what follows. Must not wait for anything.
    fn observe(&mut self, input: PodInput) -> Vec<PodEffect>;

    /// Waits for what the provider's own side has to say. Dropping the future loses nothing; it is called again.
    fn next(&mut self) -> impl Future<Output = Vec<PodEffect>> + Send;
}

/// A fact of the cluster.
#[derive(Debug, Clone)]
pub enum PodInput {
    Listed(PodSnapshot),
    /// The watch has come to this version: told before each change with that change's version, and by itself.
    WatchedTo {
        resource_version: u64,
    },
    Seen(Arc<ObservedPod>),
    /// With the last state that the watch delivered.
    Vanished(Arc<ObservedPod>),
    /// Our Node was created, or is another in its UID or in what decides who may be on it.
    Node {
        /// `None` while there is none.
        uid: Option<String>,
        /// As the API server has it; `None` while there is none, and until it was first brought to what it should be.
        facts: Option<Arc<NodeFacts>>,
    },
    /// There is a Node of our name that is another's. It is left alone, and its pods are not ours.
    NameTaken {
        provider_id: String,
    },
    Finished {
        op: u64,
        outcome: FinishOutcome,
    },
    /// Answers [`PodEffect::LookElsewhere`].
    Elsewhere(ReadyElsewhere),
    /// The text of this number, or a later one, is left to the next process whatever becomes of this one.
    Remembered {
        seq: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishOutcome {
    /// The delete was accepted, or the pod was gone already. Finalizers may keep the object a while longer.
    Done,
    Failed {
        message: String,
    },
}

/// Annotations to set, by key; `None` removes one.
pub type Annotations = BTreeMap<&'static str, Option<String>>;

/// What the provider wants done to an object. Effects on one pod are executed in order.
#[derive(Debug, Clone, PartialEq)]
pub enum PodEffect {
    /// Merge this into the pod's status and annotations, if that would change them. A later one replaces one that still waits.
    Show {
        uid: String,
        status: Value,
        annotations: Annotations,
    },
    /// Merge a last status, then delete with grace 0 and a UID precondition. Answered by [`PodInput::Finished`].
    Finish {
        op: u64,
        uid: String,
        status: Option<Value>,
    },
    /// Clear `tolerationSeconds` of the pod's tolerations of silence, if there are any.
    ClearTolerationSeconds {
        uid: String,
    },
    PodEvent {
        uid: String,
        event: EventText,
    },
    NodeEvent {
        event: EventText,
    },
    /// What the Node should be from now on.
    Node(NodeAim),
    /// A complete list is wanted soon.
    ListPods,
    /// Are there pods of this line on other nodes, and Ready? Answered by [`PodInput::Elsewhere`] or not at all.
    LookElsewhere(PodLine),
    /// Leave this to the next process that leads; a later one replaces it. It is written into the leader lease at once, and
    /// answered by [`PodInput::Remembered`].
    Remember {
        seq: u64,
        text: String,
    },
}

/// A pod and those that may take its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLine {
    pub namespace: String,
    pub name: String,
    /// Its controller, followed from `ReplicaSet` to `Deployment`; without one only the name counts.
    pub owner: Option<PodOwner>,
}

/// What was found of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyElsewhere {
    pub line: PodLine,
    /// The UID of `kube-system` in the cluster that answered.
    pub cluster_uid: String,
    /// How many pods the controller wants; 1 without one.
    pub wanted: u32,
    /// How many are Ready on other nodes, counted no further than `wanted`.
    pub ready: u32,
}

/// All our pods, read to the end.
#[derive(Debug, Clone)]
pub struct PodSnapshot {
    /// The UID of `kube-system` in the cluster that answered, read after the list.
    pub cluster_uid: String,
    pub resource_version: u64,
    /// The UID of our Node, read after the list.
    pub node_uid: Option<String>,
    pub pods: Vec<Arc<ObservedPod>>,
}

/// A pod as the API server shows it, with what it refers to.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedPod {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// The whole object without `managedFields`.
    pub raw: Value,
    /// The owning controller, followed from a `ReplicaSet` to its Deployment.
    pub owner: Option<PodOwner>,
    pub namespace_labels: BTreeMap<String, String>,
    /// The taint manager deleted it, and its Node bears a taint of someone's that drives it away.
    pub driven_away: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodOwner {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodDeletion {
    pub grace_period_s: Option<u32>,
    pub cause: Cause,
}

impl ObservedPod {
    /// The same pod after a write that the API server answered with `raw`.
    pub(crate) fn after(&self, raw: Value) -> Self {
        Self {
            raw: stripped(raw),
            uid: self.uid.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            owner: self.owner.clone(),
            namespace_labels: self.namespace_labels.clone(),
            driven_away: self.driven_away,
        }
    }

    /// Its `resourceVersion`, a number that grows (KEP-5504).
    pub(crate) fn version(&self) -> Option<u64> {
        self.raw
            .get("metadata")?
            .get("resourceVersion")?
            .as_str()?
            .parse()
            .ok()
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.raw.get("metadata")?.get("annotations")?.get(key)?.as_str()
    }

    /// Set once the API server accepted a deletion.
    pub fn deletion(&self) -> Option<PodDeletion> {
        let metadata = self.raw.get("metadata")?;
        metadata.get("deletionTimestamp").filter(|at| !at.is_null())?;
        let grace = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_u64);
        Some(PodDeletion {
            grace_period_s: grace.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)),
            cause: self.deletion_cause(),
        })
    }

    /// What the conditions say of a deletion; also for an object that is gone already.
    pub fn deletion_cause(&self) -> Cause {
        deletion_cause(&conditions(&self.raw), self.driven_away)
    }

    pub fn is_terminal(&self) -> bool {
        let phase = self.status().and_then(|status| status.get("phase")?.as_str());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    pub fn status(&self) -> Option<&Value> {
        self.raw.get("status")
    }
}

/// Those of a pod that can be read.
pub(crate) fn conditions(pod: &Value) -> Vec<Condition> {
    let conditions = pod
        .get("status")
        .and_then(|status| status.get("conditions"))
        .cloned();
    conditions
        .and_then(|conditions| serde_json::from_value(conditions).ok())
        .unwrap_or_default()
}
