//! Which list of pods counts: it comes from the pinned cluster and is not older than what was last seen (law 2).

use crate::io::PodList;

/// What lists and changes are held against.
#[derive(Debug, Default)]
pub struct Evidence {
    cluster_uid: Option<String>,
    /// The newest version that a list or a change showed, also in an earlier process.
    seen: Option<u64>,
    /// The version of the last list that counted.
    listed: Option<u64>,
    /// The last list did not count.
    refused: bool,
    /// The last list came from another cluster: so do the changes that follow it.
    foreign: bool,
    /// The watch tells of times that are over: it follows an older list.
    behind: bool,
}

impl Evidence {
    /// With the cluster to pin and the newest version seen, also in an earlier process.
    pub fn new(cluster_uid: Option<String>, seen: Option<u64>) -> Self {
        Self {
            cluster_uid,
            seen,
            ..Self::default()
        }
    }

    /// Whether this list counts, and if not, why. The first list pins the cluster when none was configured.
    pub fn judge(&mut self, list: &PodList) -> Result<(), &'static str> {
        self.refused = true;
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
        if self.seen.is_some_and(|seen| list.resource_version < seen) {
            self.behind = true;
            return Err("its resourceVersion is older than what was last seen");
        }
        self.cluster_uid = Some(list.cluster_uid.clone());
        self.seen = Some(list.resource_version);
        self.listed = self.seen;
        (self.refused, self.foreign, self.behind) = (false, false, false);
        Ok(())
    }

    /// The watch has come to this version; what it tells next is as old as that.
    pub fn watched_to(&mut self, resource_version: u64) {
        self.behind = self.seen.is_some_and(|seen| resource_version < seen);
        if self.trusts_changes() {
            self.seen = Some(resource_version);
        }
    }

    pub fn cluster_uid(&self) -> Option<&str> {
        self.cluster_uid.as_deref()
    }

    /// The newest version seen.
    pub fn seen(&self) -> Option<u64> {
        self.seen
    }

    /// The version of the last list that counted in this process.
    pub fn listed(&self) -> Option<u64> {
        self.listed
    }

    /// Whether the last list did not count, so that a better one is wanted.
    pub fn wants_list(&self) -> bool {
        self.refused
    }

    /// Whether single changes may be believed: not after a list of another cluster, nor those of a time that is over.
    pub fn trusts_changes(&self) -> bool {
        !self.foreign && !self.behind
    }
}
