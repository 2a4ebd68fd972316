//! The world: every process, disk, runtime and link, and the loop that lets one thing happen after another.

use std::collections::BTreeSet;

use edge_protocol::PodUid;

use crate::bridge::BridgeHost;
use crate::chance::{Rng, Weather};
use crate::coverage::{Coverage, Path};
use crate::device::Device;
use crate::event::{At, Event};
use crate::hub::HubHost;
use crate::ledger::Ledger;
use crate::pods::Api;
use crate::queue::Queue;
use crate::trace::{Trace, say};
use crate::users::Users;

/// The wall clock when a world begins, in milliseconds since the Unix epoch.
pub(crate) const EPOCH_MS: i64 = 1_780_000_000_000;
/// Nothing of a seed takes longer than this after the storm.
const PATIENCE_MS: u64 = 3_600_000;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) queue: Queue,
    pub(crate) trace: Trace,
    pub(crate) weather: Weather,
    pub(crate) api: Api,
    pub(crate) bridge: BridgeHost,
    pub(crate) hub: HubHost,
    pub(crate) devices: Vec<Device>,
    pub(crate) ledger: Ledger,
    pub(crate) coverage: Coverage,
    pub(crate) users: Users,
    pub(crate) failure: Option<String>,
    /// When the storm ended.
    pub(crate) calm_at: Option<u64>,
    /// Since when everything has been as it should.
    pub(crate) settled_at: Option<u64>,
    pub(crate) done: bool,
    pub(crate) events: u64,
    /// Images that no registry has at the moment.
    pub(crate) broken_images: BTreeSet<String>,
    pub(crate) connections: u64,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut weather = Weather::of(&mut rng);
        weather.restore = rng.below(8) == 0;
        weather.bulky = rng.below(16) == 0;
        let devices = (0..2 + rng.below(3))
            .map(|at| Device::new(at, &mut rng))
            .collect();
        let mut world = Self {
            now: 0,
            queue: Queue::default(),
            trace: Trace::new(trace),
            weather,
            api: Api::default(),
            bridge: BridgeHost::new(rng.draw()),
            hub: HubHost::new(rng.draw()),
            devices,
            ledger: Ledger::default(),
            coverage: Coverage::default(),
            users: Users::default(),
            failure: None,
            calm_at: None,
            settled_at: None,
            done: false,
            events: 0,
            broken_images: BTreeSet::new(),
            connections: 0,
            rng,
        };
        world.ledger.restored = world.weather.restore;
        world.begin();
        world
    }

    fn begin(&mut self) {
        say!(
            self,
            "world",
            "{} devices, {:?}",
            self.devices.len(),
            self.weather
        );
        self.api.create_node();
        self.push(0, Event::HubBegins);
        self.push(5, Event::BridgeBegins);
        for at in 0..self.devices.len() {
            self.enrol(at);
            let life = self.devices[at].life;
            let delay = self.rng.within(10, 3_000);
            self.push(
                delay,
                Event::Device(at, crate::event::DeviceEvent::AgentBegins(life)),
            );
        }
        self.plan_users();
        let storm = self.rng.within(180_000, 420_000);
        self.push(storm, Event::Calm);
    }

    pub(crate) fn push(&mut self, after: u64, event: Event) {
        self.queue.push(self.now + after, event);
    }

    pub(crate) fn fail(&mut self, why: impl Into<String>) {
        if self.failure.is_none() {
            let why = why.into();
            say!(self, "JUDGE", "{why}");
            self.failure = Some(why);
        }
    }

    /// Until all is settled and quiet, or a law is broken.
    pub(crate) fn run(&mut self) {
        while self.failure.is_none() && !self.done {
            let Some((at, event)) = self.queue.pop() else {
                self.fail("nothing happens any more");
                return;
            };
            self.now = at;
            self.events += 1;
            self.happen(event);
            let late = self.calm_at.is_some_and(|calm| self.now > calm + PATIENCE_MS);
            if late && !self.done {
                let why = self.unsettled().unwrap_or_else(|| "it is never quiet".to_owned());
                self.fail(format!("an hour after the storm: {why}"));
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Agent(at, life, event) => {
                if self.devices[at].life == life && self.devices[at].agent.is_some() {
                    self.agent_event(at, event);
                }
            }
            Event::Device(at, event) => self.device_event(at, event),
            Event::Hub(life, event) => {
                if self.hub.life == life && self.hub.hub.is_some() {
                    self.hub_event(&event);
                }
            }
            Event::Bridge(life, event) => {
                if self.bridge.life == life && self.bridge.bridge.is_some() {
                    self.bridge_event(event);
                }
            }
            Event::HubBegins => self.begin_hub(),
            Event::BridgeBegins => self.begin_bridge(),
            Event::Arrives {
                device,
                connection,
                frame,
            } => self.arrive(device, connection, &frame),
            Event::Request { caller, call } => self.request(caller, call),
            Event::User(event) => self.user_event(event),
            Event::Calm => self.calm(),
            Event::Settle => self.settle(),
        }
    }

    /// Whether a fault that comes this often in ten thousand comes now.
    pub(crate) fn strikes(&mut self, fault: Path, per_10k: u64) -> bool {
        let strikes = self.rng.chance(per_10k);
        if strikes {
            self.coverage.met(fault);
        }
        strikes
    }

    /// Whether and where in a list of effects a process dies.
    pub(crate) fn crash_point(&mut self, path: Path, effects: usize) -> Option<usize> {
        self.strikes(path, self.weather.crash)
            .then(|| self.rng.below(effects + 1))
    }

    /// The storm is over: every fault ends, what was broken is mended, and people stop changing their minds.
    fn calm(&mut self) {
        say!(self, "world", "the storm is over");
        self.calm_at = Some(self.now);
        self.weather = Weather::default();
        self.broken_images.clear();
        self.make_missing_objects();
        for at in 0..self.devices.len() {
            self.devices[at].link.network = true;
            self.devices[at].runtime.down = false;
        }
        self.push(10_000, Event::Settle);
    }

    /// Pods that are for this device and that the API server wants to run.
    pub(crate) fn wanted_on(&self, at: At) -> impl Iterator<Item = &PodUid> {
        let zone = self.devices[at].zone;
        self.api
            .pods
            .values()
            .filter(move |pod| pod.deletion.is_none() && !pod.is_job() && pod.is_for(zone))
            .map(|pod| &pod.uid)
    }
}
