//! The judges: laws that hold at every event, read from runtime, wire and disk, never from a machine's own view.

use edge_agent_core::{self as agent, Step};
use edge_protocol::v1::{ContainerSpec, ContainerState, Manifest, Rung, SetAck, Statement, WorkloadStatus};
use edge_protocol::{DesiredSet, Digest, ItemState, PodUid, SessionEpoch, SetGeneration};
use edge_provider_core::HeldDeployment;
use iot_hub_core as hub;

use crate::coverage::Path;
use crate::event::At;
use crate::runtime::Container;
use crate::world::World;

impl World {
    // Law 5.

    pub(crate) fn judge_start(&mut self, at: At, id: &str) {
        let runtime = &self.devices[at].runtime;
        let Some(started) = runtime.get(id) else { return };
        self.coverage.met(Path::StartJudged);
        let twins: Vec<&str> = runtime
            .of(&started.seen.uid)
            .filter(|c| c.runs() && c.seen.name == started.seen.name)
            .map(|c| c.seen.id.as_str())
            .collect();
        if twins.len() > 1 {
            let why = format!(
                "law 5: {} runs {}/{} as {}",
                self.devices[at].id,
                started.seen.uid,
                started.seen.name,
                twins.join(" and ")
            );
            return self.fail(why);
        }
        let uid = &started.seen.uid;
        if let Some(why) = self
            .out_of_order(at, started)
            .or_else(|| self.judge_volumes(at, uid))
        {
            return self.fail(why);
        }
        let replaced = self.ledger.replaced.get(&started.seen.uid);
        let taken: Vec<(At, PodUid)> = replaced
            .into_iter()
            .flatten()
            .map(|uid| (at, uid.clone()))
            .collect();
        self.ledger.taken.extend(taken);
    }

    // Laws 1, 2 and 6.

    pub(crate) fn judge_sandbox(&mut self, at: At, sandbox: &str) {
        let inside: Vec<String> = self.devices[at]
            .runtime
            .containers
            .iter()
            .filter(|c| c.seen.sandbox_id == sandbox && c.runs())
            .map(|c| c.seen.id.clone())
            .collect();
        for id in inside {
            self.judge_end(at, &id, "stopped with its sandbox");
        }
    }

    /// The agent asks for a step: whom it is right to end by it. What it knows later does not make that wrong.
    pub(crate) fn condemn(&mut self, at: At, step: &Step) {
        let device = &self.devices[at];
        let meant = |c: &&Container| match step {
            Step::StopContainer { container_id, .. } | Step::RemoveContainer { container_id } => {
                c.seen.id == *container_id
            }
            Step::StopSandbox { sandbox_id } | Step::RemoveSandbox { sandbox_id, .. } => {
                c.seen.sandbox_id == *sandbox_id
            }
            _ => false,
        };
        let right: Vec<String> = device
            .runtime
            .containers
            .iter()
            .filter(meant)
            .filter(|c| self.may_end(at, c).is_ok())
            .map(|c| c.seen.id.clone())
            .collect();
        self.devices[at].condemned.extend(right);
    }

    /// A running container is about to be ended by the agent.
    pub(crate) fn judge_end(&mut self, at: At, id: &str, how: &str) {
        let Some(container) = self.devices[at].runtime.get(id).filter(|c| c.runs()) else {
            return;
        };
        self.coverage.met(Path::EndJudged);
        if self.devices[at].condemned.contains(id) {
            return;
        }
        if let Err(why) = self.may_end(at, container) {
            let why = format!(
                "laws 1, 2: on {} {}/{} ({id}) is {how}: {why}",
                self.devices[at].id, container.seen.uid, container.seen.name
            );
            self.fail(why);
        }
    }

    fn may_end(&self, at: At, container: &Container) -> Result<(), String> {
        let uid = &container.seen.uid;
        let dead_sandbox = self.devices[at]
            .runtime
            .sandboxes
            .iter()
            .all(|s| s.id != container.seen.sandbox_id || !s.ready);
        if dead_sandbox || self.api.intended.contains(uid) || self.was_once_out_of_target(at, uid) {
            return Ok(());
        }
        if container.sick || self.has_ended(at, container) {
            return Ok(());
        }
        let mut refusal = "nobody wants that".to_owned();
        for (item, manifest) in self.manifests(at) {
            let replaced = manifest.replaces.contains(uid) && item != *uid;
            let specs: Vec<&ContainerSpec> = manifest.workload.all_containers().collect();
            let own = specs.iter().find(|spec| spec.name == container.seen.name);
            let changed =
                item == *uid && own.is_none_or(|spec| spec.restart_digest != container.seen.restart_digest);
            let missing: Vec<&String> = specs
                .iter()
                .filter(|spec| replaced || spec.name == container.seen.name)
                .map(|spec| &spec.image)
                .filter(|image| !self.devices[at].runtime.images.contains(*image))
                .collect();
            match (replaced || changed, missing.is_empty()) {
                (true, true) => {
                    if replaced {
                        self.note_taken(at, uid);
                    }
                    return Ok(());
                }
                (true, false) => refusal = format!("law 6: {missing:?} is not here"),
                (false, _) => {}
            }
        }
        if self.was_released_before_restore(uid) {
            return Ok(());
        }
        Err(refusal)
    }

    fn note_taken(&self, at: At, uid: &PodUid) {
        self.coverage.met(Path::PredecessorEnded);
        let set = self.devices[at].disk.set.as_ref();
        let item = set.and_then(|set| set.items.get(uid));
        if item.is_some_and(|item| item.state == ItemState::Orphan) {
            self.coverage.met(Path::OrphanEnded);
        }
    }

    /// The manifests of what is to run, as the device's disk has them.
    pub(crate) fn manifests(&self, at: At) -> impl Iterator<Item = (PodUid, Manifest)> {
        let disk = &self.devices[at].disk;
        let items = disk.set.iter().flat_map(|set| set.items.iter().cloned());
        items
            .chain(disk.quarantine())
            .filter(|item| item.state != ItemState::Stop)
            .filter_map(|item| {
                Some((
                    item.uid,
                    serde_json::from_str(disk.blobs.get(&item.digest)?).ok()?,
                ))
            })
    }

    // Law 4, on disks.

    pub(crate) fn judge_agent_write(&mut self, at: At, write: &agent::Write) {
        let agent::Write::Set(set) = write else { return };
        self.coverage.met(Path::AgentSetJudged);
        let id = self.devices[at].id.clone();
        if set.items.digest() != set.digest {
            return self.fail(format!(
                "law 4: {id} stores {} with another content than its digest",
                set.generation
            ));
        }
        match self.ledger.sets.get(&(at, set.generation)) {
            None => self.fail(format!(
                "law 9: {id} stores {}, which the hub never made for it",
                set.generation
            )),
            Some(digest) if *digest != set.digest => {
                self.fail(format!(
                    "law 2: {id} stores {} in part, or another's",
                    set.generation
                ));
            }
            Some(_) => {}
        }
        let held = self.devices[at].disk.set.as_ref();
        if let Some(held) = held.filter(|held| held.generation >= set.generation) {
            let why = format!("law 4: {id} goes from {} to {}", held.generation, set.generation);
            self.fail(why);
        }
    }

    pub(crate) fn judge_hub_write(&mut self, write: &hub::Write) {
        match write {
            hub::Write::PutDeviceSet { device, set } => {
                let at = self.at(device);
                self.coverage.met(Path::HubSetJudged);
                self.note_set(at, set.generation, &set.items);
            }
            hub::Write::PutAssignment(record) => {
                let at = self.at(&record.device);
                if let Some(status) = record.status.as_ref().filter(|s| s.rung == Rung::Healthy) {
                    self.judge_said(at, status);
                }
            }
            hub::Write::PutDeployment(record) => {
                let manifest = serde_json::from_str::<Manifest>(&record.spec.manifest);
                if let Ok(manifest) = manifest
                    && !manifest.replaces.is_empty()
                {
                    self.coverage.met(Path::SuccessorPut);
                    let replaced = self.ledger.replaced.entry(manifest.uid).or_default();
                    replaced.extend(manifest.replaces);
                }
            }
            hub::Write::Incarnation(incarnation) => {
                self.coverage.met(Path::IncarnationJudged);
                if self.hub.disk.incarnation.is_some_and(|held| held >= *incarnation) {
                    self.fail(format!("law 4: the hub goes to incarnation {incarnation}"));
                }
            }
            _ => {}
        }
    }

    fn note_set(&mut self, at: At, generation: SetGeneration, items: &DesiredSet) {
        let digest = items.digest();
        let known = self.ledger.sets.insert((at, generation), digest);
        if known.is_some_and(|known| known != digest) && !self.knows_not_of_its_restore() {
            let id = self.devices[at].id.clone();
            self.fail(format!(
                "law 4: the hub gives {generation} of {id} another content"
            ));
        }
    }

    fn judge_said(&mut self, at: At, status: &WorkloadStatus) {
        self.coverage.met(Path::HealthOnHubJudged);
        let said = (at, status.uid.clone(), status.manifest);
        if !self.ledger.said_healthy.contains(&said) {
            let why = format!(
                "law 3: {} never said that {} is healthy",
                self.devices[at].id, status.uid
            );
            self.fail(why);
        }
    }

    // Laws 3 and 4, on the wire.

    pub(crate) fn judge_persisted(&mut self, at: At, ack: &SetAck) {
        self.coverage.met(Path::PersistedJudged);
        let disk = self.devices[at].disk.set.as_ref();
        if disk.is_none_or(|set| (set.generation, set.digest) != (ack.generation, ack.digest)) {
            let why = format!(
                "law 4: {} says that {} is on its disk, where {:?} is",
                self.devices[at].id,
                ack.generation,
                disk.map(|set| set.generation.to_string())
            );
            self.fail(why);
        }
    }

    pub(crate) fn judge_healthy(&mut self, at: At, status: &WorkloadStatus) {
        self.ledger
            .said_healthy
            .insert((at, status.uid.clone(), status.manifest));
        self.coverage.met(Path::HealthyJudged);
        let device = &self.devices[at];
        for container in &status.containers {
            let ContainerState::Running { .. } = container.state else {
                continue;
            };
            let id = container.container_id.trim_start_matches("containerd://");
            let known = device.runtime.of(&status.uid).any(|c| c.seen.id == id)
                || device.runtime.ended.contains_key(id);
            let ended = device.runtime.ended.get(id);
            let truth =
                known && ended.is_none_or(|ended| device.looked_at.is_some_and(|look| *ended >= look));
            if !truth {
                let why = format!(
                    "law 3: {} calls {} healthy, but {id} ended at {ended:?}, before the look at {:?}",
                    device.id, status.uid, device.looked_at
                );
                return self.fail(why);
            }
        }
    }

    pub(crate) fn judge_acknowledged(&mut self, at: At, (session, status, event): (SessionEpoch, u64, u64)) {
        self.coverage.met(Path::AcknowledgedJudged);
        let id = self.devices[at].id.clone();
        let held = self.hub.disk.devices.get(&id);
        let kept = held.is_some_and(|held| {
            held.last_session >= session && held.status_upto >= status && held.event_seq >= event
        });
        if !kept {
            self.fail(format!(
                "law 4: the hub acknowledges a report of {id} that is not on its disk"
            ));
        }
    }

    pub(crate) fn judge_statement(&mut self, at: At, statement: &Statement) {
        self.coverage.met(Path::StatementJudged);
        let acknowledged = (statement.session, statement.status_upto, statement.event_seq);
        self.judge_acknowledged(at, acknowledged);
        let id = &self.devices[at].id;
        if statement.device != *id {
            return self.fail(format!("law 9: {id} is sent what is for {}", statement.device));
        }
        let known = self.ledger.sets.get(&(at, statement.generation));
        if known != Some(&statement.set_digest) {
            let why = format!(
                "law 4: {id} is offered {}, which is not on the hub's disk",
                statement.generation
            );
            self.fail(why);
        }
    }

    /// What the bridge is about to read of the hub.
    pub(crate) fn judge_ready(&mut self, held: &HeldDeployment) {
        if !held.status.ready {
            return;
        }
        self.coverage.met(Path::ReadyJudged);
        let uid = &held.spec.uid;
        let manifest = Digest::of(&held.spec.manifest);
        let says = (0..self.devices.len()).any(|at| {
            let word = self.ledger.heard.get(&(at, uid.clone()));
            let kept = self
                .hub
                .disk
                .assignments
                .get(&(uid.clone(), self.devices[at].id.clone()))
                .and_then(|record| record.status.as_ref())
                .map(|status| (status.rung, status.manifest));
            word == Some(&(Rung::Healthy, manifest)) || kept == Some((Rung::Healthy, manifest))
        });
        if !says {
            self.fail(format!(
                "law 3: {uid} is called ready, and no device's last word says so"
            ));
        }
    }

    /// The pod object is about to go.
    pub(crate) fn judge_finish(&mut self, uid: &PodUid) {
        let long_ago = |since: u64| since + 60_000 < self.now;
        let stream = &self.bridge.hub_stream;
        let informed = stream.live && long_ago(stream.since);
        if !informed || !self.api.intended.contains(uid) {
            return;
        }
        self.coverage.met(Path::FinishJudged);
        let runs = (0..self.devices.len()).find(|at| {
            let device = &self.devices[*at];
            let online = long_ago(device.heard_since) && self.now < device.heard_at + 35_000;
            online && device.runtime.of(uid).any(Container::runs) && !self.waits_for_person(*at, uid)
        });
        if let Some(at) = runs {
            let why = format!(
                "{uid} is finished while {}, which is online, still runs it",
                self.devices[at].id
            );
            self.fail(why);
        }
    }
}
