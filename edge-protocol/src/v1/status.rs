//! What a device observed of its workloads. Everything here is the device's own word.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::manifest::Resources;
use crate::time::DeviceTime;
use crate::{DeploymentRevision, Digest, PodUid, address};

/// How far one assignment has climbed. Ready comes only from the last rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Rung {
    /// The hub chose the device.
    Targeted,
    /// The device has the whole set that contains it.
    Received,
    /// That set is on the device's disk.
    Persisted,
    /// Every container of this very manifest was created.
    Applied,
    /// All of them are ready, or the workload ran to its end successfully.
    Healthy,
}

/// The phases of a pod, plus the two an assignment can end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
    /// The agent will not run it, and says why in `reason` and `message`. Nothing of it was started.
    Refused,
    /// It was stopped by a tombstone and nothing of it is left.
    Gone,
}

/// One workload on one device, whole: a later status replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkloadStatus {
    pub uid: PodUid,
    /// The deployment revision and the manifest that this status speaks of.
    pub revision: DeploymentRevision,
    pub manifest: Digest,
    pub rung: Rung,
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The device ended it for the sake of others, by no fault of its own: `DisruptionTarget`. Why stands in `message`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disrupted: bool,
    #[serde(default)]
    pub containers: Vec<ContainerStatus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<ContainerStatus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ephemeral_containers: Vec<ContainerStatus>,
    /// The sandbox runs and has its network: `PodReadyToStartContainers`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sandbox_ready: bool,
    /// Its foremost address; absent while it has none, and on the device's own network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// Of a second address family; at most one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_pod_ips: Vec<String>,
    /// When its volumes or its first sandbox were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<DeviceTime>,
    /// What it was given as a whole, where it states resources beside its containers'; absent from an agent that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated: Option<Resources>,
    /// What its cgroup is held to; absent before it has one, and from an agent that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// It asks for other resources than it can have now, and goes on with what it and its containers were `allocated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred: Option<DeferredResize>,
    /// It was given other resources, and not every container that runs is held to them yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resizing: Option<Resizing>,
    /// When what this status says became true.
    pub since: DeviceTime,
}

impl WorkloadStatus {
    /// Its addresses, one of a family, the foremost first. What is no address counts for nothing.
    pub fn pod_ips(&self) -> Vec<IpAddr> {
        address::said(self.pod_ip.iter().chain(&self.further_pod_ips))
    }
}

/// Why other resources cannot be had now, and since when. They are weighed again whenever something changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeferredResize {
    /// What there is not enough of, as at admission.
    pub reason: Reason,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    pub since: DeviceTime,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resizing {
    /// When the resources were given.
    pub since: DeviceTime,
    /// The runtime would not, the last time. It is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ResizeFailure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResizeFailure {
    pub message: String,
    /// When it first would not.
    pub since: DeviceTime,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerStatus {
    pub name: String,
    pub image: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// The runtime's id with its scheme, `containerd://…`; empty before the first start.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    pub state: ContainerState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<ContainerState>,
    pub restart_count: u32,
    pub ready: bool,
    /// It runs and its startup probe and `postStart` are past; absent from an agent that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<bool>,
    /// What it was given of the device; absent from an agent that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated: Option<Resources>,
    /// What the runtime holds it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Who its first process ran as, where the runtime tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<LinuxUser>,
}

impl ContainerStatus {
    /// A container that was not started yet.
    pub fn waiting(name: impl Into<String>, image: impl Into<String>, reason: Reason) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            image_id: String::new(),
            container_id: String::new(),
            state: ContainerState::Waiting {
                reason,
                message: String::new(),
            },
            last: None,
            restart_count: 0,
            ready: false,
            started: None,
            allocated: None,
            resources: None,
            user: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LinuxUser {
    pub uid: i64,
    pub gid: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supplemental_groups: Vec<i64>,
}

/// Times are milliseconds since the Unix epoch by the device's wall clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ContainerState {
    Waiting {
        reason: Reason,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
    Running {
        started_at_ms: i64,
    },
    Terminated {
        exit_code: i32,
        reason: Reason,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
        started_at_ms: i64,
        finished_at_ms: i64,
    },
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Reasons a device may give, spelt as Kubernetes spells them. A reason this build does not know reads as `Unknown`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum Reason {
            $($(#[$doc])* $name,)+
            /// A reason from a newer agent.
            #[serde(other)]
            Unknown,
        }

        impl Reason {
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => spelling(stringify!($name)),)+
                    Self::Unknown => "Unknown",
                }
            }
        }
    };
}

reasons! {
    // Waiting: k8s.io/kubernetes pkg/kubelet/images/types.go, pkg/kubelet/container/sync_result.go.
    ContainerCreating,
    CrashLoopBackOff,
    ErrImagePull,
    ImagePullBackOff,
    ErrImageNeverPull,
    ImageInspectError,
    InvalidImageName,
    CreateContainerConfigError,
    CreateContainerError,
    RunContainerError,
    PodInitializing,
    PostStartHookError,
    // Terminated.
    Completed,
    Error,
    OOMKilled,
    ContainerStatusUnknown,
    RestartingAllContainers,
    /// As containerd says it of what could not even be started.
    StartError,
    // Admission on the device, as the kubelet's predicates name them.
    OutOfcpu,
    OutOfmemory,
    OutOfpods,
    NodePorts,
    #[serde(rename = "OutOfephemeral-storage")]
    OutOfEphemeralStorage,
    // And before those: pkg/kubelet/sysctl/allowlist.go, pkg/kubelet/lifecycle/predicate.go.
    SysctlForbidden,
    SupplementalGroupsPolicyNotSupported,
    // The workload as a whole: k8s.io/kubernetes pkg/kubelet/active_deadline.go, pkg/kubelet/eviction.
    DeadlineExceeded,
    Evicted,
    /// A sealed object whose content key this device does not have yet.
    SecretNotSealed,
    /// The manifest requires an ability that this agent lacks.
    RequirementNotMet,
    /// The device's own policy forbids it.
    DevicePolicy,
    /// A successor of the same owner runs in its place.
    SupersededOnDevice,
    /// Offered by a restored hub in a way that contradicts what the device holds.
    Quarantined,
    /// A blob that the manifest names has not arrived.
    WaitingForBlob,
    SandboxFailed,
    // Event reasons: k8s.io/kubernetes pkg/kubelet/events/event.go.
    Pulling,
    Pulled,
    Created,
    Started,
    Killing,
    Failed,
    BackOff,
    FailedCreatePodSandBox,
    FailedKillPod,
    SandboxChanged,
    Adopted,
    Unhealthy,
    FailedPostStartHook,
    FailedPreStopHook,
    FailedMount,
    MissingClusterDNS,
    DNSConfigForming,
    ProbeWarning,
    InspectFailed,
    FailedToRetrieveImagePullSecret,
    ResizeStarted,
    ResizeCompleted,
    ResizeDeferred,
    ResizeError,
}

/// As the enumeration is written, but for the one word that is no identifier.
const fn spelling(name: &'static str) -> &'static str {
    match name.as_bytes() {
        b"OutOfEphemeralStorage" => "OutOfephemeral-storage",
        _ => name,
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EventLevel {
    Normal,
    Warning,
}

/// Something that happened on a device. `seq` rises by one per device and survives restarts, so that a repeat is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceEvent {
    pub seq: u64,
    pub at: DeviceTime,
    pub uid: PodUid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    pub level: EventLevel,
    pub reason: Reason,
    /// What lies behind it, where the reason alone does not tell: of a deferred resize, what there is not enough of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Reason>,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_a_newer_agent_is_kept_apart_not_refused() {
        assert_eq!(
            serde_json::from_str::<Reason>("\"CrashLoopBackOff\"").unwrap(),
            Reason::CrashLoopBackOff
        );
        assert_eq!(
            serde_json::from_str::<Reason>("\"SolarFlare\"").unwrap(),
            Reason::Unknown
        );
        assert_eq!(Reason::OOMKilled.to_string(), "OOMKilled");
        assert_eq!(
            serde_json::to_value(Reason::OutOfEphemeralStorage).unwrap(),
            Reason::OutOfEphemeralStorage.as_str()
        );
    }
}
