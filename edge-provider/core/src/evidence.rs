//! Which list of pods counts: it comes from the pinned cluster and is not older than the last that counted (law 2).

use crate::io::PodList;

/// What lists are held against.
#[derive(Debug, Default)]
pub struct Evidence {
    cluster_uid: Option<String>,
    resource_version: Option<u64>,
    /// When the last list that counted was handed in.
    listed_at: Option<u64>,
    /// The last list came from another cluster: so do the changes that follow it.
    foreign: bool,
}

impl Evidence {
    /// With the cluster to pin and the version of the last list that counted, also in an earlier process.
    pub fn new(cluster_uid: Option<String>, resource_version: Option<u64>) -> Self {
        Self {
            cluster_uid,
            resource_version,
            ..Self::default()
        }
    }

    /// Whether this list counts, and if not, why. The first list pins the cluster when none was configured.
    pub fn judge(&mut self, list: &PodList, now_ms: u64) -> Result<(), &'static str> {
        if list.cluster_uid.is_empty() {
            return Err("it names no cluster");
        }
        if self
            .cluster_uid
            .as_ref()
            .is_some_and(|pinned| *pinned != list.cluster_uid)
        {
            self.foreign = true;
            return Err("it comes from another cluster");
        }
        if self
            .resource_version
            .is_some_and(|last| list.resource_version < last)
        {
            return Err("its resourceVersion is older than the last list's");
        }
        self.cluster_uid = Some(list.cluster_uid.clone());
        self.resource_version = Some(list.resource_version);
        self.listed_at = Some(now_ms);
        self.foreign = false;
        Ok(())
    }

    pub fn cluster_uid(&self) -> Option<&str> {
        self.cluster_uid.as_deref()
    }

    pub fn resource_version(&self) -> Option<u64> {
        self.resource_version
    }

    pub fn listed_at(&self) -> Option<u64> {
        self.listed_at
    }

    /// Whether single changes may be believed: not after a list of another cluster.
    pub fn trusts_changes(&self) -> bool {
        !self.foreign
    }
}
