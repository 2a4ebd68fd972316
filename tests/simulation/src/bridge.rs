//! The bridge's process with a shell around it: its lives, its machine's effects, and calls that fail. `pods` and `hub` are what it reads.

mod hub;
mod pods;

use edge_protocol::{BootId, Now};
use edge_provider_core::{Bridge, BridgeConfig, Effect, Input, Memory, Note, OpId, Outcome};
use iot_hub_core::{Call, CallError};
use uuid::Uuid;

use crate::coverage::Path;
use crate::event::{BridgeEvent, Caller, Event};
use crate::pods::{CLUSTER, NODE};
use crate::trace::say;
use crate::world::{EPOCH_MS, World};

/// What is followed after it was listed. A broken one is listed again under another number.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) number: u64,
    pub(crate) live: bool,
    pub(crate) since: u64,
    tail: u64,
}

#[derive(Debug)]
pub(crate) struct BridgeHost {
    pub(crate) bridge: Option<Bridge>,
    pub(crate) life: u64,
    pub(crate) watch: Stream,
    pub(crate) hub_stream: Stream,
    seed: u64,
    /// Whether its configuration names the cluster.
    pinned: bool,
    /// How many inferred removals pass the brake.
    removals: usize,
    wake: u64,
    /// What the last life left in the leader lease.
    memory: Memory,
    /// The last list that arrived was a lie: the next one that is read is true. One that is overtaken on its way counts for nothing.
    lied: bool,
    /// The list on its way is a lie.
    lies: bool,
    /// Patches of one shell arrive in order.
    patched: u64,
}

impl BridgeHost {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            bridge: None,
            life: 0,
            watch: Stream::default(),
            hub_stream: Stream::default(),
            seed,
            pinned: seed & 16 == 0,
            removals: if seed.is_multiple_of(3) { 1 } else { 5 },
            wake: 0,
            memory: Memory::default(),
            lied: false,
            lies: false,
            patched: 0,
        }
    }
}

impl World {
    pub(crate) fn begin_bridge(&mut self) {
        if self.bridge.bridge.is_some() {
            return;
        }
        let seed = self.rng.draw();
        self.bridge.life += 1;
        let mut config = BridgeConfig::new(NODE);
        config.cluster_uid = self.bridge.pinned.then(|| CLUSTER.to_owned());
        config.brake.workloads = self.bridge.removals;
        self.bridge.bridge = Some(Bridge::new(config, self.bridge.memory.clone(), seed));
        say!(self, "bridge", "begins");
        self.later(1, 1_000, BridgeEvent::ReadPods);
        self.later(1, 1_000, BridgeEvent::ReadHub);
        self.later(1, 3_000, BridgeEvent::EnsureNode);
        self.later(500, 5_000, BridgeEvent::Seal);
    }

    pub(crate) fn crash_bridge(&mut self, for_ms: u64) {
        if self.bridge.bridge.take().is_some() {
            self.coverage.met(Path::BridgeCrash);
            say!(self, "bridge", "DIES for {for_ms} ms");
            self.bridge.life += 1;
            for stream in [&mut self.bridge.watch, &mut self.bridge.hub_stream] {
                stream.number += 1;
                stream.live = false;
            }
            self.push(for_ms, Event::BridgeBegins);
        }
    }

    fn later(&mut self, low: u64, high: u64, event: BridgeEvent) {
        let delay = self.rng.within(low, high);
        let life = self.bridge.life;
        self.push(delay, Event::Bridge(life, event));
    }

    pub(crate) fn step_bridge(&mut self, input: Input) {
        let now = Now {
            mono_ms: self.now + 9_000_000,
            wall_ms: EPOCH_MS + i64::try_from(self.now).unwrap_or(0),
            boot_id: BootId(Uuid::from_u64_pair(self.bridge.seed, 1)),
        };
        let Some(bridge) = self.bridge.bridge.as_mut() else {
            return;
        };
        let effects = bridge.step(now, input);
        let crash = if effects.is_empty() {
            None
        } else {
            self.crash_point(Path::BridgeCrashInStep, effects.len())
        };
        for (index, effect) in effects.into_iter().enumerate() {
            if crash == Some(index) {
                let away = self.rng.within(500, 40_000);
                return self.crash_bridge(away);
            }
            self.bridge_effect(effect);
        }
        if crash.is_some() {
            let away = self.rng.within(500, 40_000);
            self.crash_bridge(away);
        }
    }

    fn bridge_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Put { op, spec } => {
                let objects = self.api.objects.bodies(&spec.manifest);
                self.call(op, Call::PutDeployment { spec, objects });
            }
            Effect::Delete {
                op,
                uid,
                grace_period_s,
            } => self.call(
                op,
                Call::DeleteDeployment {
                    uid,
                    source_node: Some(NODE.to_owned()),
                    grace_period_s,
                    reason: edge_protocol::v1::TombstoneReason::Deleted,
                },
            ),
            Effect::Release { op, uid } => {
                self.coverage.met(Path::Released);
                self.call(op, Call::ReleaseDeployment { uid });
            }
            Effect::Show { uid, view } => {
                let due = (self.now + self.rng.within(2, 300)).max(self.bridge.patched);
                self.bridge.patched = due;
                let life = self.bridge.life;
                let event = BridgeEvent::Show(uid, Box::new(view));
                self.queue.push(due, Event::Bridge(life, event));
            }
            Effect::Finish { op, uid, view } => {
                say!(self, "bridge", "finishes {uid}");
                self.judge_finish(&uid);
                self.later(2, 300, BridgeEvent::Finish(op, uid, Box::new(view)));
            }
            Effect::ListPods => {
                say!(self, "bridge", "wants a list");
                self.break_watch();
            }
            // Nobody looks: there is no other node here.
            Effect::LookElsewhere(_) => {}
            Effect::Event { uid, reason, .. } => say!(self, "bridge", "event on {uid}: {reason}"),
            Effect::WakeAt(mono_ms) => {
                self.bridge.wake += 1;
                let due = mono_ms.saturating_sub(9_000_000).max(self.now);
                let event = BridgeEvent::Wake(self.bridge.wake);
                let life = self.bridge.life;
                self.queue.push(due, Event::Bridge(life, event));
            }
            Effect::Remember { seq, memory } => {
                self.bridge.memory = memory;
                let input = Box::new(Input::Remembered { seq });
                self.later(2, 300, BridgeEvent::Input(input));
            }
            Effect::Report(note) => {
                match note {
                    Note::PutWaits { .. } => self.coverage.met(Path::PutWaits),
                    Note::BrakeHolds { .. } => self.coverage.met(Path::BrakeHeld),
                    _ => {}
                }
                say!(self, "bridge", "{note:?}");
            }
        }
    }

    /// A call over HTTP. It may be lost on its way there, or arrive after its caller gave up.
    fn call(&mut self, op: OpId, call: Call) {
        self.ledger.calls += 1;
        let life = self.bridge.life;
        let fails = self.weather.http_fails;
        if self.rng.chance(fails) {
            self.later(50, 2_000, BridgeEvent::Unanswered(op));
            if self.rng.flip() {
                self.coverage.met(Path::RequestLost);
                return;
            }
            self.coverage.met(Path::RequestUnanswered);
        }
        let delay = self.rng.within(2, 250);
        let caller = Caller::Bridge(life, op);
        self.push(delay, Event::Request { caller, call });
    }

    pub(crate) fn bridge_event(&mut self, event: BridgeEvent) {
        match event {
            BridgeEvent::Input(input) => self.step_bridge(*input),
            BridgeEvent::Wake(token) => {
                if self.bridge.wake == token {
                    self.step_bridge(Input::Wake);
                }
            }
            BridgeEvent::Watch { stream, input } => {
                if self.bridge.watch.number == stream {
                    if matches!(*input, Input::PodsListed(_)) {
                        self.bridge.lied = self.bridge.lies;
                    }
                    self.step_bridge(*input);
                }
            }
            BridgeEvent::FollowHub { stream, input } => {
                if self.bridge.hub_stream.number == stream {
                    self.step_bridge(*input);
                }
            }
            BridgeEvent::Look { stream, uid } => {
                if self.bridge.hub_stream.number == stream {
                    self.look_at_hub(&uid);
                }
            }
            BridgeEvent::ReadPods => self.read_pods(),
            BridgeEvent::ReadHub => self.read_hub(),
            BridgeEvent::Show(uid, view) => self.show(&uid, *view),
            BridgeEvent::Finish(op, uid, view) => self.finish(op, &uid, *view),
            BridgeEvent::EnsureNode => self.ensure_node(),
            BridgeEvent::Seal => self.seal(),
            BridgeEvent::Answer(op, result) => {
                let outcome = outcome(result);
                self.step_bridge(Input::Ended { op, outcome });
            }
            BridgeEvent::Unanswered(op) => {
                let message = "no answer".to_owned();
                let outcome = Outcome::Unavailable { message };
                self.step_bridge(Input::Ended { op, outcome });
            }
        }
    }
}

fn outcome(result: Result<(), CallError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(CallError::NoSuchDeployment(_)) => Outcome::Missing,
        Err(CallError::BeingDeleted) => Outcome::Unavailable {
            message: "being deleted".to_owned(),
        },
        Err(error) => Outcome::Refused {
            reason: "Refused",
            message: error.to_string(),
        },
    }
}
