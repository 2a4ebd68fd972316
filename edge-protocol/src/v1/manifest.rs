//! What a device is asked to run, or to stop, in a form that is the same bytes for every device.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, PodUid};

/// One pod as devices run it. Its digest covers the stored bytes of this document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub v: u16,
    pub uid: PodUid,
    pub namespace: String,
    pub name: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    pub workload: WorkloadSpec,
    /// Config maps, secrets, tokens and pull credentials, each a blob of its own: a change there swaps files and restarts nothing.
    #[serde(default)]
    pub objects: Vec<ObjectRef>,
    /// Abilities an agent must have to honour this manifest. One that lacks any refuses by name.
    #[serde(default)]
    pub requires: Vec<String>,
    /// Workloads whose place this one takes on each device: its images are pulled, then they stop, then it starts.
    #[serde(default)]
    pub replaces: Vec<PodUid>,
}

/// The part of a manifest that containers are made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadSpec {
    pub hostname: String,
    pub restart_policy: RestartPolicy,
    pub termination_grace_period_s: u32,
    pub qos: QosClass,
    pub containers: Vec<ContainerSpec>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub name: String,
    pub image: String,
    pub pull_policy: PullPolicy,
    /// The entry point; empty means the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// In declaration order, already expanded; a later entry of the same name wins.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    #[serde(default)]
    pub ports: Vec<PortSpec>,
    #[serde(default)]
    pub resources: Resources,
    /// A running container made from another value is restarted. It is computed by the writer by the kubelet's container-hash rule
    /// and opaque to the reader.
    pub restart_digest: Digest,
}

/// One environment variable. `Debug` does not show the value: people put secrets there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    pub name: String,
    pub value: String,
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvVar")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub container_port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    pub protocol: PortProtocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PortProtocol {
    Tcp,
    Udp,
    Sctp,
}

/// CPU in thousandths of a core, memory in bytes; absent means not stated, as in the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_request_milli: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit_milli: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_request_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// As the kubelet derives it from requests and limits; decides `oom_score_adj` and the cgroup parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// A reference to an object's blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    pub kind: String,
    pub name: String,
    pub digest: Digest,
    /// Whether the blob is sealed to the device.
    pub sealed: bool,
}

/// An explicit order to stop one workload and to forget it. It outlives the pod, and goes once the device has acknowledged it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    pub v: u16,
    pub uid: PodUid,
    /// Seconds between SIGTERM and SIGKILL; absent means the manifest's own. A later tombstone may shorten it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period_s: Option<u32>,
    pub reason: TombstoneReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TombstoneReason {
    /// Its deployment was deleted.
    Deleted,
    /// The device left the deployment's target.
    Untargeted,
    /// A successor took its place on this device.
    Superseded,
    /// An operator removed the orphan.
    OrphanRemoved,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_environment_is_not_shown() {
        let shown = format!(
            "{:?}",
            EnvVar {
                name: "PASSWORD".into(),
                value: "hunter2".into()
            }
        );
        assert!(
            shown.contains("PASSWORD") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
