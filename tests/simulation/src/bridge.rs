//! The bridge's process with a shell around it: watches with relists, calls that fail, patches that come late.

use edge_protocol::{BootId, Now, PodUid};
use edge_provider_core::{
    Bridge, BridgeConfig, Effect, HeldDeployment, Input, Memory, Note, OpId, Outcome, PodList, PodView,
};
use iot_hub_core::{Call, CallError, DeploymentView};
use uuid::Uuid;

use crate::coverage::Path;
use crate::event::{BridgeEvent, Caller, Event};
use crate::pods::{CLUSTER, NODE, Pod};
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
    wake: u64,
    /// What the last life left in the leader lease.
    memory: Memory,
    /// The last list that went through was a lie: the next one is true.
    lied: bool,
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
            wake: 0,
            memory: Memory::default(),
            lied: false,
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
        config.cluster_uid = Some(CLUSTER.to_owned());
        self.bridge.bridge = Some(Bridge::new(config, self.bridge.memory.clone(), seed));
        say!(self, "bridge", "begins");
        self.later(1, 1_000, BridgeEvent::ReadPods);
        self.later(1, 1_000, BridgeEvent::ReadHub);
        self.later(1, 3_000, BridgeEvent::EnsureNode);
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
            Effect::Put { op, spec } => self.call(op, Call::PutDeployment(spec)),
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

    // The API server's side.

    pub(crate) fn break_watch(&mut self) {
        self.bridge.watch.number += 1;
        self.bridge.watch.live = false;
        self.later(100, 5_000, BridgeEvent::ReadPods);
    }

    fn read_pods(&mut self) {
        if self.bridge.watch.live {
            return;
        }
        if self.strikes(Path::ListFails, self.weather.http_fails) {
            say!(self, "bridge", "a list fails");
            return self.later(500, 5_000, BridgeEvent::ReadPods);
        }
        let lies = self.weather.list_lies;
        let lie = self.rng.chance(lies) && !self.bridge.lied;
        self.bridge.lied = lie;
        let list = if lie { self.lie() } else { self.api.list() };
        let delay = self.rng.within(5, 1_500);
        let now = self.now;
        let watch = &mut self.bridge.watch;
        watch.number += 1;
        watch.live = !lie;
        watch.since = now;
        watch.tail = now + delay;
        let stream = watch.number;
        say!(
            self,
            "bridge",
            "reads {}{} pods at {}",
            if lie { "a LIE of " } else { "" },
            list.pods.len(),
            list.resource_version
        );
        let input = Box::new(Input::PodsListed(list));
        self.later(delay, delay, BridgeEvent::Watch { stream, input });
        if lie {
            // The watch that follows a lie breaks soon.
            self.later(5_000, 70_000, BridgeEvent::ReadPods);
        }
    }

    /// What a proxy answers that is broken, or points elsewhere.
    fn lie(&mut self) -> PodList {
        let truth = self.api.list();
        let empty = PodList {
            pods: Vec::new(),
            ..truth.clone()
        };
        match self.rng.below(4) {
            0 => {
                self.coverage.met(Path::ListOfOtherCluster);
                PodList {
                    cluster_uid: "cluster-2".to_owned(),
                    ..empty
                }
            }
            1 => {
                self.coverage.met(Path::ListOlder);
                PodList {
                    resource_version: truth.resource_version / 2,
                    ..empty
                }
            }
            2 => {
                self.coverage.met(Path::ListEmpty);
                empty
            }
            _ => {
                self.coverage.met(Path::ListOfThePast);
                let past: Vec<PodList> = self.api.past.iter().cloned().collect();
                self.rng.pick(&past).cloned().unwrap_or(empty)
            }
        }
    }

    fn watch(&mut self, input: Input) {
        if !self.bridge.watch.live || self.bridge.bridge.is_none() {
            return;
        }
        if self.strikes(Path::WatchBreaks, self.weather.watch_breaks) {
            say!(self, "bridge", "the watch breaks");
            return self.break_watch();
        }
        let due = (self.now + self.rng.within(2, 400)).max(self.bridge.watch.tail);
        self.bridge.watch.tail = due;
        let (life, stream) = (self.bridge.life, self.bridge.watch.number);
        let resource_version = self.api.resource_version;
        for input in [Input::WatchedTo { resource_version }, input] {
            let input = Box::new(input);
            let event = BridgeEvent::Watch { stream, input };
            self.queue.push(due, Event::Bridge(life, event));
        }
    }

    pub(crate) fn pod_changed(&mut self, uid: &PodUid) {
        self.api.bump();
        if let Some(pod) = self.api.pods.get(uid) {
            let input = Input::PodSeen(Box::new(pod.wanted()));
            self.watch(input);
        }
    }

    pub(crate) fn pod_gone(&mut self, pod: &Pod) {
        say!(self, "api", "{} is gone", pod.uid);
        let input = Input::PodVanished {
            uid: pod.uid.clone(),
            cause: pod.cause(),
        };
        self.watch(input);
    }

    pub(crate) fn node_changed(&mut self) {
        let uid = self.api.node.clone();
        say!(self, "api", "node is {uid:?}");
        if uid.is_none() {
            self.later(500, 12_000, BridgeEvent::EnsureNode);
        }
        self.later(2, 500, BridgeEvent::Input(Box::new(Input::NodeSeen { uid })));
    }

    fn ensure_node(&mut self) {
        if self.api.create_node() {
            self.node_changed();
        }
    }

    fn show(&mut self, uid: &PodUid, view: PodView) {
        let Some(pod) = self.api.pods.get_mut(uid) else {
            return;
        };
        if pod.shown.as_ref() == Some(&view) {
            return;
        }
        let was = pod.is_terminal();
        pod.shown = Some(view);
        let now_terminal = pod.is_terminal();
        if let Some(PodView::Deployed(status)) = &pod.shown {
            say!(
                self,
                "api",
                "{uid} shows {:?} ready={} {:?} {:?}",
                status.phase,
                status.ready,
                status.counts,
                status.state
            );
        }
        if was {
            self.coverage.met(Path::TerminalJudged);
        } else if now_terminal {
            self.coverage.met(Path::PodEnded);
        }
        if was && !now_terminal && !self.ledger.restored {
            return self.fail(format!("law of the API: {uid} left a terminal phase"));
        }
        self.pod_changed(uid);
    }

    fn finish(&mut self, op: OpId, uid: &PodUid, view: PodView) {
        let fails = self.weather.http_fails;
        let fate = self.strikes(Path::FinishFails, fails).then(|| self.rng.flip());
        let arrives = fate != Some(false);
        if let Some(pod) = self
            .api
            .pods
            .get_mut(uid)
            .filter(|pod| arrives && pod.deletion.is_some())
        {
            pod.shown = Some(view);
            pod.finished = true;
            if pod.finalizer {
                self.pod_changed(uid);
            } else if let Some(pod) = self.api.remove(uid) {
                self.pod_gone(&pod);
            }
        }
        let outcome = match fate {
            None => Outcome::Done,
            Some(_) => Outcome::Unavailable {
                message: "no answer".to_owned(),
            },
        };
        self.later(2, 200, BridgeEvent::Input(Box::new(Input::Ended { op, outcome })));
    }

    // The hub's side.

    pub(crate) fn break_hub_stream(&mut self) {
        if self.bridge.bridge.is_some() && self.bridge.hub_stream.live {
            self.coverage.met(Path::HubStreamBreaks);
            self.bridge.hub_stream.number += 1;
            self.bridge.hub_stream.live = false;
            self.later(200, 4_000, BridgeEvent::ReadHub);
        }
    }

    fn read_hub(&mut self) {
        if self.bridge.hub_stream.live {
            return;
        }
        let fails = self.weather.http_fails;
        let Some(hub) = self.hub.hub.as_ref().filter(|_| !self.rng.chance(fails)) else {
            return self.later(500, 4_000, BridgeEvent::ReadHub);
        };
        let held: Vec<HeldDeployment> = hub.deployments().map(held).collect();
        for deployment in &held {
            self.judge_ready(deployment);
        }
        let delay = self.rng.within(5, 800);
        let now = self.now;
        let stream = &mut self.bridge.hub_stream;
        stream.number += 1;
        (stream.live, stream.since, stream.tail) = (true, now, now + delay);
        let number = stream.number;
        say!(self, "bridge", "reads {} deployments", held.len());
        let input = Box::new(Input::DeploymentsListed(held));
        self.later(
            delay,
            delay,
            BridgeEvent::FollowHub {
                stream: number,
                input,
            },
        );
    }

    /// Reads one deployment that the hub's log named.
    fn look_at_hub(&mut self, uid: &PodUid) {
        let breaks = self.weather.watch_breaks;
        if self.rng.chance(breaks) {
            return self.break_hub_stream();
        }
        let Some(hub) = self.hub.hub.as_ref() else {
            return;
        };
        let input = match hub.deployment(uid).map(held) {
            Some(held) => {
                self.judge_ready(&held);
                Input::DeploymentChanged(Box::new(held))
            }
            None => Input::DeploymentEnded { uid: uid.clone() },
        };
        let due = (self.now + self.rng.within(2, 200)).max(self.bridge.hub_stream.tail);
        self.bridge.hub_stream.tail = due;
        let (life, stream) = (self.bridge.life, self.bridge.hub_stream.number);
        let input = Box::new(input);
        self.queue
            .push(due, Event::Bridge(life, BridgeEvent::FollowHub { stream, input }));
    }
}

fn held(view: DeploymentView) -> HeldDeployment {
    HeldDeployment {
        spec: view.record.spec,
        revision: view.record.revision,
        state: view.record.state,
        status: view.status,
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
