//! What people decide about devices, and whether a device is there.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::{Facts, LinkClass};
use edge_protocol::{DeviceId, ItemState, PodUid, SessionEpoch};

use super::timers::Timer;
use super::{Hub, Turn};
use crate::condition::{Attribute, Fact};
use crate::device::Device;
use crate::io::{CallError, ConnectionId, DeviceRecord, DeviceState, Effect, Enrolment};

impl Hub {
    /// An enrolment follows the one it was begun over, or none; so one that is repeated registers once, and of two that race the
    /// second is told. Tags and group are checked first.
    pub(super) fn enrol(
        &mut self,
        turn: &mut Turn,
        id: &DeviceId,
        enrolment: Enrolment,
    ) -> Result<(), CallError> {
        self.check_tags(&enrolment.group, &enrolment.tags)?;
        let record = self.devices.get(id).map(|device| &device.record);
        let present = record.map(|record| &record.enrolment);
        let decommissioned = record.is_some_and(|record| record.state == DeviceState::Decommissioned);
        if present == Some(&enrolment.serial) && !decommissioned {
            return Ok(());
        }
        if present == Some(&enrolment.serial) || present != enrolment.expected_previous.as_ref() {
            return Err(CallError::EnrolmentSuperseded(id.clone()));
        }
        if present.is_none() {
            return self.add_device(turn, fresh_record(id, enrolment));
        }
        if decommissioned {
            return self.take_over(turn, id, enrolment);
        }
        if let Some(device) = self.devices.get_mut(id) {
            device.record.enrolment = enrolment.serial;
            device.record.sealing_key = enrolment.sealing_key;
        }
        turn.device_changed(id);
        // Nothing was sealed to its new key yet.
        self.refresh_all(turn, id);
        self.cut(turn, id, "enrolled again");
        Ok(())
    }

    /// Another machine takes over the id of a decommissioned one.
    fn take_over(&mut self, turn: &mut Turn, id: &DeviceId, enrolment: Enrolment) -> Result<(), CallError> {
        let device = self
            .devices
            .get_mut(id)
            .ok_or(CallError::NoSuchDevice(id.clone()))?;
        let tombstones = device.items().iter().filter(|item| item.state == ItemState::Stop);
        match tombstones.count() {
            0 => {}
            count => {
                return Err(CallError::TombstonesLive {
                    device: id.clone(),
                    count,
                });
            }
        }
        let mut record = fresh_record(id, enrolment);
        // Epochs and generations go on: whoever held this id before holds nothing that is newer.
        record.last_session = device.record.last_session;
        // So does history: the device numbers its own after what the hub has, and nothing of it is taken for the former one's.
        record.event_seq = device.record.event_seq;
        device.begin_anew(record);
        self.drop_stats(turn, id);
        self.admit(turn, id);
        turn.edited.insert(id.clone());
        Ok(())
    }

    fn add_device(&mut self, turn: &mut Turn, record: DeviceRecord) -> Result<(), CallError> {
        let limit = self.config.limits.devices;
        if self.devices.len() >= limit {
            return Err(CallError::LimitReached {
                what: "devices",
                limit,
            });
        }
        let id = record.id.clone();
        self.devices
            .insert(id.clone(), Device::new(record, self.incarnation));
        turn.sets.insert(id.clone());
        self.admit(turn, &id);
        Ok(())
    }

    /// A device begins to be part of the fleet: it is given all that is for it.
    fn admit(&mut self, turn: &mut Turn, id: &DeviceId) {
        turn.device_changed(id);
        if let Some(device) = self.devices.get(id) {
            self.device_index.insert(&device.record);
        }
        for uid in self.fleet.uids() {
            self.reconcile(turn, &uid, id, false);
        }
    }

    pub(super) fn set_tags(
        &mut self,
        turn: &mut Turn,
        id: &DeviceId,
        tags: BTreeMap<String, String>,
    ) -> Result<(), CallError> {
        self.check_tags("", &tags)?;
        let device = known(&mut self.devices, id)?;
        if device.record.tags == tags {
            return Ok(());
        }
        let changed = changed_tags(&device.record.tags, &tags);
        let readers = self.fleet.readers(&changed);
        let matched: BTreeSet<PodUid> = readers
            .iter()
            .filter(|uid| {
                self.fleet
                    .get(uid)
                    .is_some_and(|d| d.target.matches(&device.subject()))
            })
            .cloned()
            .collect();
        self.device_index.remove(&device.record);
        device.record.tags = tags;
        self.device_index.insert(&device.record);
        turn.device_changed(id);
        for uid in &readers {
            self.reconcile(turn, uid, id, matched.contains(uid));
        }
        Ok(())
    }

    pub(super) fn set_link(
        &mut self,
        turn: &mut Turn,
        id: &DeviceId,
        link: LinkClass,
    ) -> Result<(), CallError> {
        let device = known(&mut self.devices, id)?;
        if device.record.link != link {
            device.record.link = link;
            device.tell_again();
            if let Some(deadline) = device.deadline().filter(|_| device.is_online()) {
                self.timers.set(Timer::Liveness(id.clone()), deadline);
            }
            turn.device_changed(id);
            turn.offers.insert(id.clone());
        }
        Ok(())
    }

    pub(super) fn set_device_state(
        &mut self,
        turn: &mut Turn,
        id: &DeviceId,
        state: DeviceState,
    ) -> Result<(), CallError> {
        let device = self
            .devices
            .get_mut(id)
            .ok_or(CallError::NoSuchDevice(id.clone()))?;
        if device.record.state == state {
            return Ok(());
        }
        if device.record.state == DeviceState::Decommissioned {
            // Gone for good; only a new enrolment brings the id back.
            return Err(CallError::NoSuchDevice(id.clone()));
        }
        device.record.state = state;
        turn.device_changed(id);
        match state {
            DeviceState::Active => {}
            DeviceState::Disabled => self.cut(turn, id, "disabled"),
            DeviceState::Decommissioned => self.decommission(turn, id),
        }
        Ok(())
    }

    /// Its assignments end. Tombstones that it never acknowledged stay in its set, and with them its id is not given again: what
    /// they were to stop may still run somewhere.
    fn decommission(&mut self, turn: &mut Turn, id: &DeviceId) {
        self.cut(turn, id, "decommissioned");
        for uid in self.fleet.uids() {
            match self.fleet.get(&uid).and_then(|deployment| deployment.role(id)) {
                None => continue,
                Some(role) if role.runs() => self.forget_item(turn, &uid, id),
                Some(_) => {}
            }
            self.unassign(turn, &uid, id);
        }
        if let Some(device) = self.devices.get_mut(id) {
            device.record.offline = true;
            self.device_index.remove(&device.record);
        }
        self.timers.cancel(&Timer::Liveness(id.clone()));
        self.drop_stats(turn, id);
    }

    /// What a lost device was to stop is asked of it no more. Its record stays, so that epochs and generations go on.
    pub(super) fn forget_device(&mut self, turn: &mut Turn, id: &DeviceId) -> Result<(), CallError> {
        let device = self.devices.get(id).ok_or(CallError::NoSuchDevice(id.clone()))?;
        if device.record.state != DeviceState::Decommissioned {
            return Err(CallError::NotDecommissioned(id.clone()));
        }
        let uids: Vec<PodUid> = device.items().iter().map(|item| item.uid.clone()).collect();
        for uid in uids {
            self.forget_item(turn, &uid, id);
            turn.device_changed(id);
        }
        Ok(())
    }

    pub(super) fn cut(&mut self, turn: &mut Turn, id: &DeviceId, why: &'static str) {
        let connection = self
            .devices
            .get_mut(id)
            .and_then(|device| device.connection.take());
        if let Some(connection) = connection {
            cut_connection(turn, id, connection, why);
            turn.announce_device(id);
        }
        turn.effects.push(Effect::CutTunnel { device: id.clone() });
        self.end_session(turn, id);
    }

    /// What was received but not persisted counts no more: the device may have lost it with the session.
    pub(super) fn end_session(&mut self, turn: &mut Turn, id: &DeviceId) {
        self.timers.cancel(&Timer::Resend(id.clone()));
        self.end_streams(turn, id);
        self.end_stats(turn, id);
        if self.devices.get_mut(id).is_some_and(Device::end_session) {
            self.refresh_all(turn, id);
        }
    }

    /// A word of the device, whatever it says.
    pub(super) fn hear(&mut self, turn: &mut Turn, id: &DeviceId) {
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        device.hear(&turn.now);
        if let Some(deadline) = device.deadline() {
            self.timers.set_once(Timer::Liveness(id.clone()), deadline);
        }
        if !device.is_online() {
            self.set_online(turn, id, true);
            return;
        }
        for item in device.items().iter() {
            if let Some(deployment) = self.fleet.get_mut(&item.uid) {
                deployment.hear(id, turn.now.wall_ms);
            }
        }
    }

    pub(super) fn set_online(&mut self, turn: &mut Turn, id: &DeviceId, online: bool) {
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        device.record.offline = !online;
        turn.device_changed(id);
        self.refresh_all(turn, id);
    }

    pub(super) fn refresh_all(&mut self, turn: &mut Turn, id: &DeviceId) {
        let Some(device) = self.devices.get(id) else {
            return;
        };
        let uids: Vec<PodUid> = device.items().iter().map(|item| item.uid.clone()).collect();
        for uid in uids {
            self.refresh(turn, &uid, id);
        }
    }

    /// The device claims something else than before. Claims may bring work, but never take it away by themselves (law 12).
    pub(super) fn follow_claims(&mut self, turn: &mut Turn, id: &DeviceId, before: &Facts) {
        let Some(device) = self.devices.get(id) else {
            return;
        };
        let changed: BTreeSet<Attribute> = Fact::ALL
            .iter()
            .filter(|fact| fact.value(before) != fact.value(&device.record.facts))
            .map(|fact| Attribute::Fact(*fact))
            .collect();
        for uid in self.fleet.readers(&changed) {
            self.reconcile(turn, &uid, id, false);
        }
    }
}

pub(super) fn cut_connection(turn: &mut Turn, id: &DeviceId, connection: ConnectionId, why: &'static str) {
    turn.effects.push(Effect::Cut {
        device: id.clone(),
        connection,
        why,
    });
}

/// A device that people may still change.
fn known<'a>(
    devices: &'a mut BTreeMap<DeviceId, Device>,
    id: &DeviceId,
) -> Result<&'a mut Device, CallError> {
    devices
        .get_mut(id)
        .filter(|device| device.record.state != DeviceState::Decommissioned)
        .ok_or_else(|| CallError::NoSuchDevice(id.clone()))
}

fn fresh_record(id: &DeviceId, enrolment: Enrolment) -> DeviceRecord {
    let Enrolment {
        serial,
        expected_previous: _,
        sealing_key,
        group,
        tags,
        link,
    } = enrolment;
    DeviceRecord {
        id: id.clone(),
        enrolment: serial,
        sealing_key,
        group,
        tags,
        link,
        state: DeviceState::Active,
        facts: Facts::default(),
        agent_version: String::new(),
        features: Vec::new(),
        last_seen_ms: None,
        last_session: SessionEpoch(0),
        status_upto: 0,
        event_seq: 0,
        // Never heard: there is no silence to measure yet.
        offline: true,
    }
}

fn changed_tags(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> BTreeSet<Attribute> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| Attribute::Tag(key.clone()))
        .collect()
}
