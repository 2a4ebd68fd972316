//! The world around one agent. Invariants are judged here, on the runtime and the disk, never on the machine's own view.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use edge_agent_core::{
    Agent, AgentConfig, Effect, ImagePolicy, Input, Limits, Note, Now, Observed, Restored, SampleTarget,
    Step, StepId, StepOutcome, StreamRefused, StreamTask, Thresholds, Tx, Write,
};
use edge_protocol::frame;
use edge_protocol::v1::{Facts, KeyWrap, LinkClass, Reason, SealedObject, UpFrame, WorkloadStatus, ability};
use edge_protocol::{BootId, DeviceId, Digest, EnrolmentSerial, Lane, PodUid, SealingSecret, TxId};

use crate::hub::{Hub, objects, uid};
use crate::runtime::{Runtime, end};

/// What the disk holds.
#[derive(Default)]
pub struct Disk {
    set: Option<edge_agent_core::TrustedSet>,
    blobs: BTreeMap<Digest, String>,
    pub objects: BTreeMap<Digest, String>,
    pub keys: BTreeMap<Digest, KeyWrap>,
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
                Write::PutObject { digest, key, body } => {
                    assert_eq!(Digest::of(&body), digest);
                    assert_eq!(SealedObject::key_of(&body), key);
                    self.objects.insert(digest, body);
                }
                Write::PutKey(wrap) => drop(self.keys.insert(wrap.key, wrap)),
                Write::DropKey(key) => drop(self.keys.remove(&key)),
                Write::DropObject(digest) => drop(self.objects.remove(&digest)),
                Write::PutWorkload { uid, record } => drop(self.workloads.insert(uid, record)),
                Write::DropWorkload(uid) => drop(self.workloads.remove(&uid)),
                Write::PutEvent(event) => drop(self.events.insert(event.seq, event)),
                Write::DropEventsUpTo(seq) => self.events.retain(|other, _| *other > seq),
                Write::PutMeta { key, value } => drop(self.meta.insert(key, value)),
            }
        }
        let decides = |write: &Write| matches!(write, Write::Set(_) | Write::DropObject(_));
        let decides = tx.writes.iter().any(decides);
        // What the set names is always there: one of two known states.
        for item in self.set.iter().flat_map(|set| set.items.iter()) {
            let body = self.blobs.get(&item.digest);
            let body = body.expect("the set on disk names a blob that is not there");
            for object in objects(body) {
                assert!(
                    !decides || self.objects.contains_key(&object),
                    "a manifest on disk names an object that is not there"
                );
            }
        }
    }

    pub fn restored(&self) -> Restored {
        Restored {
            set: self.set.clone(),
            blobs: self.blobs.clone().into_iter().collect(),
            objects: self
                .objects
                .iter()
                .map(|(digest, body)| (*digest, SealedObject::key_of(body)))
                .collect(),
            keys: self.keys.values().cloned().collect(),
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
    /// Ends of steps that were given to this life of the agent.
    told: u64,
    /// What a look that is under way saw, and how many of them it knew of.
    looking: Option<(Observed, u64)>,
    pub features: Vec<String>,
    /// Counts from the next life of the agent on.
    pub parallel_pulls: Option<NonZeroU32>,
    pub facts: Facts,
    pub removed_images: Vec<String>,
    pub opened: Vec<StreamTask>,
    pub declined: Vec<StreamRefused>,
    /// Samples begun.
    pub samples: Vec<Vec<SampleTarget>>,
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
        let features = [
            ability::OBJECTS,
            ability::SEALED_OBJECTS,
            ability::STREAMS,
            ability::STATS,
        ]
        .map(str::to_owned)
        .to_vec();
        let agent = build(&hub, &features, SERIAL, Restored::default());
        let mut world = Self {
            now,
            hub,
            runtime: Runtime::default(),
            disk: Disk::default(),
            keep_alive: agent.keep_alive_s(),
            agent,
            told: 0,
            looking: None,
            features,
            parallel_pulls: SERIAL,
            facts,
            removed_images: Vec::new(),
            opened: Vec::new(),
            declined: Vec::new(),
            samples: Vec::new(),
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
            links: 0,
        };
        world.give(Input::Facts(Box::new(world.facts.clone())));
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
        (self.told, self.looking) = (0, None);
        self.agent = build(
            &self.hub,
            &self.features,
            self.parallel_pulls,
            self.disk.restored(),
        );
        self.keep_alive = self.agent.keep_alive_s();
        self.give(Input::Facts(Box::new(self.facts.clone())));
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
        self.told += u64::from(matches!(input, Input::StepEnded { .. }));
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
                Effect::RemoveImages(ids) => self.removed_images.extend(ids),
                Effect::OpenStream(task) => self.opened.push(*task),
                Effect::RefuseStream(refused) => self.declined.push(*refused),
                Effect::Sample(targets) => self.samples.push(targets),
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
        self.check_objects(&step);
        let outcome = self.runtime.apply(&step, self.now.wall_ms);
        self.look_due |= step.touches_containers();
        self.give(Input::StepEnded { step: id, outcome });
        true
    }

    /// The disk has no blob that neither its set nor a record names.
    pub fn check_no_surplus(&self) {
        let records = self.disk.workloads.values();
        let records = records.filter_map(|record| {
            let record: serde_json::Value = serde_json::from_str(record).unwrap();
            record["manifest"].as_str().map(|digest| digest.parse().unwrap())
        });
        let items = self
            .disk
            .set
            .iter()
            .flat_map(|set| set.items.iter())
            .map(|item| item.digest);
        let named: BTreeSet<Digest> = items.chain(records).collect();
        let held: BTreeSet<Digest> = self.disk.blobs.keys().copied().collect();
        assert_eq!(held, named);
        let named = self
            .disk
            .blobs
            .values()
            .flat_map(|body| objects(body))
            .collect::<BTreeSet<_>>();
        let held: BTreeSet<Digest> = self.disk.objects.keys().copied().collect();
        assert_eq!(held, named);
    }

    /// Nothing is made from a manifest whose objects are not all on disk.
    fn check_objects(&self, step: &Step) {
        let manifest = match step {
            Step::SyncVolumes { manifest, .. } => manifest,
            Step::RunSandbox(sandbox) => &sandbox.manifest,
            Step::StartContainer(start) => &start.sandbox.manifest,
            _ => return,
        };
        for object in &manifest.objects {
            assert!(self.disk.objects.contains_key(&object.digest), "{step:?}");
        }
    }

    /// Does a step and loses its answer, as a crash right after it does.
    pub fn step_unheard(&mut self) {
        if let Some((_, step)) = self.steps.pop_front() {
            self.runtime.apply(&step, self.now.wall_ms);
        }
    }

    pub fn fail_step(&mut self) {
        self.fail_step_saying("no\u{7} luck");
    }

    pub fn fail_step_saying(&mut self, message: &str) {
        if let Some((id, step)) = self.steps.pop_front() {
            let reason = if matches!(step, Step::PullImage { .. }) {
                Reason::ErrImagePull
            } else {
                Reason::Error
            };
            self.look_due = true;
            let outcome = StepOutcome::Failed {
                reason,
                message: message.to_owned(),
            };
            self.give(Input::StepEnded { step: id, outcome });
        }
    }

    pub fn ambiguous_step(&mut self) {
        if let Some((id, step)) = self.steps.front().cloned() {
            self.step_unheard();
            self.steps.push_front((id, step));
            self.fail_step();
        }
    }

    /// Looks now, but tells later; one look is under way at a time.
    pub fn begin_look(&mut self) {
        if self.looking.is_none() {
            self.runtime.end_what_ends(self.now.wall_ms);
            self.looking = Some((self.runtime.observed(), self.told));
        }
    }

    /// Tells what the look under way saw, or looks and tells at once.
    pub fn look(&mut self) {
        self.begin_look();
        let Some((observed, told)) = self.looking.take() else {
            return;
        };
        self.look_due = told < self.told;
        self.give(Input::Observed { observed, told });
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

/// As the agent's default.
const SERIAL: Option<NonZeroU32> = Some(NonZeroU32::MIN);

fn build(hub: &Hub, features: &[String], parallel_pulls: Option<NonZeroU32>, restored: Restored) -> Agent {
    let config = AgentConfig {
        device: DeviceId::new("press-7").unwrap(),
        enrolment: EnrolmentSerial::new("ab12").unwrap(),
        hub: hub.id,
        keys: hub.keys(),
        agent_version: "0.1.0".to_owned(),
        link: LinkClass::Cellular,
        sealing: Arc::new(sealing_secret()),
        features: features.to_vec(),
        cluster_dns: false,
        limits: Limits::default(),
        thresholds: Thresholds::default(),
        image_policy: ImagePolicy::default(),
        parallel_pulls,
        sample_floor_ms: 10_000,
        proved: true,
    };
    Agent::new(config, restored, 42)
}

/// The device's own.
pub fn sealing_secret() -> SealingSecret {
    SealingSecret::from_bytes([5; 32])
}
