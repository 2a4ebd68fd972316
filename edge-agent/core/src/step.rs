//! The seam to a container runtime: what the agent may ask of it, and what it sees there.
//!
//! Steps are idempotent: a step repeated after a crash finds its own work by the labels it left and does not double it.
//! Nothing here names a runtime; `edge-agent` executes steps against CRI.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use edge_protocol::address::one_of_each_family;
use edge_protocol::v1::{Action, ContainerSpec, LinuxUser, Manifest, PortSpec, QosClass, Reason, Resources};
use edge_protocol::{Digest, PodUid};

/// One step in flight. Unique within one life of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u64);

/// One thing to do in the runtime. Steps of different workloads run at the same time; the machine never has two steps of one
/// container in flight, but for a `StopContainer` that shortens the grace of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Find the image on the device, without a word to a registry: [`StepOutcome::Image`], or [`StepOutcome::NoImage`].
    FindImage { image: String },
    /// Fetch the image from its registry, or find that what is here is the registry's: with each credential of the manifest that fits, one
    /// after the other, or as anybody when none fits. A pull never blocks a step of another image.
    PullImage { image: String, manifest: Arc<Manifest> },
    /// Have the workload's volumes as its manifest says: directories, mounts, and the files of objects. Of a workload whose containers
    /// run it swaps the files that changed, each volume's at once, and leaves the rest. Objects are found by their digests in the store.
    SyncVolumes {
        manifest: Arc<Manifest>,
        pod_ips: Vec<IpAddr>,
    },
    /// Create and start the sandbox of one workload, with its cgroup. Finds an existing ready one of the same attempt.
    RunSandbox(Box<SandboxSpec>),
    /// Create and start one container in its sandbox. Finds an existing one of the same attempt.
    StartContainer(Box<StartContainer>),
    /// Run the container's `postStart` hook to its end. Its failure is [`StepOutcome::Failed`].
    PostStart(Box<InContainer>),
    /// Run one probe once, for at most its timeout. A probe that cannot be run at all is [`StepOutcome::Failed`], which counts for nothing.
    Probe {
        kind: ProbeKind,
        target: Box<InContainer>,
        timeout_s: u32,
    },
    /// Hold a workload's cgroup to its sums, and running containers of it to other resources. Where less memory is allowed than is in use, all of it
    /// is left as it is.
    Resize {
        sandbox: Box<SandboxSpec>,
        containers: Vec<ContainerResize>,
    },
    /// The `preStop` hook where there is one, then the stop signal, then SIGKILL after the grace, which counts from the beginning; what is
    /// left for the signal is at least two seconds. Zero grace kills at once and runs no hook. Done when it has exited; an unknown container
    /// is done.
    StopContainer {
        container_id: String,
        grace_s: u32,
        pre_stop: Option<Box<InContainer>>,
    },
    /// Remove a container that is exited, was never started, or is lost to the runtime, by force if need be. The log of its name's last
    /// attempt is kept until the workload goes, or a second start after it. An unknown container is done.
    RemoveContainer { container_id: String },
    /// Stop the sandbox: its network goes, what still runs in it is killed.
    StopSandbox { sandbox_id: String },
    /// Remove the sandbox and the exited containers in it. The workload's cgroup and log directory stay: another sandbox of the same
    /// workload may use them. An unknown sandbox is done.
    RemoveSandbox { sandbox_id: String, uid: PodUid },
    /// Remove the workload's cgroup, log directory and volumes, but never what a `hostPath` or local volume shows. Nothing of the workload
    /// is in the runtime any more. What is gone is done.
    RemoveWorkload { uid: PodUid },
}

impl Step {
    /// The manifest whose objects the step may read.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        match self {
            Self::SyncVolumes { manifest, .. } | Self::PullImage { manifest, .. } => Some(manifest),
            Self::RunSandbox(sandbox) => Some(&sandbox.manifest),
            Self::StartContainer(start) => Some(&start.sandbox.manifest),
            _ => None,
        }
    }

    /// Whether its end changes what a look at the runtime shows: every step that makes, changes or ends a sandbox or a container.
    pub fn touches_containers(&self) -> bool {
        !matches!(
            self,
            Self::FindImage { .. }
                | Self::PullImage { .. }
                | Self::SyncVolumes { .. }
                | Self::Probe { .. }
                | Self::PostStart(_)
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    pub uid: PodUid,
    pub namespace: String,
    pub name: String,
    /// Rises by one with every new sandbox of the workload, from 0.
    pub attempt: u32,
    pub hostname: String,
    pub qos: QosClass,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// The ports of all containers; those with a host port are mapped.
    pub ports: Vec<PortSpec>,
    /// The whole of what it is made from; the fields above repeat what every runtime needs.
    pub manifest: Arc<Manifest>,
    /// Sums over the containers, as the kubelet computes a pod's cgroup; `None` means unbounded.
    pub cpu_request_milli: u64,
    pub cpu_limit_milli: Option<u64>,
    pub memory_limit_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartContainer {
    pub sandbox_id: String,
    /// The sandbox's own description: CRI wants it again with every container.
    pub sandbox: SandboxSpec,
    /// The restart count that the container will show.
    pub attempt: u32,
    pub container: ContainerSpec,
    /// The runtime id of the container among whose processes it is to be, if it is not to have its own.
    pub target: Option<String>,
    /// The sandbox's addresses, for the downward API and `/etc/hosts`.
    pub pod_ips: Vec<IpAddr>,
}

/// Other resources for a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerResize {
    pub container_id: String,
    pub name: String,
    pub resources: Resources,
    /// The limit of its memory, where it had a higher one or none.
    pub lowered_memory_bytes: Option<u64>,
}

/// Something to do in, or ask of, a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InContainer {
    pub container_id: String,
    pub action: Action,
    /// Where an action without a host of its own goes; absent on the device's own network.
    pub pod_ip: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

/// What a probe found (`Result` of pkg/probe).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    Success,
    /// Success as far as could be seen: it was to look elsewhere, and does not.
    Warning,
    Failure,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    Image {
        image_id: String,
        /// What the runtime says that it takes on the device; 0 where it does not.
        size_bytes: u64,
        /// Of a pull: the pull secret that opened the registry, if one was needed.
        secret: Option<String>,
    },
    /// The device does not have it.
    NoImage,
    Sandbox {
        sandbox_id: String,
        /// As [`ObservedSandbox::ips`].
        ips: Vec<IpAddr>,
        /// What had to be left out of its resolver's settings, in the kubelet's words.
        left_out: Vec<String>,
    },
    Started {
        container_id: String,
    },
    /// What the probe saw, with at most 10 KiB of what it printed.
    Probed {
        finding: Finding,
        output: String,
    },
    Done,
    /// As `Done`, of a stop whose `preStop` hook failed.
    HookFailed {
        message: String,
    },
    /// `reason` is the one Kubernetes would show while waiting for the next try.
    Failed {
        reason: Reason,
        message: String,
    },
}

/// Everything of ours that the runtime has, at one moment. Complete by construction: a listing that failed is not an observation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    pub sandboxes: Vec<ObservedSandbox>,
    pub containers: Vec<ObservedContainer>,
}

/// How many addresses of one sandbox are looked at.
pub const MAX_POD_IPS: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedSandbox {
    pub id: String,
    pub uid: PodUid,
    pub attempt: u32,
    pub ready: bool,
    /// All of its addresses, of whatever families, in the runtime's order, at most [`MAX_POD_IPS`]. Empty while it has none, and on the device's own
    /// network.
    pub ips: Vec<IpAddr>,
    pub created_at_ms: i64,
}

impl ObservedSandbox {
    /// Those that the workload shows as its own, the first one foremost.
    pub(crate) fn shown_ips(&self) -> Vec<IpAddr> {
        one_of_each_family(self.ips.iter().copied())
    }
}

/// Times are milliseconds since the Unix epoch, as the runtime recorded them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedContainer {
    /// The bare runtime id.
    pub id: String,
    pub sandbox_id: String,
    pub uid: PodUid,
    pub name: String,
    pub attempt: u32,
    pub image: String,
    pub image_id: String,
    pub restart_digest: Digest,
    pub state: ObservedState,
    /// What the runtime holds it to; absent where it does not tell.
    pub resources: Option<Resources>,
    pub user: Option<LinuxUser>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedState {
    Created,
    Running {
        started_at_ms: i64,
    },
    Exited {
        exit_code: i32,
        reason: Reason,
        message: String,
        started_at_ms: i64,
        finished_at_ms: i64,
    },
    /// The runtime lost track of it.
    Unknown,
}
