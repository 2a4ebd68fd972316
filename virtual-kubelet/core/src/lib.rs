//! What a virtual node and its pods need decided, over small facts of its own: no Kubernetes types, no client, no clock.
//!
//! * [`node`]: a Node object, and which writes bring the one in the cluster to it without touching what others own.
//! * [`lease`]: the Node's lease, and [`leader`]: which of two processes writes at all.
//! * [`taint`]: whether a pod acknowledged our taint by key, and the patches that restore a missing taint.
//! * [`admission`]: whether a pod may be on its Node at all.
//! * [`deletion`]: whether a deletion is someone's intent or Kubernetes' reaction to silence (law 1).
//! * [`successors`]: whether a pod's place is taken on another node.
//! * [`tolerations`]: prevention of that reaction.
//! * [`scope`]: which namespace may target what (law 12).
//! * [`events`]: what is told of pods and nodes, with its own time; what of it is counted, gathered, or too much.
//! * [`serving`]: the certificate of the kubelet API, and which requests for one are right. [`ports`]: where it answers for which Node.
//! * [`patch`]: whether a status patch would change anything, by the object in the API server and never by what was sent last.
//!
//! Facts are read from the API server's own JSON; fields that no decision needs are not there. It must not know of kube, of the
//! hub, or of manifests.

pub mod admission;
pub mod deletion;
pub mod events;
pub mod leader;
pub mod lease;
pub mod node;
pub mod patch;
pub mod ports;
pub mod scope;
pub mod serving;
pub mod successors;
pub mod taint;
pub mod tolerations;

pub use admission::{NodeFacts, Rejection};
pub use deletion::{Cause, deletion_cause};
pub use events::EventText;
pub use leader::{Leader, LeaderStep};
pub use lease::{LeaseAction, LeaseFacts, plan_node_lease};
pub use node::{
    Capacity, Endpoint, FleetSpec, FleetState, HubWord, KubeletPort, NodeAction, NodeAim, NodeView,
    ObservedNode, plan_node,
};
pub use patch::{completed, would_change};
pub use scope::{Asks, NamespaceEntry, NamespaceMap, Rights, Selector, Target, TargetRefusal};
pub use taint::{Taint, Toleration, acknowledges};
