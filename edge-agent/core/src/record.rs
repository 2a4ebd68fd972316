//! What the device remembers of one workload across restarts of the agent and of the machine.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::{ContainerState, ContainerStatus, Manifest, Reason, Resizing, Resources};
use edge_protocol::{BootId, DeploymentRevision, DeviceTime, Digest, Now, PodUid};
use serde::{Deserialize, Serialize};

use crate::allocation::{Allocation, Deferred};
use crate::health::Remembered;
use crate::sums::Bounds;

/// One row of the store, as JSON. Fields are only ever added, with a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) revision: DeploymentRevision,
    /// The manifest that is acted on: the newest one that this agent can honour.
    pub(crate) manifest: Option<Digest>,
    /// Images of the generation before this one, that of the workload or of one whose place it took: the way back needs no network.
    pub(crate) previous_images: BTreeSet<String>,
    /// Passed admission; an admitted workload is not judged again.
    pub(crate) admitted: bool,
    /// Failed admission, for good, as with the kubelet: the manifest it was, the reason and the message.
    pub(crate) rejected: Option<Rejection>,
    /// The greatest attempt ever started, by container: the restart count, also when the runtime forgot.
    pub(crate) attempts: BTreeMap<String, u32>,
    pub(crate) sandbox_attempt: Option<u32>,
    /// When its volumes or its first sandbox were asked for.
    pub(crate) started: Option<DeviceTime>,
    /// Containers stopped because their spec changed: they start again whatever the restart policy says of their exit.
    pub(crate) replacing: BTreeSet<String>,
    /// How containers ended that will not be started again, for when the runtime has them no more.
    pub(crate) ended: BTreeMap<String, Ended>,
    /// How the instance before the one that runs ended, by container, where the runtime may have nothing of it any more.
    pub(crate) last: BTreeMap<String, ContainerState>,
    /// It failed as a whole, for good, such as past its deadline: it is stopped and stays so.
    pub(crate) failed: Option<Failed>,
    /// All its containers are being removed, to begin anew.
    pub(crate) resetting: bool,
    /// What it was admitted with; a change of that in place is weighed anew. Absent before admission, and where an older agent admitted it.
    pub(crate) allocated: Option<Allocation>,
    /// It asks for other resources, and cannot have them now.
    pub(crate) deferred: Option<Deferred>,
    /// It was given other resources, and its containers are not held to them yet.
    pub(crate) resizing: Option<Resizing>,
    /// What the instances that run were last asked to be held to, by container.
    pub(crate) actuated: BTreeMap<String, Resources>,
    /// The same of its cgroup; absent before its first sandbox, and where an older agent made that.
    pub(crate) bounds: Option<Bounds>,
    /// What probes found of the instances that run, by container; only of containers that have such probes.
    pub(crate) health: BTreeMap<String, Remembered>,
    /// A successor takes, or took, its place.
    pub(crate) superseded: Option<Superseded>,
    /// It is to go; once set, the teardown runs to its end.
    pub(crate) ending: Option<Ending>,
}

impl Record {
    /// One manifest comes after another. What changes no image leaves the generation before as it was.
    pub(crate) fn follows(&mut self, before: &Manifest, manifest: &Manifest) {
        let of = |manifest: &Manifest| -> BTreeSet<String> {
            let containers = manifest.workload.all_containers();
            containers.map(|spec| spec.image.clone()).collect()
        };
        let (before, now) = (of(before), of(manifest));
        if before != now {
            self.previous_images = before.difference(&now).cloned().collect();
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rejection {
    pub(crate) manifest: Digest,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// An initial container that failed for good gives no reason: its own end says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) reason: Option<Reason>,
    pub(crate) message: String,
    /// Seconds that it gets to end, in place of its own.
    #[serde(default)]
    pub(crate) grace_s: Option<u32>,
    /// It had to make room for others, and took no more than it may.
    #[serde(default)]
    pub(crate) disrupted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) restart_digest: Digest,
    pub(crate) status: ContainerStatus,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Superseded {
    pub(crate) by: PodUid,
    /// The successor's manifest, whose images were all present then.
    #[serde(default)]
    pub(crate) manifest: Option<Digest>,
    /// The successor had started and is gone: an orphan does not come back for it.
    #[serde(default)]
    pub(crate) for_good: bool,
}

/// Grace counts from `begun_ms` of that boot's monotonic clock. After another boot nothing of it is left to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub(crate) boot_id: BootId,
    pub(crate) begun_ms: u64,
    pub(crate) grace_s: u32,
}

impl Ending {
    pub(crate) fn new(now: &Now, grace_s: u32) -> Self {
        Self {
            boot_id: now.boot_id,
            begun_ms: now.mono_ms,
            grace_s,
        }
    }

    /// When SIGKILL is due, on this boot's monotonic clock.
    pub(crate) fn deadline_ms(&self, now: &Now) -> u64 {
        if self.boot_id == now.boot_id {
            self.begun_ms + u64::from(self.grace_s) * 1_000
        } else {
            now.mono_ms
        }
    }

    /// A later word may bring the deadline nearer, never push it away.
    pub(crate) fn shorten(&mut self, now: &Now, grace_s: u32) {
        if now.mono_ms + u64::from(grace_s) * 1_000 < self.deadline_ms(now) {
            *self = Self::new(now, grace_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: u128, mono_ms: u64) -> Now {
        Now {
            mono_ms,
            wall_ms: 0,
            boot_id: serde_json::from_value(format!("{boot:032x}").into()).unwrap(),
        }
    }

    #[test]
    fn grace_only_ever_shortens_and_never_outlives_a_boot() {
        let mut ending = Ending::new(&at(1, 5_000), 30);
        assert_eq!(ending.deadline_ms(&at(1, 9_000)), 35_000);
        ending.shorten(&at(1, 9_000), 60);
        assert_eq!(ending.deadline_ms(&at(1, 9_000)), 35_000);
        ending.shorten(&at(1, 10_000), 2);
        assert_eq!(ending.deadline_ms(&at(1, 10_000)), 12_000);
        assert_eq!(ending.deadline_ms(&at(2, 400)), 400);
    }

    #[test]
    fn a_record_of_a_newer_agent_is_read() {
        let record: Record = serde_json::from_str(r#"{"revision":3,"moon_phase":"full"}"#).unwrap();
        assert_eq!(record.revision, DeploymentRevision(3));
    }
}
