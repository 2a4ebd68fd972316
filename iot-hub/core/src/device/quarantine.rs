//! What a device holds against the word of a hub that was restored from a backup (law 4), by its own account.
//!
//! It is kept in memory only: every session begins with the whole of it.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::text::sanitise;
use edge_protocol::v1::{Reason, WorkloadStatus};
use edge_protocol::{DeploymentRevision, PodUid};

use crate::io::QuarantinedWorkload;

/// Workloads that are noted per device: as many as an agent runs.
const MAX_WORKLOADS: usize = 1_000;

#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    workloads: BTreeMap<PodUid, QuarantinedWorkload>,
    /// What it says it holds and this hub does not know, without more of it than the revision. When the hub comes to know it, its item is to be newer:
    /// the device has nothing to say of one that is the same as what it told already.
    strangers: BTreeMap<PodUid, DeploymentRevision>,
}

impl Quarantine {
    /// Notes what a status says of its workload; whether readers see something else than before. Of more than [`MAX_WORKLOADS`] the
    /// later ones are not noted.
    pub(crate) fn note(&mut self, status: &WorkloadStatus, now_ms: i64) -> bool {
        self.strangers.remove(&status.uid);
        if status.reason != Some(Reason::Quarantined) {
            return self.workloads.remove(&status.uid).is_some();
        }
        let former = self.workloads.get(&status.uid);
        if former.is_none() && self.workloads.len() >= MAX_WORKLOADS {
            return false;
        }
        let next = QuarantinedWorkload {
            uid: status.uid.clone(),
            revision: status.revision,
            since_ms: former.map_or(now_ms, |former| former.since_ms),
            message: sanitise(&status.message),
        };
        self.workloads.insert(status.uid.clone(), next.clone()) != Some(next)
    }

    /// The device holds something that this hub does not know.
    pub(crate) fn note_stranger(&mut self, uid: PodUid, revision: DeploymentRevision) {
        if self.strangers.len() < MAX_WORKLOADS || self.strangers.contains_key(&uid) {
            self.strangers.insert(uid, revision);
        }
    }

    /// The device has listed all it has; whether that took something away that readers see.
    pub(crate) fn retain(&mut self, listed: &BTreeSet<PodUid>) -> bool {
        self.strangers.retain(|uid, _| listed.contains(uid));
        let before = self.workloads.len();
        self.workloads.retain(|uid, _| listed.contains(uid));
        self.workloads.len() != before
    }

    pub(crate) fn contains(&self, uid: &PodUid) -> bool {
        self.workloads.contains_key(uid)
    }

    /// Whether the device holds something of it that this hub did not give it.
    pub(crate) fn holds(&self, uid: &PodUid) -> bool {
        self.contains(uid) || self.strangers.contains_key(uid)
    }

    pub(crate) fn get(&self, uid: &PodUid) -> Option<&QuarantinedWorkload> {
        self.workloads.get(uid)
    }

    pub(crate) fn revision(&self, uid: &PodUid) -> Option<DeploymentRevision> {
        let kept = self.get(uid).map(|workload| workload.revision);
        kept.max(self.strangers.get(uid).copied())
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &QuarantinedWorkload> {
        self.workloads.values()
    }
}
