//! What a device is asked to run, or to stop, in a form that is the same bytes for every device.
//!
//! A field that an agent of this version's first day does not know comes with a word in [`Manifest::requires`]; [`ability`](super::ability)
//! has them all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::amounts::Amounts;
use crate::{Digest, PodUid};

mod environment;
mod network;
mod probe;
mod security;
mod volume;

pub use environment::{ContainerResource, EnvFrom, EnvVar, ObjectKind, PodField, ResourceField, ValueFrom};
pub use network::{DnsPolicy, DnsSpec, HostAlias, Names, Namespaces};
pub use probe::{Action, Header, Lifecycle, Probe, Probes};
pub use security::{ContainerSecurity, PodSecurity, Profile, is_baseline_capability};
pub use volume::{
    ClaimPlugin, DownwardValue, HostPathCheck, KeyToPath, Medium, MountSpec, ProjectedSource, Propagation,
    RecursiveReadOnly, SubPath, VolumeSource, VolumeSpec,
};

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
    /// Run in this order before the others, each to its end; one whose own restart policy is `Always` (a sidecar) stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<ContainerSpec>,
    /// What a person looks into the workload with: each is started once, in a sandbox that is there, and never again. They have no resources of
    /// their own, and neither their being there nor their ends count for the workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ephemeral_containers: Vec<ContainerSpec>,
    /// Seconds on this device, from its start there, after which it fails with `DeadlineExceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeSpec>,
    #[serde(default, skip_serializing_if = "PodSecurity::is_default")]
    pub security: PodSecurity,
    #[serde(default, skip_serializing_if = "Namespaces::is_default")]
    pub namespaces: Namespaces,
    #[serde(default, skip_serializing_if = "Names::is_default")]
    pub names: Names,
    /// Of the pod as a whole, where it states some; else the containers' sums count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// What the runtime's handler costs, on top of the containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<Resources>,
    /// The Node it is bound to, for the downward API.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_account: String,
    /// Orders eviction; a greater one goes later.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// The names of `imagePullSecrets`, in the pod's order. Those that the cluster has are among the manifest's objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<String>,
    /// Of a pod that is bound to the device's own Node: what of the device that Node keeps back. Such a workload is admitted against what
    /// is left, one of a fleet against all that the device has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Amounts>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(priority: &i32) -> bool {
    *priority == 0
}

impl WorkloadSpec {
    /// A workload of these containers that restarts always, with Kubernetes' defaults for all else.
    pub fn new(hostname: impl Into<String>, containers: Vec<ContainerSpec>) -> Self {
        Self {
            hostname: hostname.into(),
            restart_policy: RestartPolicy::Always,
            termination_grace_period_s: 30,
            qos: QosClass::BestEffort,
            containers,
            init_containers: Vec::new(),
            ephemeral_containers: Vec::new(),
            active_deadline_s: None,
            volumes: Vec::new(),
            security: PodSecurity::default(),
            namespaces: Namespaces::default(),
            names: Names::default(),
            resources: None,
            overhead: None,
            node_name: String::new(),
            service_account: String::new(),
            priority: 0,
            pull_secrets: Vec::new(),
            reserved: None,
        }
    }

    /// It is never evicted (`SystemCriticalPriority` of `pkg/apis/scheduling`).
    pub fn is_critical(&self) -> bool {
        self.priority >= 2_000_000_000
    }

    /// All containers that it consists of, the initial ones first, in the order of the pod.
    pub fn all_containers(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// Those, and the ephemeral ones.
    pub fn every_container(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.all_containers().chain(&self.ephemeral_containers)
    }

    /// The most memory it may use: its own limit, or the greatest sum that runs at once, if every container has one
    /// (`ResourceConfigForPod` of `pkg/kubelet/cm/helpers_linux.go`).
    pub fn memory_limit(&self) -> Option<u64> {
        if let Some(limit) = self.resources.as_ref().and_then(|own| own.memory_limit_bytes) {
            return Some(limit);
        }
        let (mut sidecars, mut most) = (0u64, 0u64);
        for container in &self.init_containers {
            let limit = container.resources.memory_limit_bytes?;
            if container.is_sidecar() {
                sidecars = sidecars.saturating_add(limit);
                most = most.max(sidecars);
            } else {
                most = most.max(sidecars.saturating_add(limit));
            }
        }
        let mut together = sidecars;
        for container in &self.containers {
            together = together.saturating_add(container.resources.memory_limit_bytes?);
        }
        Some(most.max(together))
    }
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
    /// In declaration order; a later entry of the same name wins. Literal values are already expanded unless `expand` is set.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// Before `env`, which wins over it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFrom>,
    /// `command`, `args` and `env` hold `$(VAR)` references and `$$` for the device to expand, because some variable is known only there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expand: bool,
    #[serde(default)]
    pub ports: Vec<PortSpec>,
    #[serde(default)]
    pub resources: Resources,
    /// A running container made from another value is restarted. It is computed by the writer by the kubelet's container-hash rule
    /// and opaque to the reader.
    pub restart_digest: Digest,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountSpec>,
    #[serde(default, skip_serializing_if = "Probes::is_empty")]
    pub probes: Probes,
    #[serde(default, skip_serializing_if = "Lifecycle::is_empty")]
    pub lifecycle: Lifecycle,
    #[serde(default, skip_serializing_if = "ContainerSecurity::is_default")]
    pub security: ContainerSecurity,
    /// Its own, over the workload's. `Always` makes an initial container a sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Looked at in order when it exits, before the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_rules: Vec<RestartRule>,
    #[serde(default, skip_serializing_if = "Terminal::is_default")]
    pub terminal: Terminal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_message: Option<TerminationMessage>,
    /// Resources whose change restarts the container; others change in place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resize_restarts: Vec<ResizeResource>,
    /// Of an ephemeral container: the one whose processes it is among, where they are not shared anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl ContainerSpec {
    /// A container with Kubernetes' defaults; its restart digest is that of name and image, until the writer knows better.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        let (name, image) = (name.into(), image.into());
        let restart_digest = Digest::of_parts([name.as_bytes(), image.as_bytes()]);
        Self {
            name,
            image,
            pull_policy: PullPolicy::IfNotPresent,
            command: Vec::new(),
            args: Vec::new(),
            working_dir: None,
            env: Vec::new(),
            env_from: Vec::new(),
            expand: false,
            ports: Vec::new(),
            resources: Resources::default(),
            restart_digest,
            mounts: Vec::new(),
            probes: Probes::default(),
            lifecycle: Lifecycle::default(),
            security: ContainerSecurity::default(),
            restart_policy: None,
            restart_rules: Vec::new(),
            terminal: Terminal::default(),
            termination_message: None,
            resize_restarts: Vec::new(),
            target: None,
        }
    }

    /// Of an initial container: whether it stays and is restarted while the others run.
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy == Some(RestartPolicy::Always)
    }
}

/// What an exit code does, whatever the restart policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRule {
    pub action: RestartAction,
    /// Whether the exit code must be one of `exit_codes`, or none of them.
    pub among: bool,
    pub exit_codes: Vec<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartAction {
    Restart,
    /// Every container of the workload, the initial ones too.
    RestartAll,
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terminal {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stdin: bool,
    /// Closed after the first one who attached leaves.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stdin_once: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
}

impl Terminal {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a container leaves its last words. At most 4096 bytes of them are read, 12 KiB over all containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminationMessage {
    pub path: String,
    /// When the file is empty and the exit was no success: the end of the log, 2048 bytes or 80 lines.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fall_back_to_log: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeResource {
    Cpu,
    Memory,
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resources {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_request_milli: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit_milli: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_request_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage_request_bytes: Option<u64>,
    /// More than this, of log, writable layer and volumes on disk, evicts the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage_limit_bytes: Option<u64>,
}

impl Resources {
    /// What a container of a workload is held to that states `whole`: a limit of cpu or memory that it does not have is the workload's
    /// (`GetLimits` of `pkg/kubelet/util/util.go`).
    #[must_use]
    pub fn within(&self, whole: Option<&Self>) -> Self {
        let limit = |of: fn(&Self) -> Option<u64>| {
            let own = of(self).filter(|own| *own > 0);
            own.or_else(|| whole.and_then(of))
        };
        Self {
            cpu_limit_milli: limit(|r| r.cpu_limit_milli),
            memory_limit_bytes: limit(|r| r.memory_limit_bytes),
            ..self.clone()
        }
    }
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

/// A reference to an object's blob. One that the pod names and the cluster does not have is not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// One of [`object`](super::object)'s kinds.
    pub kind: String,
    pub name: String,
    pub digest: Digest,
    /// Whether the blob is a [`SealedObject`](super::SealedObject), else it is an [`ObjectData`](super::ObjectData).
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
