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
}

impl Quarantine {
    /// Notes what a status says of its workload; whether readers see something else than before. Of more than [`MAX_WORKLOADS`] the
    /// later ones are not noted.
    pub(crate) fn note(&mut self, status: &WorkloadStatus, now_ms: i64) -> bool {
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

    /// The device has listed all it has; whether that took something away.
    pub(crate) fn retain(&mut self, listed: &BTreeSet<PodUid>) -> bool {
        let before = self.workloads.len();
        self.workloads.retain(|uid, _| listed.contains(uid));
        self.workloads.len() != before
    }

    pub(crate) fn contains(&self, uid: &PodUid) -> bool {
        self.workloads.contains_key(uid)
    }

    pub(crate) fn revision(&self, uid: &PodUid) -> Option<DeploymentRevision> {
        self.workloads.get(uid).map(|workload| workload.revision)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &QuarantinedWorkload> {
        self.workloads.values()
    }
}
