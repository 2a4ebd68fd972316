//! The world around one agent. Invariants are judged here, on the runtime and the disk, never on the machine's own view.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ed25519_dalek::SigningKey;
use edge_agent_core::{
    Agent, AgentConfig, Effect, Input, Limits, Note, Now, Observed, ObservedContainer, ObservedSandbox,
    ObservedState, Restored, StartContainer, Step, StepId, StepOutcome, Tx, Write,
};
use edge_protocol::frame;
use edge_protocol::sign::{Signer, TrustedKeys};
use edge_protocol::v1::{
    Blob, ContainerSpec, Down, DownFrame, Facts, LinkClass, Manifest, PullPolicy, QosClass, Reason,
    ReportAck, Resources, RestartPolicy, Statement, StatementBody, Tombstone, TombstoneReason, Up, UpFrame,
    WorkloadSpec, WorkloadStatus,
};
use edge_protocol::{
    BootId, DeploymentRevision, DesiredSet, DeviceId, Digest, EnrolmentSerial, HubId, Incarnation, ItemState,
    Lane, Nonce, PodUid, SessionEpoch, SetGeneration, SetItem, TxId,
};

pub fn uid(name: &str) -> PodUid {
    PodUid::new(name).unwrap()
}

pub fn container(name: &str, image: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        image: image.to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        command: vec![],
        args: vec![],
        working_dir: None,
        env: vec![],
        ports: vec![],
        resources: Resources::default(),
        restart_digest: Digest::of(format!("{name} {image}")),
    }
}

pub fn manifest(name: &str, images: &[&str]) -> Manifest {
    Manifest {
        v: 1,
        uid: uid(name),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        workload: WorkloadSpec {
            hostname: name.to_owned(),
            restart_policy: RestartPolicy::Always,
            termination_grace_period_s: 30,
            qos: QosClass::BestEffort,
            containers: images
                .iter()
                .enumerate()
                .map(|(n, image)| container(&format!("c{n}"), image))
                .collect(),
        },
        objects: vec![],
        requires: vec![],
        replaces: vec![],
    }
}

pub struct Hub {
    signer: Signer,
    pub id: HubId,
    pub incarnation: u64,
    pub n: u64,
    pub set: DesiredSet,
    pub blobs: BTreeMap<Digest, String>,
    pub session: u64,
    pub nonce: Option<Nonce>,
    pub seq: u64,
    pub link: LinkClass,
    /// Blobs travel with the statement; otherwise the device must fetch them.
    pub inline: bool,
    pub status_upto: u64,
    pub event_seq: u64,
    pub statuses: BTreeMap<PodUid, WorkloadStatus>,
    pub events: Vec<edge_protocol::v1::DeviceEvent>,
    pub heard: Vec<UpFrame>,
}

impl Hub {
    fn new() -> Self {
        Self {
            signer: Signer::new(SigningKey::from_bytes(&[7; 32])),
            id: HubId(uuid::Uuid::from_u128(1)),
            incarnation: 1,
            n: 0,
            set: DesiredSet::default(),
            blobs: BTreeMap::new(),
            session: 0,
            nonce: None,
            seq: 0,
            link: LinkClass::Lan,
            inline: true,
            status_upto: 0,
            event_seq: 0,
            statuses: BTreeMap::new(),
            events: vec![],
            heard: vec![],
        }
    }

    fn blob(&mut self, body: String) -> Digest {
        let digest = Digest::of(&body);
        self.blobs.insert(digest, body);
        digest
    }

    fn put(&mut self, uid: &PodUid, state: ItemState, digest: Digest) {
        let revision = DeploymentRevision(self.set.get(uid).map_or(1, |item| item.revision.0 + 1));
        self.set.put(SetItem {
            uid: uid.clone(),
            state,
            revision,
            digest,
        });
        self.n += 1;
    }

    pub fn run(&mut self, manifest: &Manifest) {
        let digest = self.blob(serde_json::to_string(manifest).unwrap());
        self.put(&manifest.uid.clone(), ItemState::Run, digest);
    }

    pub fn release(&mut self, uid: &PodUid) {
        let digest = self.set.get(uid).unwrap().digest;
        self.put(uid, ItemState::Orphan, digest);
    }

    pub fn stop(&mut self, uid: &PodUid, grace_period_s: Option<u32>) {
        let tombstone = Tombstone {
            v: 1,
            uid: uid.clone(),
            grace_period_s,
            reason: TombstoneReason::Deleted,
        };
        let digest = self.blob(serde_json::to_string(&tombstone).unwrap());
        self.put(uid, ItemState::Stop, digest);
    }

    pub fn forget(&mut self, uid: &PodUid) {
        self.set.forget(uid);
        self.n += 1;
    }

    pub fn generation(&self) -> SetGeneration {
        SetGeneration {
            incarnation: Incarnation(self.incarnation),
            n: self.n,
        }
    }

    /// The next statement of the present session, as this hub would sign it.
    pub fn statement(&mut self, body: StatementBody) -> Statement {
        self.seq += 1;
        Statement {
            v: 1,
            hub: self.id,
            incarnation: Incarnation(self.incarnation),
            device: DeviceId::new("press-7").unwrap(),
            enrolment: EnrolmentSerial::new("ab12").unwrap(),
            nonce: self.nonce.clone().unwrap_or_else(|| Nonce::from_bytes([0; 16])),
            session: SessionEpoch(self.session),
            seq: self.seq,
            request: None,
            issued_ms: 1_700_000_000_000,
            link: self.link,
            generation: self.generation(),
            set_digest: self.set.digest(),
            status_upto: self.status_upto,
            event_seq: self.event_seq,
            body,
        }
    }

    pub fn seal(&self, statement: &Statement, blobs: Vec<Blob>) -> Vec<u8> {
        let envelope = self.signer.seal_statement(statement);
        frame::encode(&DownFrame {
            v: 1,
            body: Down::Statement { envelope, blobs },
        })
        .unwrap()
    }

    /// The whole set, in parts.
    pub fn snapshot(&mut self, parts: usize) -> Vec<Vec<u8>> {
        let items: Vec<SetItem> = self.set.iter().cloned().collect();
        let size = items.len().div_ceil(parts).max(1);
        let chunks: Vec<Vec<SetItem>> = if items.is_empty() {
            vec![vec![]]
        } else {
            items.chunks(size).map(<[_]>::to_vec).collect()
        };
        let of = u32::try_from(chunks.len()).unwrap();
        let mut frames = vec![];
        for (part, items) in (0..).zip(chunks) {
            let blobs = if self.inline {
                self.blobs_of(&items)
            } else {
                vec![]
            };
            let statement = self.statement(StatementBody::Snapshot { part, of, items });
            frames.push(self.seal(&statement, blobs));
        }
        frames
    }

    pub fn blobs_of(&self, items: &[SetItem]) -> Vec<Blob> {
        let blob = |item: &SetItem| Blob {
            digest: item.digest,
            body: self.blobs[&item.digest].clone(),
        };
        items.iter().map(blob).collect()
    }

    fn hear(&mut self, frame: &UpFrame) -> Vec<(Lane, Vec<u8>)> {
        self.heard.push(frame.clone());
        match &frame.body {
            Up::Hello(hello) => {
                self.session += 1;
                self.seq = 0;
                self.nonce = Some(hello.nonce.clone());
                return self
                    .snapshot(2)
                    .into_iter()
                    .map(|bytes| (Lane::Desired, bytes))
                    .collect();
            }
            _ if frame.session != Some(SessionEpoch(self.session)) => return vec![],
            Up::Status(report) => {
                if report.complete {
                    self.statuses.clear();
                }
                for status in &report.workloads {
                    self.statuses.insert(status.uid.clone(), status.clone());
                }
                self.status_upto = self.status_upto.max(report.upto);
            }
            Up::Events(report) => {
                for event in &report.events {
                    if event.seq > self.event_seq {
                        self.event_seq = event.seq;
                        self.events.push(event.clone());
                    }
                }
            }
            Up::Heartbeat => {}
            _ => return vec![],
        }
        let ack = ReportAck {
            session: SessionEpoch(self.session),
            status_upto: self.status_upto,
            event_seq: self.event_seq,
        };
        vec![(
            Lane::Command,
            frame::encode(&DownFrame {
                v: 1,
                body: Down::Ack(ack),
            })
            .unwrap(),
        )]
    }
}

/// A runtime that also keeps the accounts by which the machine is judged.
#[derive(Default)]
pub struct Runtime {
    pub sandboxes: Vec<ObservedSandbox>,
    pub containers: Vec<ObservedContainer>,
    pub images: BTreeSet<String>,
    /// Images that no registry has.
    pub bad_images: BTreeSet<String>,
    pub logs: BTreeSet<PodUid>,
    next_id: u32,
    pub started: Vec<(PodUid, String)>,
    pub stopped: Vec<(PodUid, String)>,
}

impl Runtime {
    fn id(&mut self, kind: &str) -> String {
        self.next_id += 1;
        format!("{kind}{}", self.next_id)
    }

    pub fn observed(&self) -> Observed {
        Observed {
            sandboxes: self.sandboxes.clone(),
            containers: self.containers.clone(),
        }
    }

    pub fn running(&self, uid: &PodUid) -> usize {
        let running =
            |c: &&ObservedContainer| matches!(c.state, ObservedState::Running { .. }) && c.uid == *uid;
        self.containers.iter().filter(running).count()
    }

    pub fn exit(&mut self, uid: &PodUid, name: &str, exit_code: i32, wall_ms: i64) {
        for container in self
            .containers
            .iter_mut()
            .filter(|c| c.uid == *uid && c.name == name)
        {
            end(container, exit_code, wall_ms);
        }
    }

    pub fn kill_sandbox(&mut self, uid: &PodUid) {
        self.sandboxes
            .iter_mut()
            .filter(|s| s.uid == *uid)
            .for_each(|s| s.ready = false);
    }

    fn apply(&mut self, step: &Step, wall_ms: i64) -> StepOutcome {
        match step {
            Step::EnsureImage { image, .. } if self.bad_images.contains(image) => StepOutcome::Failed {
                reason: Reason::ErrImagePull,
                message: "not found".to_owned(),
            },
            Step::EnsureImage { image, .. } => {
                self.images.insert(image.clone());
                StepOutcome::Image {
                    image_id: format!("id of {image}"),
                }
            }
            Step::RunSandbox(spec) => {
                self.logs.insert(spec.uid.clone());
                let same = self
                    .sandboxes
                    .iter()
                    .find(|s| s.uid == spec.uid && s.attempt == spec.attempt && s.ready);
                let sandbox_id = same.map(|s| s.id.clone()).unwrap_or_else(|| {
                    let id = self.id("s");
                    self.sandboxes.push(ObservedSandbox {
                        id: id.clone(),
                        uid: spec.uid.clone(),
                        attempt: spec.attempt,
                        ready: true,
                        ip: Some("10.1.0.9".to_owned()),
                        created_at_ms: wall_ms,
                    });
                    id
                });
                StepOutcome::Sandbox {
                    sandbox_id,
                    ip: Some("10.1.0.9".to_owned()),
                }
            }
            Step::StartContainer(start) => self.start(start, wall_ms),
            Step::StopContainer { container_id, .. } => {
                for container in self.containers.iter_mut().filter(|c| c.id == *container_id) {
                    if container.state != ObservedState::Created {
                        self.stopped.push((container.uid.clone(), container.name.clone()));
                        end(container, 143, wall_ms);
                    }
                }
                StepOutcome::Done
            }
            Step::RemoveContainer { container_id } => {
                self.containers.retain(|c| c.id != *container_id);
                StepOutcome::Done
            }
            Step::StopSandbox { sandbox_id } => {
                for container in self.containers.iter_mut().filter(|c| c.sandbox_id == *sandbox_id) {
                    end(container, 137, wall_ms);
                }
                self.sandboxes
                    .iter_mut()
                    .filter(|s| s.id == *sandbox_id)
                    .for_each(|s| s.ready = false);
                StepOutcome::Done
            }
            Step::RemoveSandbox { sandbox_id, .. } => {
                self.containers.retain(|c| c.sandbox_id != *sandbox_id);
                self.sandboxes.retain(|s| s.id != *sandbox_id);
                StepOutcome::Done
            }
            Step::RemoveWorkload { uid } => {
                assert!(
                    !self.sandboxes.iter().any(|s| s.uid == *uid),
                    "logs of {uid} removed under its sandbox"
                );
                self.logs.remove(uid);
                StepOutcome::Done
            }
        }
    }

    fn start(&mut self, start: &StartContainer, wall_ms: i64) -> StepOutcome {
        let (uid, name) = (&start.sandbox.uid, &start.container.name);
        assert!(
            self.images.contains(&start.container.image),
            "{name} started without its image"
        );
        let mine = |c: &&mut ObservedContainer| c.uid == *uid && c.name == *name;
        if let Some(same) = self
            .containers
            .iter_mut()
            .filter(mine)
            .find(|c| c.attempt == start.attempt)
        {
            if same.state == ObservedState::Created {
                same.state = ObservedState::Running {
                    started_at_ms: wall_ms,
                };
                self.started.push((uid.clone(), name.clone()));
            }
            return StepOutcome::Started {
                container_id: same.id.clone(),
            };
        }
        if !self.sandboxes.iter().any(|s| s.id == start.sandbox_id && s.ready) {
            return StepOutcome::Failed {
                reason: Reason::CreateContainerError,
                message: "no sandbox".to_owned(),
            };
        }
        // Law 5, judged where it matters.
        let live = self
            .containers
            .iter()
            .any(|c| c.uid == *uid && c.name == *name && !matches!(c.state, ObservedState::Exited { .. }));
        assert!(!live, "two instances of {uid} {name}");
        let id = self.id("c");
        self.containers.push(ObservedContainer {
            id: id.clone(),
            sandbox_id: start.sandbox_id.clone(),
            uid: uid.clone(),
            name: name.clone(),
            attempt: start.attempt,
            image: start.container.image.clone(),
            image_id: format!("id of {}", start.container.image),
            restart_digest: start.container.restart_digest,
            state: ObservedState::Running {
                started_at_ms: wall_ms,
            },
        });
        self.started.push((uid.clone(), name.clone()));
        StepOutcome::Started { container_id: id }
    }
}

fn end(container: &mut ObservedContainer, exit_code: i32, wall_ms: i64) {
    if !matches!(container.state, ObservedState::Exited { .. }) {
        let reason = if exit_code == 0 {
            Reason::Completed
        } else {
            Reason::Error
        };
        let state = ObservedState::Exited {
            exit_code,
            reason,
            message: String::new(),
            started_at_ms: wall_ms - 1,
            finished_at_ms: wall_ms,
        };
        container.state = state;
    }
}

/// What the disk holds.
#[derive(Default)]
pub struct Disk {
    set: Option<edge_agent_core::TrustedSet>,
    blobs: BTreeMap<Digest, String>,
    pub workloads: BTreeMap<PodUid, String>,
    pub events: BTreeMap<u64, edge_protocol::v1::DeviceEvent>,
    meta: BTreeMap<String, String>,
}

impl Disk {
    fn apply(&mut self, tx: &Tx) {
        for write in &tx.writes {
            match write.clone() {
                Write::Set(set) => self.set = Some(set),
                Write::PutBlob { digest, body } => drop(self.blobs.insert(digest, body)),
                Write::DropBlob(digest) => drop(self.blobs.remove(&digest)),
                Write::PutWorkload { uid, record } => drop(self.workloads.insert(uid, record)),
                Write::DropWorkload(uid) => drop(self.workloads.remove(&uid)),
                Write::PutEvent(event) => drop(self.events.insert(event.seq, event)),
                Write::DropEventsUpTo(seq) => self.events.retain(|other, _| *other > seq),
                Write::PutMeta { key, value } => drop(self.meta.insert(key, value)),
            }
        }
        // What the set names is always there: one of two known states.
        for item in self.set.iter().flat_map(|set| set.items.iter()) {
            assert!(
                self.blobs.contains_key(&item.digest),
                "the set on disk names a blob that is not there"
            );
        }
    }

    pub fn restored(&self) -> Restored {
        Restored {
            set: self.set.clone(),
            blobs: self.blobs.clone().into_iter().collect(),
            workloads: self.workloads.clone().into_iter().collect(),
            events: self.events.values().cloned().collect(),
            meta: self.meta.clone().into_iter().collect(),
        }
    }
}

pub struct World {
    pub now: Now,
    pub hub: Hub,
    pub runtime: Runtime,
    pub disk: Disk,
    agent: Agent,
    pub features: Vec<String>,
    pub facts: Facts,
    /// What the pump has taken and not yet done.
    pub steps: VecDeque<(StepId, Step)>,
    pub commits: VecDeque<Tx>,
    pub fetches: VecDeque<Digest>,
    pub to_hub: VecDeque<Vec<u8>>,
    pub to_device: VecDeque<(Lane, Vec<u8>)>,
    pub wake_at: Option<u64>,
    pub linked: bool,
    pub look_due: bool,
    pub notes: Vec<Note>,
    pub reconnects: Vec<String>,
    pub keep_alive: u16,
    links: u8,
}

impl World {
    pub fn new() -> Self {
        let now = Now {
            mono_ms: 50_000,
            wall_ms: 1_800_000_000_000,
            boot_id: BootId(uuid::Uuid::from_u128(9)),
        };
        let facts = Facts {
            runtime_name: "containerd".to_owned(),
            cpu_milli: 4_000,
            memory_bytes: 1 << 30,
            pods: 50,
            ..Facts::default()
        };
        let hub = Hub::new();
        let agent = build(&hub, &[], Restored::default());
        let mut world = Self {
            now,
            hub,
            runtime: Runtime::default(),
            disk: Disk::default(),
            agent,
            features: vec![],
            facts,
            steps: VecDeque::new(),
            commits: VecDeque::new(),
            fetches: VecDeque::new(),
            to_hub: VecDeque::new(),
            to_device: VecDeque::new(),
            wake_at: None,
            linked: false,
            look_due: true,
            notes: vec![],
            reconnects: vec![],
            keep_alive: 0,
            links: 0,
        };
        world.give(Input::Facts(world.facts.clone()));
        world
    }

    /// The process dies: what was not done is lost, what is committed stays, workloads run on.
    pub fn crash(&mut self) {
        self.steps.clear();
        self.commits.clear();
        self.fetches.clear();
        self.to_hub.clear();
        self.to_device.clear();
        self.wake_at = None;
        self.linked = false;
        self.look_due = true;
        self.agent = build(&self.hub, &self.features, self.disk.restored());
        self.give(Input::Facts(self.facts.clone()));
    }

    pub fn reboot(&mut self, boot: u128) {
        self.now.boot_id = BootId(uuid::Uuid::from_u128(boot));
        self.now.mono_ms = 10;
        self.runtime.sandboxes.iter_mut().for_each(|s| s.ready = false);
        let wall_ms = self.now.wall_ms;
        self.runtime
            .containers
            .iter_mut()
            .for_each(|c| end(c, 255, wall_ms));
        self.crash();
    }

    pub fn give(&mut self, input: Input) {
        for effect in self.agent.step(self.now, input) {
            match effect {
                Effect::Commit(tx) => self.commits.push_back(tx),
                Effect::Send(_, bytes) if self.linked => self.to_hub.push_back(bytes),
                Effect::Send(..) => {}
                Effect::Fetch(digest) => self.fetches.push_back(digest),
                Effect::Run(id, step) => self.steps.push_back((id, step)),
                Effect::WakeAt(at) => self.wake_at = Some(at),
                Effect::KeepAlive(seconds) => self.keep_alive = seconds,
                Effect::Reconnect { why } => {
                    self.reconnects.push(why);
                    self.linked = false;
                    self.to_hub.clear();
                    self.to_device.clear();
                }
                Effect::Report(note) => self.notes.push(note),
            }
        }
    }

    pub fn link_up(&mut self) {
        self.linked = true;
        self.links = self.links.wrapping_add(1);
        self.give(Input::LinkUp {
            nonce: [self.links; 16],
        });
    }

    pub fn link_down(&mut self) {
        self.linked = false;
        self.to_hub.clear();
        self.to_device.clear();
        self.give(Input::LinkDown);
    }

    /// The hub offers its present set in the running session.
    pub fn push(&mut self) {
        if self.linked && self.hub.nonce.is_some() {
            let frames = self.hub.snapshot(2);
            self.to_device
                .extend(frames.into_iter().map(|bytes| (Lane::Desired, bytes)));
        }
    }

    pub fn commit(&mut self) -> bool {
        let Some(tx) = self.commits.pop_front() else {
            return false;
        };
        self.disk.apply(&tx);
        self.give(Input::Committed(TxId(tx.id.0)));
        true
    }

    pub fn step(&mut self) -> bool {
        let Some((id, step)) = self.steps.pop_front() else {
            return false;
        };
        let outcome = self.runtime.apply(&step, self.now.wall_ms);
        self.look_due = true;
        self.give(Input::StepEnded { step: id, outcome });
        true
    }

    /// Does a step and loses its answer, as a crash right after it does.
    pub fn step_unheard(&mut self) {
        if let Some((_, step)) = self.steps.pop_front() {
            self.runtime.apply(&step, self.now.wall_ms);
        }
    }

    pub fn fail_step(&mut self) {
        if let Some((id, step)) = self.steps.pop_front() {
            let reason = if matches!(step, Step::EnsureImage { .. }) {
                Reason::ErrImagePull
            } else {
                Reason::Error
            };
            self.look_due = true;
            let outcome = StepOutcome::Failed {
                reason,
                message: "no\u{7} luck".to_owned(),
            };
            self.give(Input::StepEnded { step: id, outcome });
        }
    }

    pub fn look(&mut self) {
        self.look_due = false;
        let observed = self.runtime.observed();
        self.give(Input::Observed(observed));
    }

    pub fn fetch(&mut self) -> bool {
        let Some(digest) = self.fetches.pop_front() else {
            return false;
        };
        let body = self.hub.blobs.get(&digest).cloned();
        self.give(Input::Blob { digest, body });
        true
    }

    pub fn talk(&mut self) -> bool {
        if let Some(bytes) = self.to_hub.pop_front() {
            let frame: UpFrame = frame::decode(&bytes).unwrap();
            let answers = self.hub.hear(&frame);
            self.to_device.extend(answers);
            true
        } else if let Some((lane, bytes)) = self.to_device.pop_front() {
            self.give(Input::Frame(lane, bytes));
            true
        } else {
            false
        }
    }

    /// Everything that can happen without time passing.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.commit() || self.talk() || self.fetch() || self.step() {
                continue;
            }
            if !self.look_due {
                return;
            }
            self.look();
        }
        panic!("it never comes to rest: {:?}", self.steps);
    }

    pub fn pass(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        while self.now.mono_ms < end {
            let next = self
                .wake_at
                .filter(|at| *at <= end)
                .unwrap_or(end)
                .max(self.now.mono_ms);
            self.now.wall_ms += i64::try_from(next - self.now.mono_ms).unwrap();
            self.now.mono_ms = next;
            if self.wake_at.is_some_and(|at| at <= next) {
                self.wake_at = None;
                self.give(Input::Wake);
            }
            self.settle();
        }
    }

    pub fn status(&self, name: &str) -> &WorkloadStatus {
        self.hub
            .statuses
            .get(&uid(name))
            .unwrap_or_else(|| panic!("no status of {name}"))
    }
}

fn build(hub: &Hub, features: &[String], restored: Restored) -> Agent {
    let config = AgentConfig {
        device: DeviceId::new("press-7").unwrap(),
        enrolment: EnrolmentSerial::new("ab12").unwrap(),
        hub: hub.id,
        keys: TrustedKeys::from_iter([hub.signer.verifying_key()]),
        agent_version: "0.1.0".to_owned(),
        features: features.to_vec(),
        limits: Limits::default(),
    };
    Agent::new(config, restored, 42)
}
