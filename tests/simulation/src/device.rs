//! One device: its disk, its clocks, its runtime, and the agent's process with a pump that does what `edge-agent`'s does.

mod looks;

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use edge_agent_core::{Agent, AgentConfig, Effect, ImagePolicy, Input, Limits, Note, StepId, Thresholds, Tx};
use edge_protocol::sign::TrustedKeys;
use edge_protocol::v1::{AckStage, Facts, LinkClass, Rung, Up, UpFrame, ability};
use edge_protocol::{BootId, DeviceId, EnrolmentSerial, Lane, Now, SealingSecret, frame};
use uuid::Uuid;

use self::looks::Looks;
use crate::chance::Rng;
use crate::coverage::Path;
use crate::disk::AgentDisk;
use crate::event::{AgentEvent, At, DeviceEvent, Event, Frame, StatusWord, Word};
use crate::hub::{hub_id, signing_key};
use crate::runtime::Runtime;
use crate::trace::say;
use crate::wire::Link;
use crate::world::{EPOCH_MS, World};

pub(crate) const ZONES: [&str; 2] = ["a", "b"];

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) enrolment: EnrolmentSerial,
    /// The tag that pods ask for, as the hub was last told.
    pub(crate) zone: &'static str,
    pub(crate) disk: AgentDisk,
    pub(crate) runtime: Runtime,
    pub(crate) link: Link,
    pub(crate) agent: Option<Agent>,
    pub(crate) life: u64,
    /// Counts boots.
    pub(crate) boot: u64,
    /// Counts its addresses.
    address: u64,
    booted_at: u64,
    pub(crate) wall_offset: i64,
    pub(crate) sealing: Arc<SealingSecret>,
    seed: u64,
    commits: VecDeque<Tx>,
    disk_free_at: u64,
    wake: u64,
    looks: Looks,
    /// When the newest look that the agent was given began.
    pub(crate) looked_at: Option<u64>,
    /// Containers that the agent was right to end when it asked for that.
    pub(crate) condemned: BTreeSet<String>,
    /// Stops that end with their container.
    pub(crate) stops: Vec<(String, StepId, u64)>,
    /// Since when the hub has heard of it without a gap, and when last.
    pub(crate) heard_since: u64,
    pub(crate) heard_at: u64,
}

impl Device {
    pub(crate) fn new(at: At, rng: &mut Rng) -> Self {
        Self {
            id: DeviceId::new(format!("dev-{at}")).expect("a label"),
            enrolment: EnrolmentSerial::new(format!("{:04x}", 0xa000 + at)).expect("hex digits"),
            zone: ZONES[rng.below(ZONES.len())],
            disk: AgentDisk::default(),
            runtime: Runtime::default(),
            link: Link::default(),
            agent: None,
            life: 0,
            boot: 1,
            address: 1,
            booted_at: 0,
            wall_offset: 0,
            sealing: Arc::new(SealingSecret::from_bytes([u8::try_from(at + 1).unwrap_or(1); 32])),
            seed: rng.draw(),
            commits: VecDeque::new(),
            disk_free_at: 0,
            wake: 0,
            looks: Looks::default(),
            looked_at: None,
            condemned: BTreeSet::new(),
            stops: Vec::new(),
            heard_since: 0,
            heard_at: 0,
        }
    }

    pub(crate) fn wall(&self, now: u64) -> i64 {
        EPOCH_MS + self.wall_offset + i64::try_from(now).unwrap_or(0)
    }

    fn now(&self, now: u64) -> Now {
        Now {
            mono_ms: now - self.booted_at + 1_000,
            wall_ms: self.wall(now),
            boot_id: BootId(Uuid::from_u64_pair(self.seed, self.boot)),
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            hostname: "device".to_owned(),
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            runtime_name: "containerd".to_owned(),
            cpu_milli: 64_000,
            memory_bytes: 64 << 30,
            ephemeral_storage_bytes: 64 << 30,
            pods: 500,
            boot_id: self.boot.to_string(),
            addresses: vec![format!("10.0.0.{}", self.address)],
            ..Facts::default()
        }
    }

    fn config(&self) -> AgentConfig {
        AgentConfig {
            device: self.id.clone(),
            enrolment: self.enrolment.clone(),
            hub: hub_id(),
            keys: TrustedKeys::from_iter([signing_key().verifying_key()]),
            agent_version: "1.0.0".to_owned(),
            link: LinkClass::default(),
            sealing: Arc::clone(&self.sealing),
            features: [ability::OBJECTS, ability::SEALED_OBJECTS, ability::PROJECTED]
                .map(str::to_owned)
                .into(),
            thresholds: Thresholds::default(),
            image_policy: ImagePolicy::default(),
            // Serial, as the agent's default: who waits must not wait for ever.
            parallel_pulls: Some(NonZeroU32::MIN),
            sample_floor_ms: 10_000,
            proved: true,
            cluster_dns: true,
            limits: Limits::default(),
        }
    }
}

impl World {
    /// The network gives it another address, in the midst of whatever it does.
    pub(crate) fn move_device(&mut self, at: At) {
        self.coverage.met(Path::AddressChanged);
        self.devices[at].address += 1;
        self.measure(at);
    }

    fn measure(&mut self, at: At) {
        let facts = self.devices[at].facts();
        say!(self, self.devices[at].id, "has address {:?}", facts.addresses);
        self.step_agent(at, Input::Facts(Box::new(facts)));
    }

    pub(crate) fn begin_agent(&mut self, at: At) {
        let seed = self.rng.draw();
        let device = &mut self.devices[at];
        if device.agent.is_some() {
            return;
        }
        device.life += 1;
        device.agent = Some(Agent::new(device.config(), device.disk.restored(), seed));
        device.looks = Looks::first();
        device.looked_at = None;
        device.link.hang_up();
        say!(self, self.devices[at].id, "agent begins");
        self.measure(at);
        self.redial(at);
    }

    /// The process dies. Of transactions under way, some may still have reached the disk.
    pub(crate) fn crash_agent(&mut self, at: At) {
        if self.devices[at].agent.take().is_none() {
            return;
        }
        self.coverage.met(Path::AgentCrash);
        say!(self, self.devices[at].id, "agent DIES");
        self.devices[at].life += 1;
        let pending = self.devices[at].commits.len();
        let survive = if self.rng.flip() {
            self.rng.below(pending + 1)
        } else {
            0
        };
        if survive < pending {
            self.coverage.met(Path::AgentCommitLost);
        }
        for _ in 0..survive {
            self.store_agent(at);
        }
        self.devices[at].commits.clear();
        self.devices[at].stops.clear();
        self.lose_link(at, false);
        let life = self.devices[at].life;
        let delay = self.rng.within(700, 20_000);
        self.push(delay, Event::Device(at, DeviceEvent::AgentBegins(life)));
    }

    /// The machine loses power and boots again.
    pub(crate) fn reboot(&mut self, at: At) {
        self.coverage.met(Path::Reboot);
        say!(self, self.devices[at].id, "power lost");
        self.crash_agent(at);
        let now = self.now;
        let device = &mut self.devices[at];
        device.boot += 1;
        device.booted_at = now;
        let wall = device.wall(now);
        device.runtime.lose_power(now, wall);
    }

    pub(crate) fn step_agent(&mut self, at: At, input: Input) {
        let now = self.now;
        let device = &mut self.devices[at];
        let moment = device.now(now);
        let Some(agent) = device.agent.as_mut() else {
            return;
        };
        let effects = agent.step(moment, input);
        let crash = if effects.is_empty() {
            None
        } else {
            self.crash_point(Path::AgentCrashInStep, effects.len())
        };
        for (index, effect) in effects.into_iter().enumerate() {
            if crash == Some(index) {
                return self.crash_agent(at);
            }
            self.agent_effect(at, effect);
            if self.failure.is_some() {
                return;
            }
        }
        if crash.is_some() {
            return self.crash_agent(at);
        }
        self.look(at);
    }

    fn agent_effect(&mut self, at: At, effect: Effect) {
        let life = self.devices[at].life;
        match effect {
            Effect::Commit(tx) => {
                say!(
                    self,
                    self.devices[at].id,
                    "commit {} ({} writes)",
                    tx.id,
                    tx.writes.len()
                );
                let due = (self.now + self.rng.within(1, 25)).max(self.devices[at].disk_free_at);
                let device = &mut self.devices[at];
                device.disk_free_at = due;
                device.commits.push_back(tx);
                self.queue.push(due, Event::Agent(at, life, AgentEvent::Stored));
            }
            Effect::Send(lane, bytes) => self.send_up(at, lane, bytes),
            Effect::Fetch(digest) => {
                let body = self.fetch(at, &digest);
                let delay = self.rng.within(20, 800);
                self.push(delay, Event::Agent(at, life, AgentEvent::Blob(digest, body)));
            }
            Effect::Run(id, step) => self.run_step(at, id, step),
            Effect::WakeAt(mono_ms) => {
                let device = &mut self.devices[at];
                device.wake += 1;
                let due = (device.booted_at + mono_ms).saturating_sub(1_000).max(self.now);
                let token = device.wake;
                self.queue
                    .push(due, Event::Agent(at, life, AgentEvent::Wake(token)));
            }
            // Nobody measures in this world, and nobody looks on.
            Effect::KeepAlive(_)
            | Effect::RemoveImages(_)
            | Effect::OpenStream(_)
            | Effect::RefuseStream(_)
            | Effect::Sample(_) => {}
            Effect::Reconnect { why } => {
                say!(self, self.devices[at].id, "reconnects: {why}");
                self.ledger.reconnects += 1;
                self.coverage.met(Path::Reconnected);
                self.lose_link(at, false);
                self.redial(at);
            }
            Effect::Report(note) => {
                if matches!(note, Note::Adopted { .. }) {
                    self.coverage.met(Path::Adopted);
                }
                say!(self, self.devices[at].id, "{note:?}");
            }
        }
    }

    pub(crate) fn agent_event(&mut self, at: At, event: AgentEvent) {
        match event {
            AgentEvent::Stored => {
                if let Some(id) = self.store_agent(at) {
                    self.step_agent(at, Input::Committed(id));
                }
            }
            AgentEvent::Wake(token) => {
                if self.devices[at].wake == token {
                    self.step_agent(at, Input::Wake);
                }
            }
            AgentEvent::StepEnded(step, outcome) => {
                self.devices[at].looks.step_ended();
                say!(self, self.devices[at].id, "step {} ended: {outcome:?}", step.0);
                self.step_agent(at, Input::StepEnded { step, outcome });
            }
            AgentEvent::LookEnds {
                begun,
                at: when,
                seen,
            } => self.end_look(at, (begun, when), seen),
            AgentEvent::LookDue(timer) => self.look_due(at, timer),
            AgentEvent::Dial => self.dial(at),
            AgentEvent::LinkUp(connection) => self.link_up(at, connection),
            AgentEvent::LinkDown => {
                self.step_agent(at, Input::LinkDown);
                self.redial(at);
            }
            AgentEvent::Blob(digest, body) => self.step_agent(at, Input::Blob { digest, body }),
        }
    }

    pub(crate) fn device_event(&mut self, at: At, event: DeviceEvent) {
        match event {
            DeviceEvent::AgentBegins(life) => {
                if self.devices[at].life == life {
                    self.begin_agent(at);
                }
            }
            DeviceEvent::Acts { boot, life, id, step } => {
                if self.devices[at].boot == boot {
                    self.act(at, life, id, &step);
                }
            }
            DeviceEvent::Exits {
                boot,
                container,
                code,
            } => {
                if self.devices[at].boot == boot {
                    self.exit(at, &container, code);
                }
            }
            DeviceEvent::RuntimeBack => {
                say!(self, self.devices[at].id, "runtime answers again");
                self.devices[at].runtime.down = false;
                self.hint(at);
            }
            DeviceEvent::NetworkBack => {
                say!(self, self.devices[at].id, "network is back");
                self.devices[at].link.network = true;
            }
            DeviceEvent::Noticed(connection) => self.notice(at, connection),
        }
    }

    /// Applies the oldest transaction under way.
    fn store_agent(&mut self, at: At) -> Option<edge_protocol::TxId> {
        let tx = self.devices[at].commits.pop_front()?;
        for write in tx.writes {
            self.judge_agent_write(at, &write);
            self.devices[at].disk.apply(write);
        }
        Some(tx.id)
    }

    fn send_up(&mut self, at: At, lane: Lane, bytes: Vec<u8>) {
        let said: UpFrame = match frame::decode(&bytes) {
            Ok(said) => said,
            Err(error) => return self.fail(format!("a frame that no hub reads: {error}")),
        };
        say!(self, self.devices[at].id, "sends {}", up(&said));
        let status = match &said.body {
            Up::Ack(ack) => {
                match ack.stage {
                    AckStage::Persisted => self.judge_persisted(at, ack),
                    AckStage::BaseMissing => self.coverage.met(Path::BaseMissing),
                    AckStage::Stale => self.coverage.met(Path::Stale),
                    AckStage::Quarantined => self.coverage.met(Path::Quarantined),
                    _ => {}
                }
                None
            }
            Up::Status(report) => {
                for status in report.workloads.iter().filter(|s| s.rung == Rung::Healthy) {
                    self.judge_healthy(at, status);
                }
                Some(StatusWord {
                    complete: report.complete,
                    rungs: report.workloads.iter().map(StatusWord::rung).collect(),
                })
            }
            _ => None,
        };
        let word = Word {
            session: said.session,
            seq: said.seq,
            status,
        };
        let frame = Frame {
            lane,
            bytes: bytes.into(),
            word: Some(word.into()),
        };
        self.transmit(at, true, &frame);
    }
}

fn up(said: &UpFrame) -> String {
    match &said.body {
        Up::Hello(hello) => format!(
            "hello, holds {:?}",
            hello.held.map(|held| held.generation.to_string())
        ),
        Up::Ack(ack) => format!("ack {:?} {}", ack.stage, ack.generation),
        Up::Status(report) => {
            let words: Vec<String> = report
                .workloads
                .iter()
                .map(|s| format!("{} {:?}/{:?}", s.uid, s.phase, s.rung))
                .collect();
            format!(
                "status upto {}{}: {}",
                report.upto,
                if report.complete { " (all)" } else { "" },
                words.join(", ")
            )
        }
        Up::Events(report) => format!("{} events", report.events.len()),
        other => format!("{other:?}"),
    }
}
