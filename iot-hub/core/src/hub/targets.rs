//! Whom a deployment is for, made true one device at a time.

use std::collections::BTreeSet;

use edge_protocol::v1::{DeploymentState, Phase, Tombstone, TombstoneReason, VERSION};
use edge_protocol::{DeploymentRevision, DeviceId, Digest, ItemState, PodUid, SetItem};

use super::timers::Timer;
use super::{Hub, Turn};
use crate::fleet::{Assignment, Deployment, Role, Standing};
use crate::io::DeviceState;

impl Hub {
    /// The devices that a deployment may be for by its target, or has already; the others need not be looked at.
    pub(super) fn candidates(&self, deployment: &Deployment) -> BTreeSet<DeviceId> {
        let mut found = match deployment.target.keys() {
            Some(keys) => self.device_index.having(&keys),
            None => self.devices.keys().cloned().collect(),
        };
        found.extend(deployment.devices());
        found
    }

    /// Makes one assignment what the target says now. `matched` says that the device matched before this change by the very claims it
    /// makes now: then an authoritative term took it out of scope. Otherwise only the device's claims may have, and then it
    /// keeps what it has unless authoritative terms exclude it whatever it claims (law 12).
    pub(super) fn reconcile(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId, matched: bool) {
        let (Some(deployment), Some(device)) = (self.fleet.get(uid), self.devices.get(id)) else {
            return;
        };
        if deployment.record.state != DeploymentState::Active {
            return;
        }
        let subject = device.subject();
        let enrolled = device.record.state != DeviceState::Decommissioned;
        let matches = enrolled && deployment.target.matches(&subject);
        let keeps = matches || !(matched || deployment.target.excludes(&subject));
        // A pod in a terminal phase runs nowhere any more, so whoever matches later is not given it.
        let joins = matches && deployment.record.ended.is_none();
        let displaced = deployment
            .assignment(id)
            .is_some_and(|assignment| assignment.superseded);
        match deployment.role(id) {
            None if joins => self.assign(turn, uid, id),
            Some(Role::Run | Role::Orphan) if keeps => self.run(turn, uid, id),
            Some(Role::Run | Role::Orphan) => self.stop(turn, uid, id, (TombstoneReason::Untargeted, None)),
            Some(Role::Stop {
                reason: TombstoneReason::Untargeted,
                ..
            }) if joins && self.has_room(id) => self.run(turn, uid, id),
            Some(Role::Stop {
                reason: TombstoneReason::Superseded,
                ..
            }) if joins && !displaced && self.has_room(id) => self.run(turn, uid, id),
            Some(Role::Left) if joins && !displaced => self.run_or_wait(turn, uid, id),
            Some(Role::Left) if !keeps || !displaced => self.unassign(turn, uid, id),
            Some(Role::Waiting) if !joins => self.unassign(turn, uid, id),
            None | Some(Role::Waiting | Role::Stop { .. } | Role::Left) => {}
        }
    }

    fn assign(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        let counted = turn.founding.as_ref() == Some(uid);
        let Some(deployment) = self.fleet.get_mut(uid) else {
            return;
        };
        deployment.assign(id.clone(), Assignment::new(turn.now.wall_ms, counted));
        if !counted {
            let at = turn.now.mono_ms.saturating_add(self.config.join_deadline_ms);
            self.timers.set(Timer::Join(uid.clone(), id.clone()), at);
        }
        self.run_or_wait(turn, uid, id);
    }

    fn run_or_wait(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        if self.has_room(id) {
            self.run(turn, uid, id);
        } else {
            self.wait(turn, uid, id);
        }
    }

    /// Lets an assigned device run the present manifest. An item that says so already stays as it is, with its revision: a change
    /// that leaves the manifest alone is no news to a device.
    pub(super) fn run(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        self.wait_no_more(uid, id);
        let Some(deployment) = self.fleet.get_mut(uid) else {
            return;
        };
        let (revision, digest) = (deployment.record.revision, deployment.record.manifest);
        let Some(assignment) = deployment.assignment_mut(id) else {
            return;
        };
        assignment.role = Role::Run;
        let held = self.devices.get(id).and_then(|device| device.items().get(uid));
        let in_place = held.is_some_and(|item| item.state == ItemState::Run && item.digest == digest);
        if !in_place {
            let body = deployment.record.spec.manifest.clone();
            let item = SetItem {
                uid: uid.clone(),
                state: ItemState::Run,
                revision,
                digest,
            };
            self.put_item(turn, id, item, &body);
        }
        self.forget_gone(uid, id);
        turn.assignment_changed(uid, id);
        self.refresh(turn, uid, id);
    }

    /// The workload is gone no more: the next word on it will be of its new life.
    fn forget_gone(&mut self, uid: &PodUid, id: &DeviceId) {
        let deployment = self.fleet.get_mut(uid);
        if let Some(assignment) = deployment.and_then(|deployment| deployment.assignment_mut(id)) {
            assignment.status.take_if(|status| status.phase == Phase::Gone);
        }
    }

    /// Asks the device to keep the workload as an orphan.
    pub(super) fn orphan(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        let Some(deployment) = self.fleet.get_mut(uid) else {
            return;
        };
        let body = deployment.record.spec.manifest.clone();
        let (Some(assignment), Some(device)) = (deployment.assignment_mut(id), self.devices.get(id)) else {
            return;
        };
        if assignment.role == Role::Waiting {
            // Nothing of it runs that could go on.
            return self.unassign(turn, uid, id);
        }
        let Some(item) = device
            .items()
            .get(uid)
            .filter(|item| item.state == ItemState::Run)
        else {
            return;
        };
        assignment.role = Role::Orphan;
        let item = SetItem {
            state: ItemState::Orphan,
            ..item.clone()
        };
        self.put_item(turn, id, item, &body);
        turn.assignment_changed(uid, id);
        self.refresh(turn, uid, id);
    }

    /// Asks the device to stop the workload; whose place it had there may run again.
    pub(super) fn stop(
        &mut self,
        turn: &mut Turn,
        uid: &PodUid,
        id: &DeviceId,
        (reason, grace_period_s): (TombstoneReason, Option<u32>),
    ) {
        let role = self.fleet.get(uid).and_then(|deployment| deployment.role(id));
        self.ask_to_stop(turn, uid, id, (reason, grace_period_s));
        // Whoever took its place has what it had replaced as well.
        if role.is_some_and(Role::runs) && reason != TombstoneReason::Superseded {
            self.reinstate(turn, uid, id);
        }
    }

    /// One that was never told of it has nothing to stop; a tombstone that is out already stays
    /// unless the new one leaves less time.
    fn ask_to_stop(
        &mut self,
        turn: &mut Turn,
        uid: &PodUid,
        id: &DeviceId,
        (reason, grace_period_s): (TombstoneReason, Option<u32>),
    ) {
        let (Some(deployment), Some(device)) = (self.fleet.get_mut(uid), self.devices.get(id)) else {
            return;
        };
        if !device.may_hold(uid, self.incarnation) {
            self.forget_item(turn, uid, id);
            self.leave(turn, uid, id);
            return;
        }
        let (revision, own_grace) = (deployment.record.revision, deployment.outline.grace_period_s);
        let Some(assignment) = deployment.assignment_mut(id) else {
            return;
        };
        let shortens = match assignment.role {
            Role::Run | Role::Orphan => true,
            Role::Stop {
                grace_period_s: given,
                ..
            } => grace_period_s.unwrap_or(own_grace) < given.unwrap_or(own_grace),
            Role::Waiting | Role::Left => false,
        };
        if shortens {
            assignment.role = Role::Stop {
                reason,
                grace_period_s,
            };
            let body = tombstone(uid, reason, grace_period_s);
            let item = SetItem {
                uid: uid.clone(),
                state: ItemState::Stop,
                revision,
                digest: Digest::of(&body),
            };
            self.put_item(turn, id, item, &body);
            turn.assignment_changed(uid, id);
        }
        self.refresh(turn, uid, id);
    }

    /// The device has stopped what it was to stop, or never had it.
    pub(super) fn leave(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        let Some(deployment) = self.fleet.get_mut(uid) else {
            return;
        };
        let deleting = deployment.is_deleting();
        match deployment.assignment_mut(id) {
            Some(assignment) if assignment.superseded && !deleting => {
                assignment.role = Role::Left;
                turn.assignment_changed(uid, id);
                self.refresh(turn, uid, id);
            }
            _ => {
                self.unassign(turn, uid, id);
                // It may have come back into scope while there was no room for it.
                self.reconcile(turn, uid, id, false);
            }
        }
    }

    pub(super) fn unassign(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        self.wait_no_more(uid, id);
        let removed = self
            .fleet
            .get_mut(uid)
            .and_then(|deployment| deployment.unassign(id));
        if removed.is_some() {
            self.timers.cancel(&Timer::Join(uid.clone(), id.clone()));
            turn.assignment_changed(uid, id);
        }
    }

    /// Puts an item into the device's set, in a version above any of the same workload that the device may hold. The device judges each item by its own
    /// version when the incarnation changes (law 4), so that a tombstone or a return of the same version would be held for a conflict.
    fn put_item(&mut self, turn: &mut Turn, id: &DeviceId, mut item: SetItem, body: &str) {
        let Some(device) = self.devices.get(id) else {
            return;
        };
        if let Some(former) = device.newest_revision(&item.uid) {
            item.revision = item.revision.max(above(former));
        }
        if let Some(held) = self.overruled(&item.uid, id) {
            let believed = item.revision.0.saturating_add(MAX_REVISION_LEAD);
            item.revision = item.revision.max(above(held.min(DeploymentRevision(believed))));
        }
        self.raise_revision(turn, &item.uid, item.revision);
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        self.blobs.hold(item.digest, body);
        turn.blobs.insert(item.digest);
        if let Some(former) = device.items().get(&item.uid) {
            self.blobs.release(&former.digest);
            turn.blobs.insert(former.digest);
        }
        device.put(item);
        turn.edited.insert(id.clone());
    }

    /// The revision that the device says it holds of a workload, where it counts: what only a backup knew overrules nothing (law 4).
    fn overruled(&self, uid: &PodUid, id: &DeviceId) -> Option<DeploymentRevision> {
        let deployment = self.fleet.get(uid)?;
        if deployment.is_unconfirmed(self.incarnation) {
            return None;
        }
        let said = deployment
            .assignment(id)
            .and_then(|assignment| assignment.status.as_ref());
        let kept = self
            .devices
            .get(id)
            .and_then(|device| device.quarantine.revision(uid));
        said.map(|status| status.revision).max(kept)
    }

    /// The device does not act on its item, because it holds a newer one of before the hub was restored, or another of the same
    /// revision: once somebody asked again, the item goes out above that.
    pub(super) fn overrule(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        let (Some(held), Some(device)) = (self.overruled(uid, id), self.devices.get(id)) else {
            return;
        };
        let Some(item) = device.items().get(uid).cloned() else {
            return;
        };
        let said_gone = self.has_said_gone(uid, id);
        let stops = item.state == ItemState::Stop;
        // What it holds in the same revision is another thing: it says so, or that it has stopped what is to run.
        let conflicts = device.quarantine.contains(uid) || (said_gone && !stops);
        if held < item.revision || (held == item.revision && !conflicts) || (said_gone && stops) {
            return;
        }
        if let Some(body) = self.blobs.get(&item.digest).map(ToOwned::to_owned) {
            self.put_item(turn, id, item, &body);
            self.refresh(turn, uid, id);
        }
    }

    fn has_said_gone(&self, uid: &PodUid, id: &DeviceId) -> bool {
        let deployment = self.fleet.get(uid);
        let assignment = deployment.and_then(|deployment| deployment.assignment(id));
        let said = assignment.and_then(|assignment| assignment.status.as_ref());
        said.is_some_and(|status| status.phase == Phase::Gone)
    }

    pub(super) fn forget_item(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        let forgotten = self.devices.get_mut(id).and_then(|device| device.forget(uid));
        if let Some(item) = forgotten {
            let may_return = self
                .fleet
                .get(uid)
                .is_some_and(|deployment| !deployment.is_deleting());
            if item.state == ItemState::Stop && may_return {
                // The device may hold the tombstone until it hears that it is forgotten: what comes after it is newer.
                self.raise_revision(turn, uid, above(item.revision));
            }
            self.blobs.release(&item.digest);
            turn.blobs.insert(item.digest);
            turn.edited.insert(id.clone());
        }
    }

    /// A deployment's revision is never below that of any item given out for it.
    fn raise_revision(&mut self, turn: &mut Turn, uid: &PodUid, to: DeploymentRevision) {
        if let Some(deployment) = self.fleet.get_mut(uid)
            && deployment.record.revision < to
        {
            deployment.record.revision = to;
            turn.deployment_changed(uid);
        }
    }

    /// Brings the roll-up up to date with one assignment.
    pub(super) fn refresh(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        let (Some(deployment), Some(device)) = (self.fleet.get_mut(uid), self.devices.get(id)) else {
            return;
        };
        let standing = Standing {
            online: device.is_online(),
            rung: device.acknowledged_rung(uid),
            word_ms: device.last_seen_ms(),
            keyless: self.keys.lack(&deployment.keys, &device.record),
        };
        if deployment.refresh(id, standing) {
            turn.announce_deployment(uid);
        }
    }
}

/// A device that claims to hold a revision is believed up to so many above the hub's own: a single one could use up the numbers.
const MAX_REVISION_LEAD: u64 = 1 << 20;

fn above(revision: DeploymentRevision) -> DeploymentRevision {
    DeploymentRevision(revision.0.saturating_add(1))
}

fn tombstone(uid: &PodUid, reason: TombstoneReason, grace_period_s: Option<u32>) -> String {
    let tombstone = Tombstone {
        v: VERSION,
        uid: uid.clone(),
        grace_period_s,
        reason,
    };
    serde_json::to_string(&tombstone).expect("a tombstone has only string keys")
}
