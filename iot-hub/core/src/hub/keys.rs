//! Content keys of sealed objects, each wrapped for one device by whoever sealed them. The hub carries them and can open none.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::{Down, DownFrame, KeyWrap, MAX_WANTED_KEYS, Source, VERSION};
use edge_protocol::{DeviceId, Digest, EnrolmentSerial, Lane, PodUid, frame};

use super::{Hub, Turn};
use crate::fleet::{Deployment, Role};
use crate::io::{CallError, DeviceRecord, Effect};

/// HPKE's encapsulated key of X25519 (RFC 9180, 7.1), and a key of 32 bytes with its tag.
const ENC: usize = 32;
const CIPHERTEXT: usize = 48;

/// A content key that a device waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedKey {
    pub device: DeviceId,
    /// Under which its sealing key is registered.
    pub enrolment: EnrolmentSerial,
    pub key: Digest,
    /// Whose sealed object it opens.
    pub deployment: PodUid,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The deployments that name a key.
    named: BTreeMap<Digest, BTreeSet<PodUid>>,
    /// By key and the device's sealing key.
    wraps: BTreeMap<(Digest, Digest), KeyWrap>,
}

impl Keys {
    /// What the store held; nothing names it yet.
    pub(super) fn restored(wraps: Vec<KeyWrap>) -> Self {
        let wraps = wraps.into_iter().map(|wrap| ((wrap.key, wrap.sealing_key), wrap));
        Self {
            named: BTreeMap::new(),
            wraps: wraps.collect(),
        }
    }

    pub(super) fn name(&mut self, uid: &PodUid, keys: &BTreeSet<Digest>) {
        for key in keys {
            self.named.entry(*key).or_default().insert(uid.clone());
        }
    }

    /// The deployment names this key no more; the wraps that nothing needs now.
    fn unname(&mut self, uid: &PodUid, key: &Digest) -> Vec<(Digest, Digest)> {
        if let Some(uids) = self.named.get_mut(key) {
            uids.remove(uid);
            if !uids.is_empty() {
                return Vec::new();
            }
        }
        self.named.remove(key);
        let of_key = self.wraps.keys().filter(|(wrapped, _)| wrapped == key);
        let gone: Vec<_> = of_key.copied().collect();
        for wrap in &gone {
            self.wraps.remove(wrap);
        }
        gone
    }

    /// Drops the wraps whose key nothing names.
    pub(super) fn drop_unnamed(&mut self) -> Vec<(Digest, Digest)> {
        let unnamed = |(key, _): &&(Digest, Digest)| !self.named.contains_key(key);
        let gone: Vec<_> = self.wraps.keys().filter(unnamed).copied().collect();
        for wrap in &gone {
            self.wraps.remove(wrap);
        }
        gone
    }

    pub(super) fn get(&self, key: &Digest, sealing_key: &Digest) -> Option<&KeyWrap> {
        self.wraps.get(&(*key, *sealing_key))
    }

    /// Whether one of these keys is not there for the device.
    pub(super) fn lack(&self, keys: &BTreeSet<Digest>, device: &DeviceRecord) -> bool {
        if keys.is_empty() {
            return false;
        }
        let sealing_key = device.sealing_key.fingerprint();
        keys.iter().any(|key| self.get(key, &sealing_key).is_none())
    }
}

impl Hub {
    pub(super) fn put_key_wraps(
        &mut self,
        turn: &mut Turn,
        uid: &PodUid,
        wraps: Vec<KeyWrap>,
    ) -> Result<(), CallError> {
        let deployment = self
            .fleet
            .get(uid)
            .ok_or(CallError::NoSuchDeployment(uid.clone()))?;
        let odd = |wrap: &&KeyWrap| wrap.enc.0.len() != ENC || wrap.ciphertext.0.len() != CIPHERTEXT;
        if let Some(KeyWrap { key, .. }) = wraps.iter().find(odd) {
            return Err(CallError::BadKeyWrap { key: *key });
        }
        let devices: BTreeMap<Digest, DeviceId> = running(deployment)
            .filter_map(|id| {
                let record = &self.devices.get(id)?.record;
                Some((record.sealing_key.fingerprint(), id.clone()))
            })
            .collect();
        let keys = deployment.keys.clone();
        let mut news: BTreeMap<DeviceId, Vec<KeyWrap>> = BTreeMap::new();
        for wrap in wraps.into_iter().filter(|wrap| keys.contains(&wrap.key)) {
            let Some(id) = devices.get(&wrap.sealing_key) else {
                continue;
            };
            let place = (wrap.key, wrap.sealing_key);
            if self.keys.wraps.get(&place) != Some(&wrap) {
                turn.wraps.insert(place);
                news.entry(id.clone()).or_default().push(wrap.clone());
                self.keys.wraps.insert(place, wrap);
            }
        }
        for (id, wraps) in news {
            let named = wraps.iter().filter_map(|wrap| self.keys.named.get(&wrap.key));
            let uids: BTreeSet<PodUid> = named.flatten().cloned().collect();
            for uid in uids {
                self.refresh(turn, &uid, &id);
            }
            self.send_keys(turn, &id, wraps);
        }
        Ok(())
    }

    /// The device has sealed objects on its disk and no keys for them.
    pub(super) fn want_keys(&mut self, turn: &mut Turn, id: &DeviceId, keys: &[Digest]) {
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        if !device.allowance.status(&self.config.limits.rates, &turn.now) {
            return turn.surplus(id, "statuses");
        }
        let sealing_key = device.record.sealing_key.fingerprint();
        let runs = |uid: &PodUid| {
            let deployment = self.fleet.get(uid);
            deployment.is_some_and(|deployment| deployment.role(id).is_some_and(Role::runs))
        };
        let wraps = keys
            .iter()
            .take(MAX_WANTED_KEYS)
            .filter(|key| self.keys.named.get(key).is_some_and(|uids| uids.iter().any(runs)))
            .filter_map(|key| self.keys.get(key, &sealing_key).cloned())
            .collect();
        self.send_keys(turn, id, wraps);
    }

    fn send_keys(&self, turn: &mut Turn, id: &DeviceId, mut wraps: Vec<KeyWrap>) {
        let device = self.devices.get(id);
        let connection = device.and_then(|device| device.session().and(device.connection));
        let Some(connection) = connection else {
            return;
        };
        while !wraps.is_empty() {
            let rest = wraps.split_off(wraps.len().min(MAX_WANTED_KEYS));
            let body = Down::Keys {
                wraps: std::mem::replace(&mut wraps, rest),
            };
            let bytes = frame::encode(&DownFrame { v: VERSION, body });
            turn.after.push(Effect::Send {
                device: id.clone(),
                connection,
                lane: Lane::Command,
                bytes: bytes.expect("so many wraps, whose size was checked, fit a frame"),
            });
        }
    }

    pub(super) fn release_keys<'a>(
        &mut self,
        turn: &mut Turn,
        uid: &PodUid,
        keys: impl IntoIterator<Item = &'a Digest>,
    ) {
        for key in keys {
            turn.wraps.extend(self.keys.unname(uid, key));
        }
    }

    /// At most `limit` of the keys that devices wait for, of deployments of these sources, in the order of deployments and devices.
    pub fn wanted_keys(&self, owns: impl Fn(&Source) -> bool, limit: usize) -> Vec<WantedKey> {
        let sealed = self.fleet.iter().filter(|deployment| !deployment.keys.is_empty());
        let own = sealed.filter(|deployment| owns(&deployment.record.spec.source));
        let wanted = own.flat_map(|deployment| {
            let records = running(deployment).filter_map(|id| Some(&self.devices.get(id)?.record));
            records.flat_map(move |record| {
                let sealing_key = record.sealing_key.fingerprint();
                let lacking = deployment.keys.iter();
                let lacking = lacking.filter(move |key| self.keys.get(key, &sealing_key).is_none());
                lacking.map(move |key| WantedKey {
                    device: record.id.clone(),
                    enrolment: record.enrolment.clone(),
                    key: *key,
                    deployment: deployment.record.spec.uid.clone(),
                })
            })
        });
        wanted.take(limit).collect()
    }
}

/// The devices that are to run the deployment.
fn running(deployment: &Deployment) -> impl Iterator<Item = &DeviceId> {
    let assignments = deployment.assignments();
    assignments
        .filter(|(_, assignment)| assignment.role.runs())
        .map(|(id, _)| id)
}
