//! A world around one hub: its clock, its disk, its wire.

pub mod build;
pub mod model;
pub mod store;

use std::collections::{BTreeMap, VecDeque};

use edge_protocol::v1::{DeploymentStatus, DownFrame, Up};
use edge_protocol::{BootId, DeviceId, Lane, Now, PodUid, SetGeneration, frame};
use iot_hub_core::{
    Call, CallError, Change, ConnectionId, DeviceState, Effect, Hub, HubConfig, Input, Limits, Note,
    PresentationId, RequestId, StreamEnd, StreamId, Tx,
};

use build::{config, device, enrol_call, tag_map, wanted};
use model::Model;
use store::Store;

pub struct World {
    pub hub: Hub,
    pub now: Now,
    pub store: Store,
    /// Transactions asked for and not yet on disk.
    pub commits: VecDeque<Tx>,
    /// Whether a commit is carried out as soon as it is asked for.
    pub commit_at_once: bool,
    pub wire: Vec<(DeviceId, ConnectionId, Lane, Vec<u8>)>,
    pub replies: BTreeMap<RequestId, Result<(), CallError>>,
    pub notes: Vec<Note>,
    pub cuts: Vec<(DeviceId, ConnectionId, &'static str)>,
    pub changes: Vec<Change>,
    pub announced: Vec<Change>,
    /// Transactions that wrote nothing but an audit.
    pub audits: usize,
    pub given: BTreeMap<PresentationId, Option<StreamId>>,
    pub ended: Vec<(StreamId, StreamEnd)>,
    pub tunnels_cut: Vec<DeviceId>,
    pub wake_at: Option<u64>,
    pub models: BTreeMap<DeviceId, Model>,
    next: u64,
    limits: Limits,
}

impl World {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: HubConfig) -> Self {
        Self::over(Store::default(), now(1_000, 1_700_000_000_000), config)
    }

    pub fn over(store: Store, now: Now, config: HubConfig) -> Self {
        let limits = config.limits;
        let mut world = Self {
            limits,
            hub: Hub::new(config, store.restored(), 7, now),
            now,
            store,
            commits: VecDeque::new(),
            commit_at_once: true,
            wire: Vec::new(),
            replies: BTreeMap::new(),
            notes: Vec::new(),
            cuts: Vec::new(),
            changes: Vec::new(),
            announced: Vec::new(),
            audits: 0,
            given: BTreeMap::new(),
            ended: Vec::new(),
            tunnels_cut: Vec::new(),
            wake_at: None,
            models: BTreeMap::new(),
            next: 0,
        };
        world.step(Input::Wake);
        world
    }

    /// The hub dies, with what it had not committed, and begins again from its disk, or from an older copy of it.
    pub fn restart(&mut self, store: Store) {
        let mut models = std::mem::take(&mut self.models);
        for model in models.values_mut() {
            model.lose_link();
        }
        let (now, next, commit_at_once) = (self.now, self.next, self.commit_at_once);
        let config = HubConfig {
            limits: self.limits,
            ..config()
        };
        *self = Self::over(store, now, config);
        self.models = models;
        self.next = next;
        self.commit_at_once = commit_at_once;
    }

    pub fn step(&mut self, input: Input) {
        let effects = self.hub.step(self.now, input);
        for effect in effects {
            match effect {
                Effect::Commit(tx) => self.commits.push_back(tx),
                Effect::Send {
                    device,
                    connection,
                    lane,
                    bytes,
                } => {
                    self.wire.push((device, connection, lane, bytes));
                }
                Effect::Cut {
                    device,
                    connection,
                    why,
                } => self.cuts.push((device, connection, why)),
                Effect::Reply { request, result } => {
                    assert!(self.replies.insert(request, result).is_none(), "answered twice");
                }
                Effect::GiveStream { presentation, stream } => {
                    assert!(self.given.insert(presentation, stream).is_none(), "given twice");
                }
                Effect::EndStream { stream, why } => self.ended.push((stream, why)),
                Effect::CutTunnel { device } => self.tunnels_cut.push(device),
                Effect::Announce(change) => self.announced.push(change),
                Effect::WakeAt(at) => self.wake_at = Some(at),
                Effect::Report(note) => self.notes.push(note),
            }
        }
        if self.commit_at_once {
            while self.commit_one() {}
        }
    }

    pub fn commit_one(&mut self) -> bool {
        let Some(tx) = self.commits.pop_front() else {
            return false;
        };
        self.store.apply(&tx);
        self.audits += usize::from(tx.writes.is_empty() && tx.changes.is_empty());
        self.changes.extend(tx.changes);
        self.step(Input::Committed(tx.id));
        true
    }

    pub fn call(&mut self, call: Call) -> Result<(), CallError> {
        let request = self.request(call);
        self.replies.remove(&request).expect("answered at once")
    }

    /// Somebody wants to know what the device uses.
    pub fn want_stats(&mut self, id: &DeviceId, max_age_ms: u64) -> RequestId {
        self.next += 1;
        let request = RequestId(self.next);
        self.step(Input::StatsWanted {
            request,
            device: id.clone(),
            max_age_ms,
        });
        request
    }

    pub fn request(&mut self, call: Call) -> RequestId {
        self.next += 1;
        let request = RequestId(self.next);
        self.step(Input::Call { request, call });
        request
    }

    // Devices.

    /// A world with these devices, without tags, all of them connected.
    pub fn of<const N: usize>(names: [&str; N]) -> (Self, [DeviceId; N]) {
        let mut world = Self::new();
        let ids = names.map(|name| world.enrol(name, &[]));
        for id in &ids {
            world.connect(id);
        }
        (world, ids)
    }

    /// Puts a deployment for these devices, and lets all of them hear of it.
    pub fn run(&mut self, name: &str, condition: &str) {
        self.call(wanted(name, condition).put()).unwrap();
        self.settle();
    }

    /// Enrols a device with these tags.
    pub fn enrol(&mut self, name: &str, tags: &[(&str, &str)]) -> DeviceId {
        let id = device(name);
        self.call(enrol_call(name, tags)).unwrap();
        self.models
            .entry(id.clone())
            .or_insert_with(|| Model::new(id.clone()));
        id
    }

    pub fn set_tags(&mut self, id: &DeviceId, tags: &[(&str, &str)]) {
        self.call(Call::SetTags {
            device: id.clone(),
            tags: tag_map(tags),
        })
        .unwrap();
    }

    pub fn set_state(&mut self, id: &DeviceId, state: DeviceState) {
        self.call(Call::SetDeviceState {
            device: id.clone(),
            state,
        })
        .unwrap();
    }

    pub fn connect(&mut self, id: &DeviceId) {
        self.next += 1;
        let connection = ConnectionId(self.next);
        let model = self.models.get_mut(id).expect("an enrolled device");
        let enrolment = model.enrolment.clone();
        let hello = model.connect(connection, self.next);
        self.step(Input::Connected {
            device: id.clone(),
            connection,
            enrolment,
        });
        self.send(id, &[hello]);
    }

    pub fn disconnect(&mut self, id: &DeviceId) {
        let model = self.models.get_mut(id).expect("an enrolled device");
        if let Some(connection) = model.lose_link() {
            self.step(Input::Disconnected {
                device: id.clone(),
                connection,
            });
        }
    }

    /// The device sends these on its present connection.
    pub fn send(&mut self, id: &DeviceId, frames: &[Vec<u8>]) {
        for bytes in frames {
            let Some(connection) = self.models[id].connection else {
                return;
            };
            self.step(Input::Frame {
                device: id.clone(),
                connection,
                lane: Lane::Status,
                bytes: bytes.clone(),
            });
        }
    }

    /// The device says something in its session.
    pub fn say(&mut self, id: &DeviceId, body: Up) {
        let frame = self.models.get_mut(id).expect("an enrolled device").frame(body);
        self.send(id, &[frame]);
    }

    /// Delivers one message of the wire; whether there was one.
    pub fn deliver(&mut self, index: usize) -> bool {
        if index >= self.wire.len() {
            return false;
        }
        let (id, connection, _, bytes) = self.wire.remove(index);
        let blobs = self.fetchable(&id, &bytes);
        let Some(model) = self.models.get_mut(&id) else {
            return true;
        };
        if model.connection == Some(connection) {
            let answers = model.receive(&bytes, &blobs);
            self.send(&id, &answers);
        }
        true
    }

    /// What the device could fetch over HTTPS: the hub decides by digest, the device asks for what it lacks.
    pub fn fetchable(&self, id: &DeviceId, bytes: &[u8]) -> BTreeMap<edge_protocol::Digest, String> {
        let frame: DownFrame = frame::decode(bytes).unwrap();
        let get = |digest| Some((digest, self.hub.blob(id, &digest)?.to_owned()));
        let items: BTreeMap<_, String> = model::digests(&frame).into_iter().filter_map(get).collect();
        let named = items.values().flat_map(|body| store::objects(body));
        let objects: BTreeMap<_, _> = named.filter_map(get).collect();
        items.into_iter().chain(objects).collect()
    }

    /// Delivers until nothing is under way.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.deliver(0) {
                return;
            }
        }
        panic!("the wire does not fall silent");
    }

    /// Lets time pass, waking the hub whenever it asked for it.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        for _ in 0..10_000 {
            let next = self.wake_at.map_or(end, |at| at.clamp(self.now.mono_ms, end));
            let advance = next - self.now.mono_ms;
            self.now.mono_ms = next;
            self.now.wall_ms += i64::try_from(advance).unwrap();
            if self.wake_at.is_some_and(|at| at <= next) {
                self.wake_at = None;
                self.step(Input::Wake);
            } else if next == end {
                return;
            }
        }
        panic!("the hub wakes for ever");
    }

    /// Passes time with heartbeats of these devices.
    pub fn pass_with(&mut self, ids: &[&DeviceId], ms: u64) {
        for _ in 0..ms.div_ceil(30_000) {
            self.pass(30_000.min(ms));
            for id in ids {
                self.say(id, Up::Heartbeat);
            }
        }
    }

    // Views.

    pub fn status(&self, uid: &PodUid) -> DeploymentStatus {
        self.hub.deployment(uid).expect("a deployment").status
    }

    pub fn generation(&self, id: &DeviceId) -> SetGeneration {
        self.hub.device(id).expect("a device").generation
    }

    /// What runs on the device.
    pub fn running(&self, id: &DeviceId) -> Vec<String> {
        self.models[id].running.keys().map(ToString::to_string).collect()
    }
}

pub fn now(mono_ms: u64, wall_ms: i64) -> Now {
    Now {
        mono_ms,
        wall_ms,
        boot_id: BootId(uuid::Uuid::nil()),
    }
}
