//! A workload's volumes, and where its containers see them.

use serde::{Deserialize, Serialize};

use super::PullPolicy;
use super::environment::{ObjectKind, PodField, ResourceField};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum VolumeSource {
    /// Lives as long as the workload on this device.
    EmptyDir {
        #[serde(default)]
        medium: Medium,
        /// More than this evicts the workload.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_limit_bytes: Option<u64>,
    },
    HostPath {
        path: String,
        #[serde(default)]
        check: HostPathCheck,
    },
    /// Files of objects, fields and tokens; also what the pod calls a `configMap`, `secret` or `downwardAPI` volume.
    Projected {
        sources: Vec<ProjectedSource>,
        /// Permission bits, at most `0o777`.
        default_mode: u32,
    },
    /// The files of an image, read only.
    Image {
        reference: String,
        pull_policy: PullPolicy,
    },
    /// A claim bound to a directory of this very device. Nothing of it is ever removed here.
    Local {
        claim: String,
        path: String,
        /// Created when it is not there (a `hostPath` volume of type `DirectoryOrCreate`), else it must be.
        #[serde(default)]
        check: HostPathCheck,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        read_only: bool,
        #[serde(default, skip_serializing_if = "ClaimPlugin::is_host_path")]
        plugin: ClaimPlugin,
    },
    /// A kind of a newer writer; `requires` names it.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    #[default]
    Disk,
    /// tmpfs, sized by the limit or by the memory that the pod may use.
    Memory,
}

/// Which of Kubernetes' volume plugins has the volume that a claim is bound to. They differ in what they do to the directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimPlugin {
    /// The directory is nobody's but the device's: nothing of it is given to the pod's group.
    #[default]
    HostPath,
    /// The directory is the volume, and is given to the pod's group.
    Local,
}

impl ClaimPlugin {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_host_path(&self) -> bool {
        *self == Self::HostPath
    }
}

/// What must be at a path before it is mounted, as `v1.HostPathType` has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostPathCheck {
    /// Nothing is looked at.
    #[default]
    Unset,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ProjectedSource {
    Object {
        object: ObjectKind,
        name: String,
        /// Which keys go where; empty means every key to a file of its name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        items: Vec<KeyToPath>,
        /// Neither a missing object nor a missing key is an error.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        optional: bool,
    },
    Downward {
        path: String,
        value: DownwardValue,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
    /// The token that the workload's object of kind `Token` and this name holds.
    Token { path: String, object: String },
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyToPath {
    pub key: String,
    /// Below the volume, without `..`.
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum DownwardValue {
    Field { field: PodField },
    Resource(ResourceField),
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    pub volume: String,
    pub mount_path: String,
    /// A path inside the volume that is mounted in its stead; resolved without following a link out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<SubPath>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    #[serde(default)]
    pub recursive_read_only: RecursiveReadOnly,
    #[serde(default)]
    pub propagation: Propagation,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubPath {
    Literal(String),
    /// With `$(VAR)` of the container's environment.
    Expand(String),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecursiveReadOnly {
    #[default]
    Disabled,
    IfPossible,
    Enabled,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    #[default]
    None,
    HostToContainer,
    Bidirectional,
}
