//! Devices by what conditions ask of them.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::DeviceId;

use super::withdraw;
use crate::condition::Key;
use crate::io::DeviceRecord;

/// Which devices have a key; ids need no entry, they are their own.
#[derive(Debug, Default)]
pub(crate) struct DeviceIndex {
    by_key: BTreeMap<Key, BTreeSet<DeviceId>>,
}

impl DeviceIndex {
    pub(crate) fn insert(&mut self, device: &DeviceRecord) {
        for key in keys(device) {
            self.by_key.entry(key).or_default().insert(device.id.clone());
        }
    }

    /// Takes a device out, as it was when it was inserted.
    pub(crate) fn remove(&mut self, device: &DeviceRecord) {
        for key in keys(device) {
            withdraw(&mut self.by_key, &key, &device.id);
        }
    }

    /// The devices that have any of the keys; an id of a device that does not exist may be among them.
    pub(crate) fn having(&self, keys: &[Key]) -> BTreeSet<DeviceId> {
        let mut found = BTreeSet::new();
        for key in keys {
            match key {
                Key::Device(id) => found.extend(DeviceId::new(id.as_str())),
                indexed => found.extend(self.by_key.get(indexed).into_iter().flatten().cloned()),
            }
        }
        found
    }
}

fn keys(device: &DeviceRecord) -> impl Iterator<Item = Key> {
    let tags = device
        .tags
        .iter()
        .map(|(tag, value)| Key::Tag(tag.clone(), value.clone()));
    tags.chain([Key::Group(device.group.clone())])
}
