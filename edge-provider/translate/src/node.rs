//! What kind of Node a pod is bound to, and what besides the pod decides how it is translated.

use edge_protocol::v1::{Amounts, Manifest};

use crate::objects::Objects;

/// What a Node stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// All devices that match: a pod runs on many at once, so what belongs to one machine is refused.
    #[default]
    Fleet,
    /// One device, which runs a pod as a kubelet would.
    Device,
}

/// What besides the pod decides how it is translated. The default is a fleet node for whose pods nothing was read.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub kind: NodeKind,
    /// The manifest made earlier from the same pod UID, if one is with the hub: on a fleet node, resources that differ from it were
    /// resized in place, which is refused there.
    pub held: Option<&'a Manifest>,
    /// What was found of the pod's [`references`](crate::references::references).
    pub objects: &'a Objects,
    /// The cluster's DNS domain, for fully qualified names of pods.
    pub cluster_domain: &'a str,
    /// What a device's own Node keeps back of it. Absent on a fleet node.
    pub reserved: Option<Amounts>,
}

impl Default for Context<'_> {
    fn default() -> Self {
        Self {
            kind: NodeKind::Fleet,
            held: None,
            objects: Objects::NONE,
            cluster_domain: "cluster.local",
            reserved: None,
        }
    }
}
