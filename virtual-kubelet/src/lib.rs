//! Virtual nodes' dealings with an API server: watches in, patches out. What they mean is the [`Provider`]'s business.
//!
//! * [`provider`]: the seam: facts about pods in, effects on pods out.
//! * [`kubelet`]: [`VirtualKubelet`] wires the sources below, of which a process has one each, to its nodes. `work`: the pump of one node,
//!   sole user of its provider, which owns the objects as last seen.
//! * [`cluster`]: one bounded, timed call of the API server; every body is plain JSON made by `virtual-kubelet-core`.
//! * [`node_task`]: keeps one Node and its lease, by the sight of [`node_watch`]. [`leader`]: which process does so at all.
//! * [`pod_watch`]: complete lists ([`lists`]) and changes of our pods, with [`references`] (owners followed, namespace labels).
//! * [`objects`]: reads and follows what pods refer to, and nothing else: config maps, secrets, claims, tokens, services.
//! * [`successors`]: whether a pod's place is taken on another node, when the provider asks.
//! * [`pod_writer`]: status patches that name the UID, and the final delete with a UID precondition.
//! * [`events`]: events as a kubelet's, bounded.
//! * [`serving`]: the certificate of the kubelet API.
//!
//! It must not know of hubs, devices or manifests, and it decides nothing that `virtual-kubelet-core` can decide.

pub mod cluster;
pub mod error;
pub mod events;
pub mod kubelet;
pub mod leader;
pub mod lists;
pub mod node_task;
pub mod node_watch;
pub mod objects;
pub mod pod_watch;
pub mod pod_writer;
pub mod provider;
pub mod references;
pub mod serving;
pub mod successors;
pub mod work;

pub use cluster::Cluster;
pub use error::Error;
pub use kubelet::{FurtherNodes, KubeletOptions, VirtualKubelet};
pub use leader::{LeaderOptions, ProcessMemory};
pub use pod_watch::Selection;
pub use provider::{
    Annotations, FinishOutcome, ObservedPod, PodDeletion, PodEffect, PodInput, PodLine, PodOwner,
    PodSnapshot, Provider, ReadyElsewhere,
};
pub use virtual_kubelet_core as core;
pub use virtual_kubelet_core::EventText;
