//! The Fleet machine: deployments, whom they are for, and what the devices' answers add up to.
//!
//! It knows nothing of sessions, frames or sets. Its indexes keep every change local: a device's change visits only the deployments
//! whose condition reads what changed, and a deployment's change only the devices that can match it or have it already.
//! A roll-up is kept up to date by the contribution of one assignment at a time, in O(log devices).

mod assignment;
mod deployment;
mod index;
mod rollup;
mod severity;

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::PodUid;

use crate::condition::Attribute;

pub(crate) use assignment::{Assignment, Role, Standing};
pub(crate) use deployment::{Deployment, Outline, Target, may_replace};
pub(crate) use index::DeviceIndex;

#[derive(Debug, Default)]
pub(crate) struct Fleet {
    deployments: BTreeMap<PodUid, Deployment>,
    /// Which deployments read an attribute; facts, tags, ids and groups alike.
    readers: BTreeMap<Attribute, BTreeSet<PodUid>>,
    /// Which deployments name a workload in `replaces`.
    successors: BTreeMap<PodUid, BTreeSet<PodUid>>,
}

impl Fleet {
    pub(crate) fn get(&self, uid: &PodUid) -> Option<&Deployment> {
        self.deployments.get(uid)
    }

    pub(crate) fn get_mut(&mut self, uid: &PodUid) -> Option<&mut Deployment> {
        self.deployments.get_mut(uid)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Deployment> {
        self.deployments.values()
    }

    pub(crate) fn uids(&self) -> Vec<PodUid> {
        self.deployments.keys().cloned().collect()
    }

    pub(crate) fn insert(&mut self, deployment: Deployment) {
        let uid = deployment.record.spec.uid.clone();
        self.remove(&uid);
        for attribute in deployment.target.attributes() {
            self.readers.entry(attribute).or_default().insert(uid.clone());
        }
        for replaced in &deployment.outline.replaces {
            self.successors
                .entry(replaced.clone())
                .or_default()
                .insert(uid.clone());
        }
        self.deployments.insert(uid, deployment);
    }

    pub(crate) fn remove(&mut self, uid: &PodUid) -> Option<Deployment> {
        let deployment = self.deployments.remove(uid)?;
        for attribute in deployment.target.attributes() {
            withdraw(&mut self.readers, &attribute, uid);
        }
        for replaced in &deployment.outline.replaces {
            withdraw(&mut self.successors, replaced, uid);
        }
        Some(deployment)
    }

    /// The deployments whose target reads any of these.
    pub(crate) fn readers(&self, attributes: &BTreeSet<Attribute>) -> BTreeSet<PodUid> {
        let sets = attributes
            .iter()
            .filter_map(|attribute| self.readers.get(attribute));
        sets.flatten().cloned().collect()
    }

    /// The deployments that take the place of this one.
    pub(crate) fn successors(&self, uid: &PodUid) -> impl Iterator<Item = &Deployment> {
        let uids = self.successors.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.deployments.get(uid))
    }
}

/// Removes a value, and its key when it was the last one, so that an index does not outgrow what it indexes.
fn withdraw<K: Ord, V: Ord>(index: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}
