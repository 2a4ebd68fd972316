//! What was found in the cluster of all that a pod refers to, and the objects as devices get them.

mod convert;
mod services;

use std::collections::BTreeMap;

use edge_protocol::Digest;
use edge_protocol::v1::{ClaimPlugin, HostPathCheck};

pub use convert::{NotAnObject, claim, config_map, pull_credential, secret, token};
pub use services::{ApiServer, services};

/// The one name of an object of kind [`Services`](edge_protocol::v1::object::kind::SERVICES).
pub const SERVICES: &str = "services";

/// An object by its kind (one of [`kind`](edge_protocol::v1::object::kind)) and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    pub kind: &'static str,
    pub name: String,
}

impl ObjectKey {
    pub fn new(kind: &'static str, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
        }
    }
}

/// What was found of a pod's references. One that stands in neither map was not looked for yet: its pod is not translated before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    pub found: BTreeMap<ObjectKey, Found>,
    /// By the claim's name.
    pub claims: BTreeMap<String, Claim>,
}

impl Objects {
    /// Nothing was looked for.
    pub const NONE: &'static Self = &Self {
        found: BTreeMap::new(),
        claims: BTreeMap::new(),
    };
}

/// An object's blob, or that the cluster does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The digest of the blob, and whether it is sealed; goes into the manifest.
    Present { digest: Digest, sealed: bool },
    /// Left out of the manifest. Whether that is a wait or nothing is the device's to say, by `optional`, as the kubelet does.
    Missing,
}

/// What a persistent volume claim is on the device that the pod is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Bound to a directory of the device.
    Bound {
        path: String,
        check: HostPathCheck,
        plugin: ClaimPlugin,
    },
    /// Not there, or not bound: the pod waits. The words say which.
    NotYet(String),
    /// Bound to what no device has; the words say what.
    Unsupported(String),
}
