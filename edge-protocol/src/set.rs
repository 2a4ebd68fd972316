//! A device's desired set as a value: what is in it, its digest, and what a delta makes of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{DeploymentRevision, Digest, PodUid};

/// What is desired of one workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemState {
    /// Run it; the digest is that of its [`Manifest`](crate::v1::Manifest).
    Run,
    /// Run it as before, though no pod owns it any more: a successor that names it in `replaces` takes its place, and nothing else stops it.
    Orphan,
    /// Stop it; the digest is that of its [`Tombstone`](crate::v1::Tombstone).
    Stop,
}

impl ItemState {
    fn record(self) -> &'static [u8] {
        match self {
            Self::Run => b"run",
            Self::Orphan => b"orphan",
            Self::Stop => b"stop",
        }
    }
}

/// One record of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetItem {
    pub uid: PodUid,
    pub state: ItemState,
    pub revision: DeploymentRevision,
    pub digest: Digest,
}

/// All that is desired of one device, by pod UID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<SetItem>", into = "Vec<SetItem>")]
pub struct DesiredSet {
    items: BTreeMap<PodUid, SetItem>,
}

impl DesiredSet {
    /// SHA-256 over the records sorted by uid: `uid ‖ state ‖ revision ‖ digest`, each part with its length before it.
    pub fn digest(&self) -> Digest {
        let mut parts: Vec<Vec<u8>> = Vec::with_capacity(self.items.len() * 4);
        for item in self.items.values() {
            parts.push(item.uid.as_str().as_bytes().to_vec());
            parts.push(item.state.record().to_vec());
            parts.push(item.revision.0.to_be_bytes().to_vec());
            parts.push(item.digest.as_bytes().to_vec());
        }
        Digest::of_parts(parts.iter().map(Vec::as_slice))
    }

    pub fn get(&self, uid: &PodUid) -> Option<&SetItem> {
        self.items.get(uid)
    }

    /// In the order of the uids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SetItem> {
        self.items.values()
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds the item or replaces the one of the same uid.
    pub fn put(&mut self, item: SetItem) {
        self.items.insert(item.uid.clone(), item);
    }

    pub fn forget(&mut self, uid: &PodUid) -> Option<SetItem> {
        self.items.remove(uid)
    }

    /// What turns `self` into `next`: items to put, and uids to forget.
    pub fn delta_to(&self, next: &Self) -> (Vec<SetItem>, Vec<PodUid>) {
        let put = next
            .items
            .values()
            .filter(|item| self.items.get(&item.uid) != Some(item))
            .cloned()
            .collect();
        let forget = self
            .items
            .keys()
            .filter(|uid| !next.items.contains_key(*uid))
            .cloned()
            .collect();
        (put, forget)
    }

    /// The set after a delta.
    #[must_use]
    pub fn apply(mut self, put: Vec<SetItem>, forget: &[PodUid]) -> Self {
        for uid in forget {
            self.items.remove(uid);
        }
        self.extend(put);
        self
    }
}

impl Extend<SetItem> for DesiredSet {
    fn extend<I: IntoIterator<Item = SetItem>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.put(item));
    }
}

impl FromIterator<SetItem> for DesiredSet {
    fn from_iter<I: IntoIterator<Item = SetItem>>(items: I) -> Self {
        let mut set = Self::default();
        set.extend(items);
        set
    }
}

impl From<Vec<SetItem>> for DesiredSet {
    fn from(items: Vec<SetItem>) -> Self {
        items.into_iter().collect()
    }
}

impl From<DesiredSet> for Vec<SetItem> {
    fn from(set: DesiredSet) -> Self {
        set.items.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item((uid, stop, revision, content): (u8, bool, u64, u8)) -> SetItem {
        SetItem {
            uid: PodUid::new(format!("p{uid}")).unwrap(),
            state: if stop { ItemState::Stop } else { ItemState::Run },
            revision: DeploymentRevision(revision),
            digest: Digest::of([content]),
        }
    }

    fn sets() -> impl Strategy<Value = DesiredSet> {
        prop::collection::vec((0u8..6, any::<bool>(), 0u64..3, 0u8..3), 0..8)
            .prop_map(|records| records.into_iter().map(item).collect())
    }

    proptest! {
        #[test]
        fn a_delta_leads_exactly_to_the_next_set(from in sets(), to in sets()) {
            let (put, forget) = from.delta_to(&to);
            prop_assert_eq!(from.apply(put, &forget), to);
        }

        #[test]
        fn the_digest_tells_sets_apart_and_ignores_order(one in sets(), two in sets()) {
            prop_assert_eq!(one.digest() == two.digest(), one == two);
            let mut reversed: Vec<SetItem> = one.clone().into();
            reversed.reverse();
            prop_assert_eq!(DesiredSet::from(reversed).digest(), one.digest());
        }
    }
}
