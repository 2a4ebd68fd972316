//! Assignments that a device has no room for: they wait, visibly, in the order in which they were made (law 8).

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::{DeviceId, PodUid};

use super::{Hub, Turn};
use crate::fleet::Role;

/// By device: since when, and which.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_device: BTreeMap<DeviceId, BTreeSet<(i64, PodUid)>>,
}

impl Waiting {
    pub(super) fn insert(&mut self, id: &DeviceId, since_ms: i64, uid: &PodUid) {
        let queue = self.by_device.entry(id.clone()).or_default();
        queue.insert((since_ms, uid.clone()));
    }

    fn remove(&mut self, id: &DeviceId, since_ms: i64, uid: &PodUid) {
        if let Some(queue) = self.by_device.get_mut(id) {
            queue.remove(&(since_ms, uid.clone()));
            if queue.is_empty() {
                self.by_device.remove(id);
            }
        }
    }

    /// The one that has waited longest.
    fn pop(&mut self, id: &DeviceId) -> Option<PodUid> {
        let queue = self.by_device.get_mut(id)?;
        let first = queue.pop_first();
        if queue.is_empty() {
            self.by_device.remove(id);
        }
        first.map(|(_, uid)| uid)
    }
}

impl Hub {
    pub(super) fn has_room(&self, id: &DeviceId) -> bool {
        let device = self.devices.get(id);
        device.is_some_and(|device| device.running() < self.config.limits.workloads)
    }

    /// Puts the assignment in the device's queue.
    pub(super) fn wait(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        let deployment = self.fleet.get_mut(uid);
        if let Some(assignment) = deployment.and_then(|deployment| deployment.assignment_mut(id)) {
            assignment.role = Role::Waiting;
            self.waiting.insert(id, assignment.since_ms, uid);
            turn.assignment_changed(uid, id);
            self.refresh(turn, uid, id);
        }
    }

    /// The assignment waits no more, whatever becomes of it.
    pub(super) fn wait_no_more(&mut self, uid: &PodUid, id: &DeviceId) {
        let deployment = self.fleet.get(uid);
        if let Some(assignment) = deployment.and_then(|deployment| deployment.assignment(id)) {
            self.waiting.remove(id, assignment.since_ms, uid);
        }
    }

    /// Gives the devices whose sets changed what waits for them, as far as there is room; whether any was given something.
    pub(super) fn fill_rooms(&mut self, turn: &mut Turn) -> bool {
        let mut filled = false;
        for id in turn.edited.clone() {
            while self.has_room(&id)
                && let Some(uid) = self.waiting.pop(&id)
            {
                let ended = self
                    .fleet
                    .get(&uid)
                    .is_some_and(|deployment| deployment.record.ended.is_some());
                if ended {
                    // A pod in a terminal phase runs nowhere any more.
                    self.unassign(turn, &uid, &id);
                } else {
                    self.run(turn, &uid, &id);
                }
                filled = true;
            }
        }
        filled
    }
}
