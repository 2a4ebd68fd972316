//! A deployment's life: put, released, superseded, deleted, ended.

use edge_protocol::v1::{Blob, DeploymentSpec, DeploymentState, TombstoneReason};
use edge_protocol::{DeploymentRevision, DeviceId, Digest, PodUid};

use super::objects::Bodies;
use super::{Hub, Turn};
use crate::fleet::{Deployment, Outline, Role, Target, may_replace};
use crate::io::{CallError, Change, DeploymentRecord};

impl Hub {
    pub(super) fn put_deployment(
        &mut self,
        turn: &mut Turn,
        spec: DeploymentSpec,
        objects: Vec<Blob>,
    ) -> Result<(), CallError> {
        let uid = spec.uid.clone();
        if let Some(held) = self.fleet.get(&uid) {
            if held.record.spec.source != spec.source {
                return Err(CallError::NotYours);
            }
            if held.is_deleting() {
                return Err(CallError::BeingDeleted);
            }
            let whole = held
                .objects()
                .iter()
                .all(|object| self.blobs.get(object).is_some());
            if held.record.spec == spec && held.record.state == DeploymentState::Active && whole {
                self.ask(turn, &uid);
                return Ok(());
            }
        }
        let target = Target::parse(&spec.target)?;
        let outline = Outline::parse(&spec, self.config.limits.manifest_bytes)?;
        target.check_secrets(&outline)?;
        self.check_replaces(&spec, &outline)?;
        let objects = self.check_objects(&uid, &outline, objects)?;
        let replaced = outline.replaces.clone();
        if self.fleet.get(&uid).is_some() {
            self.renew(turn, spec, (target, outline), &objects);
        } else {
            self.found(turn, spec, (target, outline), &objects)?;
        }
        // To name a workload in `replaces` is to ask for its end.
        for uid in std::iter::once(&uid).chain(&replaced) {
            self.ask(turn, uid);
        }
        Ok(())
    }

    /// Somebody asks for what the deployment is now, which they do with eyes open (law 4): from here on a device that holds something
    /// newer of it than a backup knew is overruled.
    pub(super) fn ask(&mut self, turn: &mut Turn, uid: &PodUid) {
        let Some(deployment) = self.fleet.get_mut(uid) else {
            return;
        };
        if !deployment.is_unconfirmed(self.incarnation) {
            return;
        }
        deployment.record.asked = self.incarnation;
        turn.deployment_changed(uid);
        for id in deployment.devices() {
            self.overrule(turn, uid, &id);
        }
    }

    /// A device stops what the manifest it runs names in `replaces`, so none that names another's is given out (law 12). What no
    /// deployment is known of is gone already.
    fn check_replaces(&self, spec: &DeploymentSpec, outline: &Outline) -> Result<(), CallError> {
        let named = outline.replaces.iter().filter_map(|uid| self.fleet.get(uid));
        for replaced in named.map(|deployment| &deployment.record.spec) {
            if !may_replace(spec, replaced) {
                return Err(CallError::BadManifest(format!(
                    "it replaces {}, which is another provider's or of another namespace",
                    replaced.uid
                )));
            }
        }
        Ok(())
    }

    fn found(
        &mut self,
        turn: &mut Turn,
        spec: DeploymentSpec,
        (target, outline): (Target, Outline),
        objects: &Bodies,
    ) -> Result<(), CallError> {
        let limit = self.config.limits.deployments;
        if self.fleet.iter().len() >= limit {
            return Err(CallError::LimitReached {
                what: "deployments",
                limit,
            });
        }
        let uid = spec.uid.clone();
        let record = DeploymentRecord {
            manifest: Digest::of(&spec.manifest),
            spec,
            revision: DeploymentRevision(1),
            state: DeploymentState::Active,
            created_ms: turn.now.wall_ms,
            asked: self.incarnation,
            ended: None,
        };
        let mut deployment = Deployment::new(record, target, outline);
        self.hold_blobs(turn, &mut deployment, objects);
        let candidates = self.candidates(&deployment);
        self.fleet.insert(deployment);
        turn.deployment_changed(&uid);
        turn.founding = Some(uid.clone());
        for id in candidates {
            self.reconcile(turn, &uid, &id, false);
        }
        Ok(())
    }

    /// Other content, or an orphan whose pod is back.
    fn renew(
        &mut self,
        turn: &mut Turn,
        spec: DeploymentSpec,
        (target, outline): (Target, Outline),
        objects: &Bodies,
    ) {
        let uid = spec.uid.clone();
        let Some(held) = self.fleet.remove(&uid) else {
            return;
        };
        let matched: Vec<DeviceId> = held
            .assignments()
            .filter(|(id, _)| {
                let device = self.devices.get(*id);
                device.is_some_and(|device| held.target.matches(&device.subject()))
            })
            .map(|(id, _)| id.clone())
            .collect();
        let (former, former_keys) = (held.blobs(), held.keys.clone());
        let same = held.record.spec == spec;
        let record = DeploymentRecord {
            manifest: Digest::of(&spec.manifest),
            spec,
            revision: DeploymentRevision(held.record.revision.0 + u64::from(!same)),
            state: DeploymentState::Active,
            created_ms: held.record.created_ms,
            asked: held.record.asked,
            ended: held.record.ended,
        };
        let mut deployment = held.renewed(record, target, outline);
        // In this order: what an older hub lost has no holder to lose.
        self.release_blobs(turn, former);
        self.hold_blobs(turn, &mut deployment, objects);
        let gone: Vec<Digest> = former_keys.difference(&deployment.keys).copied().collect();
        self.release_keys(turn, &uid, &gone);
        let candidates = self.candidates(&deployment);
        self.fleet.insert(deployment);
        turn.deployment_changed(&uid);
        for id in candidates {
            self.reconcile(turn, &uid, &id, matched.contains(&id));
            self.refresh(turn, &uid, &id);
        }
    }

    pub(super) fn release(&mut self, turn: &mut Turn, uid: &PodUid) -> Result<(), CallError> {
        let deployment = self
            .fleet
            .get_mut(uid)
            .ok_or(CallError::NoSuchDeployment(uid.clone()))?;
        match deployment.record.state {
            DeploymentState::Released { .. } => {
                self.ask(turn, uid);
                return Ok(());
            }
            DeploymentState::Deleting { .. } => return Err(CallError::BeingDeleted),
            DeploymentState::Active => {}
        }
        deployment.record.state = DeploymentState::Released {
            since_ms: turn.now.wall_ms,
        };
        turn.deployment_changed(uid);
        for id in deployment.devices() {
            self.orphan(turn, uid, &id);
        }
        self.ask(turn, uid);
        Ok(())
    }

    /// Tombstones everywhere. Repeated, it can only shorten the grace period; the record shows the shortest.
    pub(super) fn delete(
        &mut self,
        turn: &mut Turn,
        uid: &PodUid,
        grace_period_s: Option<u32>,
        reason: TombstoneReason,
    ) {
        let Some(deployment) = self.fleet.get_mut(uid) else {
            return;
        };
        let own = deployment.outline.grace_period_s;
        let next = match deployment.record.state {
            DeploymentState::Deleting {
                grace_period_s: given,
                ..
            } if grace_period_s.unwrap_or(own) >= given.unwrap_or(own) => return,
            DeploymentState::Deleting { since_ms, .. } => since_ms,
            DeploymentState::Active | DeploymentState::Released { .. } => turn.now.wall_ms,
        };
        deployment.record.state = DeploymentState::Deleting {
            since_ms: next,
            grace_period_s,
        };
        turn.deployment_changed(uid);
        for id in deployment.devices() {
            self.stop(turn, uid, &id, (reason, grace_period_s));
        }
    }

    /// The deployment `next` is healthy on the device: what it replaces there, stops. Only a successor of the same provider and
    /// namespace may do that (law 12).
    pub(super) fn supersede(&mut self, turn: &mut Turn, next: &PodUid, id: &DeviceId) {
        // One that is itself on its way out there has no place to take, however healthy it still is.
        let stays = |next: &&Deployment| !next.is_deleting() && next.role(id).is_some_and(Role::runs);
        let Some(successor) = self.fleet.get(next).filter(stays) else {
            return;
        };
        let replaced: Vec<PodUid> = successor
            .outline
            .replaces
            .iter()
            .filter(|uid| {
                let replaced = self
                    .fleet
                    .get(uid)
                    .filter(|replaced| successor.may_replace(replaced));
                replaced.is_some_and(|replaced| {
                    !replaced.is_deleting() && replaced.role(id).is_some_and(Role::runs)
                })
            })
            .cloned()
            .collect();
        for uid in replaced {
            if let Some(assignment) = self.fleet.get_mut(&uid).and_then(|d| d.assignment_mut(id)) {
                assignment.superseded = true;
            }
            self.stop(turn, &uid, id, (TombstoneReason::Superseded, None));
        }
    }

    /// The deployment `next` gives its place on the device back: what it had replaced there and is still wanted runs again (law 5),
    /// unless another successor runs there. The device starts it when `next` has left.
    pub(super) fn reinstate(&mut self, turn: &mut Turn, next: &PodUid, id: &DeviceId) {
        let Some(leaving) = self.fleet.get(next) else {
            return;
        };
        let is_free = |former: &Deployment| {
            !self.fleet.successors(&former.record.spec.uid).any(|other| {
                other.record.spec.uid != *next
                    && other.may_replace(former)
                    && other.role(id).is_some_and(Role::runs)
            })
        };
        let back: Vec<PodUid> = leaving
            .outline
            .replaces
            .iter()
            .filter(|uid| {
                self.fleet.get(uid).is_some_and(|former| {
                    former.record.state == DeploymentState::Active
                        && former.assignment(id).is_some_and(|held| held.superseded)
                        && is_free(former)
                })
            })
            .cloned()
            .collect();
        for uid in back {
            if let Some(assignment) = self.fleet.get_mut(&uid).and_then(|d| d.assignment_mut(id)) {
                assignment.superseded = false;
            }
            turn.assignment_changed(&uid, id);
            self.reconcile(turn, &uid, id, false);
        }
    }

    /// No device owes anything any more.
    pub(super) fn end_deployment(&mut self, turn: &mut Turn, uid: &PodUid) {
        let Some(deployment) = self.fleet.get(uid) else {
            return;
        };
        for id in deployment.devices() {
            self.unassign(turn, uid, &id);
        }
        let Some(ended) = self.fleet.remove(uid) else {
            return;
        };
        self.release_blobs(turn, ended.blobs());
        self.release_keys(turn, uid, &ended.keys);
        turn.deployments.insert(uid.clone());
        turn.checks.remove(uid);
        let present = Change::Deployment { uid: uid.clone() };
        turn.changes.remove(&present);
        turn.announced.remove(&present);
        turn.changes.insert(Change::DeploymentEnded { uid: uid.clone() });
    }
}
