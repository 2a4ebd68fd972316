//! Pods wanted against deployments held: when to put, when to delete, when to release, and when to leave alone.
//!
//! [`Bridge`] is a sans-io machine between a Kubernetes API server and the hub. Its pump feeds it what both say and executes what it
//! answers; it decides nothing itself. Reading order:
//!
//! * [`io`]: what goes in and what comes out.
//! * [`evidence`]: which list of pods counts at all (law 2), and from which cluster.
//! * [`pin`]: whether that cluster is the one that the hub knows by this node's name.
//! * [`entry`]: everything known about one pod UID, and the *fate* that was decided for it.
//! * [`inference`]: what the absence of a pod from complete lists means (laws 1 and 2), and [`brake`], which holds back too many removals at once.
//! * [`memory`]: what of both must outlive the process.
//! * [`successor`]: whose place a new pod takes on the devices.
//! * [`disconnect`]: what the reaction to silence means for a workload, in its author's words.
//! * [`elsewhere`]: when a successor on another node makes an orphan superfluous.
//! * [`wish`]: what should happen next for one UID, a total function over its entry.
//! * [`bridge`]: the machine that turns wishes into operations, retries them for ever, and asks for wake-ups.
//!
//! # Invariants
//! * Nothing is sent anywhere before one complete pod list and one complete deployment list are known.
//! * A workload is deleted only by explicit intent for its pod UID (an orphan also by its own `stop-after`, or when its place is taken on
//!   another node), or by absence from two complete lists of the pinned cluster under the same Node UID and under the brake. Everything else releases or waits.
//! * A UID with an explicit fate is never put again.
//! * Only deployments of this machine's own source are touched.
//! * No end of a pod goes out before what it was decided on outlives the process, so that an older list never revives a pod.
//! * At most one operation at the hub and one at the API server is in flight per UID.
//!
//! It must not know of HTTP, kube types, TOML, or how a status is rendered.

pub mod backoff;
pub mod brake;
pub mod bridge;
pub mod disconnect;
pub mod elsewhere;
pub mod entry;
pub mod evidence;
pub mod inference;
pub mod io;
pub mod memory;
pub mod pin;
pub mod successor;
pub mod wish;

#[cfg(test)]
mod tests;

pub use brake::Brake;
pub use bridge::{Bridge, BridgeConfig, Dark};
pub use disconnect::Disconnect;
pub use elsewhere::{Elsewhere, Kin, Line};
pub use io::{
    Deletion, DeletionCause, Effect, HeldDeployment, Input, Note, OpId, Outcome, PodList, PodPlan,
    PodRefusal, PodView, UpdateStrategy, WantedPod,
};
pub use memory::{Memory, Removed};
