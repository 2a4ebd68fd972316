//! A disk: rows by key, as a store would keep them.

use std::collections::BTreeMap;

use edge_protocol::v1::{DeviceEvent, KeyWrap, Manifest};
use edge_protocol::{DeviceId, Digest, Incarnation, PodUid};
use iot_hub_core::{AssignmentRecord, DeploymentRecord, DeviceRecord, Restored, SetRecord, Tx, Write};

#[derive(Debug, Clone, Default)]
pub struct Store {
    pub incarnation: Option<Incarnation>,
    pub devices: BTreeMap<DeviceId, DeviceRecord>,
    pub deployments: BTreeMap<PodUid, DeploymentRecord>,
    pub sets: BTreeMap<DeviceId, SetRecord>,
    pub assignments: BTreeMap<(PodUid, DeviceId), AssignmentRecord>,
    pub blobs: BTreeMap<Digest, String>,
    pub wraps: BTreeMap<(Digest, Digest), KeyWrap>,
    pub events: Vec<(DeviceId, DeviceEvent)>,
    /// All writes so far, for tests of how much is touched.
    pub written: Vec<Write>,
}

impl Store {
    pub fn apply(&mut self, tx: &Tx) {
        for write in &tx.writes {
            self.written.push(write.clone());
            match write.clone() {
                Write::Incarnation(incarnation) => self.incarnation = Some(incarnation),
                Write::PutDevice(record) => drop(self.devices.insert(record.id.clone(), *record)),
                Write::PutDeployment(record) => {
                    self.deployments.insert(record.spec.uid.clone(), *record);
                }
                Write::DropDeployment(uid) => drop(self.deployments.remove(&uid)),
                Write::PutDeviceSet { device, set } => drop(self.sets.insert(device, *set)),
                Write::PutAssignment(record) => {
                    assert!(
                        self.deployments.contains_key(&record.uid),
                        "an assignment of nothing"
                    );
                    self.assignments
                        .insert((record.uid.clone(), record.device.clone()), *record);
                }
                Write::DropAssignment { uid, device } => drop(self.assignments.remove(&(uid, device))),
                Write::PutBlob { digest, body } => {
                    assert_eq!(Digest::of(&body), digest);
                    self.blobs.insert(digest, body);
                }
                Write::DropBlob(digest) => drop(self.blobs.remove(&digest)),
                Write::PutKeyWrap(wrap) => {
                    self.wraps.insert((wrap.key, wrap.sealing_key), *wrap);
                }
                Write::DropKeyWrap { key, sealing_key } => drop(self.wraps.remove(&(key, sealing_key))),
                Write::PutEvent { device, event } => self.events.push((device, event)),
            }
        }
        let names = |write: &Write| {
            matches!(
                write,
                Write::PutBlob { .. } | Write::DropBlob(_) | Write::PutDeployment(_)
            )
        };
        if tx.writes.iter().any(names) {
            self.check();
        }
    }

    /// Every blob that a set or a deployment names is there, and no other.
    fn check(&self) {
        let mut named: Vec<Digest> = self.deployments.values().map(|record| record.manifest).collect();
        named.extend(
            self.deployments
                .values()
                .flat_map(|record| objects(&record.spec.manifest)),
        );
        named.extend(
            self.sets
                .values()
                .flat_map(|set| set.items.iter().map(|item| item.digest)),
        );
        for digest in &named {
            assert!(self.blobs.contains_key(digest), "a named blob is not stored");
        }
        for digest in self.blobs.keys() {
            assert!(named.contains(digest), "a blob is stored that nothing names");
        }
    }

    pub fn restored(&self) -> Restored {
        Restored {
            key_wraps: self.wraps.values().cloned().collect(),
            incarnation: self.incarnation,
            devices: self.devices.values().cloned().collect(),
            deployments: self.deployments.values().cloned().collect(),
            sets: self.sets.clone().into_iter().collect(),
            assignments: self.assignments.values().cloned().collect(),
            blobs: self.blobs.clone().into_iter().collect(),
        }
    }
}

/// The objects that a blob names, if it is a manifest.
pub fn objects(body: &str) -> Vec<Digest> {
    let manifest = serde_json::from_str::<Manifest>(body).ok();
    let objects = manifest.map_or(Vec::new(), |manifest| manifest.objects);
    objects.into_iter().map(|object| object.digest).collect()
}
