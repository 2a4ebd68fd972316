//! What a provider asks of the hub, and what the hub makes of the devices' answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::status::{ContainerStatus, Phase, Reason, WorkloadStatus};
use crate::{DeploymentRevision, DeviceId, PodUid};

/// A deployment as its provider wants it. Its key is `uid`; putting the same document twice changes nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeploymentSpec {
    pub uid: PodUid,
    pub source: Source,
    /// The UID of the Node object when the pod was bound: another UID later means that the Node was deleted in between, and then
    /// the pod's absence is no one's intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_uid: Option<String>,
    pub namespace: String,
    pub name: String,
    /// The controller that owns the pod, followed from `ReplicaSet` to `Deployment`. Successors are recognised by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    pub target: TargetSpec,
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub ready_policy: ReadyPolicy,
    /// The bytes of a [`Manifest`](super::Manifest), stored and forwarded as they are.
    pub manifest: String,
}

impl fmt::Debug for DeploymentSpec {
    /// Without the manifest's text, which holds the values of environment variables.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            uid,
            source,
            node_uid,
            namespace,
            name,
            owner,
            target,
            ready_policy,
            manifest,
        } = self;
        f.debug_struct("DeploymentSpec")
            .field("uid", uid)
            .field("source", source)
            .field("node_uid", node_uid)
            .field("namespace", namespace)
            .field("name", name)
            .field("owner", owner)
            .field("target", target)
            .field("ready_policy", ready_policy)
            .field("manifest", &format_args!("{} bytes", manifest.len()))
            .finish()
    }
}

/// Who put a deployment. A provider removes only its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Source {
    /// The UID of the cluster's `kube-system` namespace.
    pub cluster_uid: String,
    /// The virtual node that the pod is bound to.
    pub node: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Owner {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// Which devices. `scope` comes from the provider's configuration and is `AND`ed to `condition` for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TargetSpec {
    /// A target condition; `*` is every device in scope.
    pub condition: String,
    /// A target condition; `*` is every device.
    pub scope: String,
}

/// How many of the counted devices must be healthy for the pod to be Ready. At least one always must.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ReadyPolicy {
    #[default]
    All,
    Any,
    /// 1 to 100.
    Percent(u8),
}

impl ReadyPolicy {
    /// Law 3: `healthy` of `counted` devices, where `counted` leaves out those offline past their deadline.
    pub fn is_met(self, healthy: u32, counted: u32) -> bool {
        healthy > 0
            && match self {
                Self::All => healthy >= counted,
                Self::Any => true,
                Self::Percent(percent) => u64::from(healthy) * 100 >= u64::from(counted) * u64::from(percent),
            }
    }
}

impl fmt::Display for ReadyPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Any => f.write_str("any"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl From<ReadyPolicy> for String {
    fn from(policy: ReadyPolicy) -> String {
        policy.to_string()
    }
}

/// A ready policy that is none of `all`, `any`, `1%` to `100%`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ready policy {0:?} is none of 'all', 'any', '1%' to '100%'")]
pub struct InvalidReadyPolicy(pub String);

impl TryFrom<String> for ReadyPolicy {
    type Error = InvalidReadyPolicy;
    fn try_from(text: String) -> Result<Self, InvalidReadyPolicy> {
        match text.as_str() {
            "all" => Ok(Self::All),
            "any" => Ok(Self::Any),
            other => other
                .strip_suffix('%')
                .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|percent| (1..=100).contains(percent))
                .map(Self::Percent)
                .ok_or_else(|| InvalidReadyPolicy(text.chars().take(80).collect())),
        }
    }
}

/// Where a deployment stands in its own life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeploymentState {
    Active,
    /// Its pod is gone by no one's intent: devices keep the workload as an orphan until a successor takes over or a person removes it.
    Released {
        since_ms: i64,
    },
    /// Tombstones are out; it ends when every device that may hold it has acknowledged.
    Deleting {
        since_ms: i64,
        grace_period_s: Option<u32>,
    },
}

/// The hub's roll-up over all assignments of one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeploymentStatus {
    pub uid: PodUid,
    /// The revision that these figures speak of.
    pub revision: DeploymentRevision,
    pub state: DeploymentState,
    pub counts: LadderCounts,
    /// The ready policy applied to the counts.
    pub ready: bool,
    /// The pod phase that follows from the devices', by the rule of the restart policy; never `Refused` or `Gone`.
    pub phase: Phase,
    /// One per container of the manifest, in its order: the worst of all counted devices.
    pub containers: Vec<ContainerRollup>,
    /// At most ten, the worst first.
    pub failing: Vec<FailingDevice>,
    /// Devices that still owe the acknowledgement of a tombstone: connected ones hold the pod object, offline ones are only listed.
    pub stopping_online: u32,
    pub stopping_offline: Vec<DeviceId>,
    /// Milliseconds since the Unix epoch of the oldest word among the counted devices; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of_ms: Option<i64>,
    /// The hub was restored from a backup, and nobody has asked for this deployment since: a device that holds something newer of it keeps
    /// that. Its provider says again what it wants, by a put, a delete or a release.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
    /// Devices that run it and for which nobody has sealed all of its secrets yet: containers that need them wait there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waiting_for_keys: u32,
    /// The device that answers for all where one must, such as for `kubectl logs` of a fleet pod: of those that run it the connected ones before the
    /// others, then the furthest on the ladder. It stays the same while none is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<DeviceId>,
    /// The device's own word, whole, where exactly one device is targeted and has spoken: what a pod on a device node shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Box<WorkloadStatus>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Each count contains the ones above it on the ladder: a healthy device is also applied, persisted, received and targeted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LadderCounts {
    pub targeted: u32,
    /// Of the targeted, those offline past their deadline.
    pub offline: u32,
    /// Late joiners that are not yet in the count: neither healthy once nor past the join deadline.
    pub joining: u32,
    /// The denominator of readiness: targeted less offline less joining.
    pub counted: u32,
    pub received: u32,
    pub persisted: u32,
    pub applied: u32,
    /// Healthy among the counted.
    pub healthy: u32,
}

/// One container over all devices: the worst status, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerRollup {
    /// Absent while no device has said anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    pub status: ContainerStatus,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FailingDevice {
    pub device: DeviceId,
    pub reason: Reason,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(policy: &str, healthy: u32, counted: u32, met: bool) {
        let policy = ReadyPolicy::try_from(policy.to_owned()).unwrap();
        assert_eq!(
            policy.is_met(healthy, counted),
            met,
            "{policy} {healthy}/{counted}"
        );
    }

    #[test]
    fn readiness_needs_a_healthy_device_whatever_the_policy() {
        for policy in ["all", "any", "1%", "100%"] {
            check(policy, 0, 0, false);
        }
        check("all", 19, 19, true);
        check("all", 19, 20, false);
        check("any", 1, 20, true);
        check("90%", 18, 20, true);
        check("90%", 17, 20, false);
        check("1%", 1, 20, true);
    }

    #[test]
    fn a_wrong_policy_is_named() {
        for bad in ["", "ALL", "0%", "101%", "50", "+5%", "-1%", "1.5%"] {
            let error = ReadyPolicy::try_from(bad.to_owned()).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }
}
