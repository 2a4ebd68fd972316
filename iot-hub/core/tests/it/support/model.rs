//! A tiny device: it checks what it is told as an agent does, obeys at once, and says so.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::sign::{Binding, TrustedKeys};
use edge_protocol::v1::ability::STREAMS;
use edge_protocol::v1::{
    AckStage, ContainerState, ContainerStatus, Down, DownFrame, Facts, HeldSet, Hello, Manifest, Phase,
    Reason, Rung, SetAck, Statement, StatementBody, StatsAsk, StatusReport, StreamOrder, Up, UpFrame,
    WorkloadStatus, ability,
};
use edge_protocol::{
    BootId, DesiredSet, DeviceId, DeviceTime, Digest, EnrolmentSerial, ItemState, Nonce, PodUid,
    SessionEpoch, SetGeneration, SetItem, Verdict, frame, judge,
};
use iot_hub_core::ConnectionId;

use super::build::{hub_id, key, serial};
use super::store::objects;

/// How workloads fare on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Healthy,
    /// Accepted, never started.
    Waiting,
    Running,
    PullFails,
    Exits(i32),
}

pub struct Model {
    pub id: DeviceId,
    pub enrolment: EnrolmentSerial,
    pub connection: Option<ConnectionId>,
    pub facts: Facts,
    pub features: Vec<String>,
    /// What it was asked of what it uses.
    pub asks: Vec<StatsAsk>,
    pub behaviour: BTreeMap<PodUid, Behaviour>,
    // On its disk.
    pub set: Option<(SetGeneration, DesiredSet)>,
    pub running: BTreeMap<PodUid, Digest>,
    /// Items of before the hub was restored that stay in force.
    pub quarantine: BTreeMap<PodUid, SetItem>,
    /// It reports what is in quarantine as if it were not.
    pub silent_about_quarantine: bool,
    blobs: BTreeMap<Digest, String>,
    gone: BTreeMap<PodUid, SetItem>,
    upto: u64,
    // In its session.
    binding: Option<Binding>,
    parts: BTreeMap<u32, Vec<SetItem>>,
    seq: u64,
    /// The statements that were accepted, by form.
    pub forms: Vec<&'static str>,
    pub acked_upto: u64,
    pub facts_seq: Option<u64>,
    /// Those that were for this session.
    pub orders: Vec<StreamOrder>,
    /// How often each workload was started.
    pub starts: BTreeMap<PodUid, u32>,
    /// Workloads that stopped because a set no longer named them, without a tombstone.
    pub vanished: Vec<PodUid>,
}

impl Model {
    pub fn new(id: DeviceId) -> Self {
        Self {
            id,
            enrolment: serial(1),
            connection: None,
            facts: Facts {
                arch: "arm64".to_owned(),
                ..Facts::default()
            },
            features: vec!["logs".to_owned(), ability::STATS.to_owned()],
            asks: Vec::new(),
            behaviour: BTreeMap::new(),
            set: None,
            running: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            silent_about_quarantine: false,
            blobs: BTreeMap::new(),
            gone: BTreeMap::new(),
            upto: 0,
            binding: None,
            parts: BTreeMap::new(),
            seq: 0,
            forms: Vec::new(),
            acked_upto: 0,
            facts_seq: None,
            orders: Vec::new(),
            starts: BTreeMap::new(),
            vanished: Vec::new(),
        }
    }

    pub fn behaves(&mut self, uid: &PodUid, behaviour: Behaviour) {
        self.behaviour.insert(uid.clone(), behaviour);
    }

    pub fn connect(&mut self, connection: ConnectionId, nonce: u64) -> Vec<u8> {
        self.connection = Some(connection);
        self.parts.clear();
        self.seq = 0;
        let nonce = Nonce::new(format!("{nonce:032x}")).unwrap();
        self.binding = Some(Binding {
            hub: hub_id(),
            device: self.id.clone(),
            enrolment: self.enrolment.clone(),
            nonce: nonce.clone(),
            session: None,
            last_seq: 0,
        });
        let held = self.set.as_ref().map(|(generation, set)| HeldSet {
            generation: *generation,
            digest: set.digest(),
        });
        self.frame(Up::Hello(Box::new(Hello {
            nonce,
            agent_version: "1.0.0".to_owned(),
            features: self.features.clone(),
            held,
            facts: self.facts.clone(),
        })))
    }

    pub fn lose_link(&mut self) -> Option<ConnectionId> {
        self.binding = None;
        self.connection.take()
    }

    pub fn session(&self) -> Option<SessionEpoch> {
        self.binding.as_ref()?.session
    }

    /// A frame of the present session.
    pub fn frame(&mut self, body: Up) -> Vec<u8> {
        let frame = UpFrame {
            v: 1,
            session: self.session(),
            incarnation: self.set.as_ref().map(|(generation, _)| generation.incarnation),
            seq: self.seq,
            time: time(),
            body,
        };
        self.seq += 1;
        frame::encode(&frame).unwrap()
    }

    pub fn receive(&mut self, bytes: &[u8], fetchable: &BTreeMap<Digest, String>) -> Vec<Vec<u8>> {
        let frame: DownFrame = frame::decode(bytes).unwrap();
        match frame.body {
            Down::Ack(ack) => {
                self.facts_seq = ack.facts_seq;
                self.acked_upto = ack.status_upto;
                Vec::new()
            }
            Down::Statement { envelope, blobs } => {
                let keys: TrustedKeys = [key().verifying_key()].into_iter().collect();
                let Some(binding) = &mut self.binding else {
                    return Vec::new();
                };
                // A reordered or repeated statement is refused here, as on a real device.
                let Ok(statement) = keys.open_statement(&envelope, binding) else {
                    return Vec::new();
                };
                binding.session = Some(statement.session);
                binding.last_seq = statement.seq;
                self.blobs.extend(fetchable.clone());
                for blob in blobs {
                    assert_eq!(Digest::of(&blob.body), blob.digest);
                    self.blobs.insert(blob.digest, blob.body);
                }
                self.obey(&statement)
            }
            Down::Keys { .. } => Vec::new(),
            Down::StatsAsk(ask) => {
                let binding = self.binding.as_ref();
                assert_eq!(binding.map(|binding| &binding.nonce), Some(&ask.nonce));
                self.asks.push(ask);
                Vec::new()
            }
            Down::Stream { envelope } if self.features.iter().any(|word| word == STREAMS) => {
                let keys: TrustedKeys = [key().verifying_key()].into_iter().collect();
                let binding = self.binding.as_ref();
                let order = binding.and_then(|binding| keys.open_stream_order(&envelope, binding).ok());
                self.orders.extend(order);
                Vec::new()
            }
            Down::Stream { .. } | Down::Unknown => panic!("the hub sends what this device cannot"),
        }
    }

    fn obey(&mut self, statement: &Statement) -> Vec<Vec<u8>> {
        let ack = |stage| {
            Up::Ack(SetAck {
                generation: statement.generation,
                digest: statement.set_digest,
                stage,
            })
        };
        let offered = (statement.generation, statement.set_digest);
        let held = self
            .set
            .as_ref()
            .map(|(generation, set)| (*generation, set.digest()));
        if !matches!(statement.body, StatementBody::Same) && held == Some(offered) {
            return vec![self.frame(ack(AckStage::Persisted))];
        }
        let next = match &statement.body {
            StatementBody::Same => {
                self.forms.push("same");
                return self.report();
            }
            StatementBody::Delta {
                base,
                base_digest,
                put,
                forget,
            } => {
                let held = self
                    .set
                    .clone()
                    .filter(|(generation, set)| (generation, set.digest()) == (base, *base_digest));
                let Some((_, held)) = held else {
                    return vec![self.frame(ack(AckStage::BaseMissing))];
                };
                self.forms.push("delta");
                held.apply(put.clone(), forget)
            }
            StatementBody::Snapshot { part, of, items } => {
                self.parts.insert(*part, items.clone());
                if self.parts.len() < *of as usize {
                    return Vec::new();
                }
                self.forms.push("snapshot");
                std::mem::take(&mut self.parts).into_values().flatten().collect()
            }
        };
        assert_eq!(
            next.digest(),
            statement.set_digest,
            "the set is not what was signed"
        );
        let held = self
            .set
            .as_ref()
            .map(|(generation, set)| (*generation, set.digest()));
        let mut answers = vec![self.frame(ack(AckStage::Received))];
        match judge(held, (statement.generation, statement.set_digest)) {
            Verdict::Stale => return vec![self.frame(ack(AckStage::Stale))],
            Verdict::Conflict => return vec![self.frame(ack(AckStage::Quarantined))],
            Verdict::Same | Verdict::Newer => {}
        }
        if next.iter().any(|item| !self.has_all_of(item)) {
            // It would fetch them; a later offer names what is still there.
            return answers;
        }
        self.check_revisions(statement.generation, &next);
        self.quarantine = self.quarantine_after(statement.generation, &next);
        self.set = Some((statement.generation, next));
        if !self.quarantine.is_empty() {
            answers.push(self.frame(ack(AckStage::Quarantined)));
        }
        answers.push(self.frame(ack(AckStage::Persisted)));
        self.act();
        answers.extend(self.report());
        answers
    }

    /// The item's blob, and the objects that it names if it is a manifest (law 6).
    fn has_all_of(&self, item: &SetItem) -> bool {
        let body = self.blobs.get(&item.digest);
        body.is_some_and(|body| objects(body).iter().all(|object| self.blobs.contains_key(object)))
    }

    /// The rule of every agent: another item of the same workload is a newer one (law 4). Only a hub that was set back may break it.
    fn check_revisions(&self, generation: SetGeneration, next: &DesiredSet) {
        let Some((_, held)) = self
            .set
            .as_ref()
            .filter(|(held, _)| held.incarnation == generation.incarnation)
        else {
            return;
        };
        for item in next.iter() {
            if let Some(held) = held.get(&item.uid).filter(|held| *held != item) {
                assert!(
                    item.revision > held.revision,
                    "{item:?} is not newer than {held:?}"
                );
            }
        }
    }

    /// The rule of every agent: what a restored hub lacks, or has in a version that is not newer, stays in force (law 4).
    fn quarantine_after(&self, generation: SetGeneration, next: &DesiredSet) -> BTreeMap<PodUid, SetItem> {
        let before = self.set.as_ref().map(|(generation, _)| generation.incarnation);
        let restored = before.is_some_and(|before| before != generation.incarnation);
        let side = |item: &SetItem| (item.revision, DesiredSet::from(vec![item.clone()]).digest());
        let contradicts = |held: &SetItem| match next.get(&held.uid) {
            None => held.state != ItemState::Stop,
            Some(item) => matches!(
                judge(Some(side(held)), side(item)),
                Verdict::Stale | Verdict::Conflict
            ),
        };
        Vec::from(self.in_force())
            .into_iter()
            .filter(|held| (restored || self.quarantine.contains_key(&held.uid)) && contradicts(held))
            .map(|held| (held.uid.clone(), held))
            .collect()
    }

    fn in_force(&self) -> DesiredSet {
        let set = self.set.as_ref().map(|(_, set)| set.clone());
        let kept = self.quarantine.values().cloned().collect();
        set.unwrap_or_default().apply(kept, &[])
    }

    fn act(&mut self) {
        let set = self.in_force();
        for item in set.iter() {
            match item.state {
                ItemState::Stop => {
                    self.running.remove(&item.uid);
                    self.gone.insert(item.uid.clone(), item.clone());
                }
                ItemState::Run | ItemState::Orphan => {
                    if self.running.insert(item.uid.clone(), item.digest).is_none() {
                        *self.starts.entry(item.uid.clone()).or_default() += 1;
                    }
                    self.gone.remove(&item.uid);
                }
            }
        }
        // What a complete set does not name is gone (law 2), and what it was is no longer reported.
        let named: BTreeSet<_> = set.iter().map(|item| item.uid.clone()).collect();
        let vanished = self.running.keys().filter(|uid| !named.contains(*uid)).cloned();
        self.vanished.extend(vanished);
        self.running.retain(|uid, _| named.contains(uid));
        self.gone.retain(|uid, _| named.contains(uid));
    }

    /// All it has, and what it stopped.
    pub fn report(&mut self) -> Vec<Vec<u8>> {
        if self.session().is_none() {
            return Vec::new();
        }
        self.upto += 1;
        let mut workloads: Vec<WorkloadStatus> = self
            .in_force()
            .iter()
            .filter(|item| item.state != ItemState::Stop)
            .map(|item| self.workload(item))
            .collect();
        workloads.extend(
            self.gone
                .values()
                .map(|item| blank(item, Rung::Targeted, Phase::Gone)),
        );
        let report = StatusReport {
            upto: self.upto,
            complete: true,
            workloads,
        };
        vec![self.frame(Up::Status(report))]
    }

    fn workload(&self, item: &SetItem) -> WorkloadStatus {
        let behaviour = self
            .behaviour
            .get(&item.uid)
            .copied()
            .unwrap_or(Behaviour::Healthy);
        let manifest: Manifest = serde_json::from_str(&self.blobs[&item.digest]).unwrap();
        let (rung, phase) = match behaviour {
            Behaviour::Healthy | Behaviour::Exits(0) => (Rung::Healthy, Phase::Running),
            Behaviour::Waiting | Behaviour::PullFails => (Rung::Persisted, Phase::Pending),
            Behaviour::Running | Behaviour::Exits(_) => (Rung::Applied, Phase::Running),
        };
        let mut status = blank(item, rung, phase);
        status.phase = match behaviour {
            Behaviour::Exits(0) => Phase::Succeeded,
            Behaviour::Exits(_) => Phase::Failed,
            _ => phase,
        };
        status.containers = manifest
            .workload
            .containers
            .iter()
            .map(|spec| container(&spec.name, &spec.image, behaviour))
            .collect();
        if !self.silent_about_quarantine && self.quarantine.contains_key(&item.uid) {
            status.reason = Some(Reason::Quarantined);
        }
        status
    }
}

pub fn time() -> DeviceTime {
    DeviceTime {
        boot_id: BootId(uuid::Uuid::nil()),
        mono_ms: 0,
        wall_ms: 0,
        wall_trusted: false,
    }
}

pub fn blank(item: &SetItem, rung: Rung, phase: Phase) -> WorkloadStatus {
    WorkloadStatus {
        uid: item.uid.clone(),
        revision: item.revision,
        manifest: item.digest,
        rung,
        phase,
        reason: None,
        message: String::new(),
        disrupted: false,
        containers: Vec::new(),
        init_containers: Vec::new(),
        ephemeral_containers: Vec::new(),
        sandbox_ready: false,
        pod_ip: None,
        further_pod_ips: Vec::new(),
        allocated: None,
        resources: None,
        deferred: None,
        resizing: None,
        started: None,
        since: time(),
    }
}

pub fn container(name: &str, image: &str, behaviour: Behaviour) -> ContainerStatus {
    let waiting = |reason, message: &str| ContainerState::Waiting {
        reason,
        message: message.to_owned(),
    };
    let (state, ready) = match behaviour {
        Behaviour::Healthy => (ContainerState::Running { started_at_ms: 1 }, true),
        Behaviour::Running => (ContainerState::Running { started_at_ms: 1 }, false),
        Behaviour::Waiting => (waiting(Reason::ContainerCreating, ""), false),
        Behaviour::PullFails => (waiting(Reason::ImagePullBackOff, "no such image"), false),
        Behaviour::Exits(exit_code) => (
            ContainerState::Terminated {
                exit_code,
                reason: if exit_code == 0 {
                    Reason::Completed
                } else {
                    Reason::Error
                },
                message: String::new(),
                started_at_ms: 1,
                finished_at_ms: i64::from(exit_code),
            },
            false,
        ),
    };
    ContainerStatus {
        state,
        ready,
        ..ContainerStatus::waiting(name, image, Reason::ContainerCreating)
    }
}

/// The blobs that a frame's items name.
pub fn digests(frame: &DownFrame) -> Vec<Digest> {
    let Down::Statement { envelope, .. } = &frame.body else {
        return Vec::new();
    };
    let keys: TrustedKeys = [key().verifying_key()].into_iter().collect();
    let payload = keys.open(edge_protocol::sign::STATEMENT_TYPE, envelope).unwrap();
    let statement: Statement = serde_json::from_slice(&payload).unwrap();
    match statement.body {
        StatementBody::Same => Vec::new(),
        StatementBody::Delta { put, .. } => put.iter().map(|item| item.digest).collect(),
        StatementBody::Snapshot { items, .. } => items.iter().map(|item| item.digest).collect(),
    }
}
