//! Durable stores: a transaction is applied whole, in order, or was never there.

use std::collections::BTreeMap;

use edge_agent_core as agent;
use edge_protocol::v1::{DeviceEvent, KeyWrap};
use edge_protocol::{DeviceId, Digest, Incarnation, PodUid, SetItem};
use iot_hub_core as hub;

#[derive(Debug, Clone, Default)]
pub(crate) struct AgentDisk {
    pub(crate) set: Option<agent::TrustedSet>,
    pub(crate) blobs: BTreeMap<Digest, String>,
    /// With the key that opens it, if it is sealed.
    pub(crate) objects: BTreeMap<Digest, (Option<Digest>, String)>,
    pub(crate) keys: BTreeMap<Digest, KeyWrap>,
    pub(crate) workloads: BTreeMap<PodUid, String>,
    pub(crate) events: BTreeMap<u64, DeviceEvent>,
    pub(crate) meta: BTreeMap<String, String>,
}

impl AgentDisk {
    pub(crate) fn apply(&mut self, write: agent::Write) {
        match write {
            agent::Write::Set(set) => self.set = Some(set),
            agent::Write::PutBlob { digest, body } => {
                self.blobs.insert(digest, body);
            }
            agent::Write::DropBlob(digest) => {
                self.blobs.remove(&digest);
            }
            agent::Write::PutKey(wrap) => {
                self.keys.insert(wrap.key, wrap);
            }
            agent::Write::DropKey(key) => {
                self.keys.remove(&key);
            }
            agent::Write::PutObject { digest, key, body } => {
                self.objects.insert(digest, (key, body));
            }
            agent::Write::DropObject(digest) => {
                self.objects.remove(&digest);
            }
            agent::Write::PutWorkload { uid, record } => {
                self.workloads.insert(uid, record);
            }
            agent::Write::DropWorkload(uid) => {
                self.workloads.remove(&uid);
            }
            agent::Write::PutEvent(event) => {
                self.events.insert(event.seq, event);
            }
            agent::Write::DropEventsUpTo(seq) => self.events.retain(|at, _| *at > seq),
            agent::Write::PutMeta { key, value } => {
                self.meta.insert(key, value);
            }
        }
    }

    /// What the agent holds against the word of a restored hub: it acts on these.
    pub(crate) fn quarantine(&self) -> Vec<SetItem> {
        let held = self.meta.get("quarantine");
        held.and_then(|held| serde_json::from_str(held).ok())
            .unwrap_or_default()
    }

    pub(crate) fn restored(&self) -> agent::Restored {
        agent::Restored {
            set: self.set.clone(),
            blobs: self.blobs.clone().into_iter().collect(),
            objects: self
                .objects
                .iter()
                .map(|(digest, (key, _))| (*digest, *key))
                .collect(),
            keys: self.keys.values().cloned().collect(),
            workloads: self.workloads.clone().into_iter().collect(),
            events: self.events.values().cloned().collect(),
            meta: self.meta.clone().into_iter().collect(),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct HubDisk {
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) devices: BTreeMap<DeviceId, hub::DeviceRecord>,
    pub(crate) deployments: BTreeMap<PodUid, hub::DeploymentRecord>,
    pub(crate) sets: BTreeMap<DeviceId, hub::SetRecord>,
    pub(crate) assignments: BTreeMap<(PodUid, DeviceId), hub::AssignmentRecord>,
    pub(crate) blobs: BTreeMap<Digest, String>,
    /// By key and sealing key.
    pub(crate) wraps: BTreeMap<(Digest, Digest), KeyWrap>,
}

impl HubDisk {
    pub(crate) fn apply(&mut self, write: hub::Write) {
        match write {
            hub::Write::Incarnation(incarnation) => self.incarnation = Some(incarnation),
            hub::Write::PutDevice(record) => {
                self.devices.insert(record.id.clone(), *record);
            }
            hub::Write::PutDeployment(record) => {
                self.deployments.insert(record.spec.uid.clone(), *record);
            }
            hub::Write::DropDeployment(uid) => {
                self.deployments.remove(&uid);
            }
            hub::Write::PutDeviceSet { device, set } => {
                self.sets.insert(device, *set);
            }
            hub::Write::PutAssignment(record) => {
                self.assignments
                    .insert((record.uid.clone(), record.device.clone()), *record);
            }
            hub::Write::DropAssignment { uid, device } => {
                self.assignments.remove(&(uid, device));
            }
            hub::Write::PutBlob { digest, body } => {
                self.blobs.insert(digest, body);
            }
            hub::Write::DropBlob(digest) => {
                self.blobs.remove(&digest);
            }
            hub::Write::PutKeyWrap(wrap) => {
                self.wraps.insert((wrap.key, wrap.sealing_key), *wrap);
            }
            hub::Write::DropKeyWrap { key, sealing_key } => {
                self.wraps.remove(&(key, sealing_key));
            }
            hub::Write::PutEvent { .. } => {}
        }
    }

    pub(crate) fn restored(&self) -> hub::Restored {
        hub::Restored {
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
