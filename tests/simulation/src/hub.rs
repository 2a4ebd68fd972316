//! The hub: its disk, its process, and a pump that does what `iot-hub`'s does.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine as _;
use ed25519_dalek::SigningKey;
use edge_protocol::sign::Signer;
use edge_protocol::v1::{Down, DownFrame, Statement, StatementBody};
use edge_protocol::{BootId, Digest, HubId, Lane, Now, PodUid, frame};
use iot_hub_core::{Call, CallError, Change, Effect, Hub, HubConfig, Input, RequestId, Tx};
use uuid::Uuid;

use crate::coverage::Path;
use crate::disk::HubDisk;
use crate::event::{At, BridgeEvent, Caller, Event, Frame, HubEvent};
use crate::trace::say;
use crate::world::{EPOCH_MS, World};

/// Items in one part of a snapshot: few, so that snapshots have several parts.
const PART_ITEMS: usize = 2;

pub(crate) fn hub_id() -> HubId {
    HubId(Uuid::from_u128(0x4b1d))
}

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

#[derive(Debug)]
pub(crate) struct HubHost {
    pub(crate) hub: Option<Hub>,
    pub(crate) life: u64,
    pub(crate) disk: HubDisk,
    pub(crate) backup: Option<HubDisk>,
    pub(crate) wall_offset: i64,
    seed: u64,
    commits: VecDeque<Tx>,
    disk_free_at: u64,
    wake: u64,
    callers: BTreeMap<RequestId, (Caller, Call)>,
    requests: u64,
}

impl HubHost {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hub: None,
            life: 0,
            disk: HubDisk::default(),
            backup: None,
            wall_offset: 0,
            seed,
            commits: VecDeque::new(),
            disk_free_at: 0,
            wake: 0,
            callers: BTreeMap::new(),
            requests: 0,
        }
    }

    fn now(&self, now: u64) -> Now {
        Now {
            mono_ms: now + 5_000_000,
            wall_ms: EPOCH_MS + self.wall_offset + i64::try_from(now).unwrap_or(0),
            boot_id: BootId(Uuid::from_u64_pair(self.seed, 1)),
        }
    }
}

impl World {
    pub(crate) fn begin_hub(&mut self) {
        if self.hub.hub.is_some() {
            return;
        }
        let mut config = HubConfig::new(hub_id(), Signer::new(signing_key()));
        config.limits.part_items = PART_ITEMS;
        let seed = self.rng.draw();
        let host = &mut self.hub;
        host.life += 1;
        let now = host.now(self.now);
        host.hub = Some(Hub::new(config, host.disk.restored(), seed, now));
        say!(self, "hub", "begins");
        for device in &mut self.devices {
            device.heard_since = self.now;
        }
        self.step_hub(Input::Wake);
    }

    pub(crate) fn crash_hub(&mut self, for_ms: u64) {
        if self.hub.hub.take().is_none() {
            return;
        }
        self.coverage.met(Path::HubCrash);
        say!(self, "hub", "DIES for {for_ms} ms");
        self.hub.life += 1;
        let pending = self.hub.commits.len();
        let survive = if self.rng.flip() {
            self.rng.below(pending + 1)
        } else {
            0
        };
        if survive < pending {
            self.coverage.met(Path::HubCommitLost);
        }
        for _ in 0..survive {
            self.store_hub();
        }
        self.hub.commits.clear();
        self.ledger.forget_words();
        for at in 0..self.devices.len() {
            self.lose_link(at, true);
        }
        for (_, (caller, call)) in std::mem::take(&mut self.hub.callers) {
            self.unanswered(caller, call);
        }
        self.break_hub_stream();
        self.push(for_ms, Event::HubBegins);
    }

    pub(crate) fn step_hub(&mut self, input: Input) {
        let now = self.hub.now(self.now);
        let Some(hub) = self.hub.hub.as_mut() else {
            return;
        };
        let effects = hub.step(now, input);
        let crash = if effects.is_empty() {
            None
        } else {
            self.crash_point(Path::HubCrashInStep, effects.len())
        };
        for (index, effect) in effects.into_iter().enumerate() {
            if crash == Some(index) {
                let away = self.rng.within(500, 30_000);
                return self.crash_hub(away);
            }
            self.hub_effect(effect);
            if self.failure.is_some() {
                return;
            }
        }
        if crash.is_some() {
            let away = self.rng.within(500, 30_000);
            self.crash_hub(away);
        }
    }

    fn hub_effect(&mut self, effect: Effect) {
        let life = self.hub.life;
        match effect {
            Effect::Commit(tx) => {
                say!(self, "hub", "commit {} ({} writes)", tx.id, tx.writes.len());
                let due = (self.now + self.rng.within(1, 25)).max(self.hub.disk_free_at);
                self.hub.disk_free_at = due;
                self.hub.commits.push_back(tx);
                self.queue.push(due, Event::Hub(life, HubEvent::Stored));
            }
            Effect::Send {
                device,
                connection,
                lane,
                bytes,
            } => {
                let at = self.at(&device);
                self.send_down(at, connection.0, lane, bytes);
            }
            Effect::Cut {
                device,
                connection,
                why,
            } => {
                let at = self.at(&device);
                say!(self, "hub", "cuts {device}: {why}");
                if self.devices[at].link.connection == Some(connection.0) {
                    self.lose_link(at, true);
                }
            }
            Effect::Reply { request, result } => self.reply(request, result),
            Effect::Announce(change) => self.changed(&change),
            Effect::WakeAt(mono_ms) => {
                self.hub.wake += 1;
                let due = mono_ms.saturating_sub(5_000_000).max(self.now);
                let token = self.hub.wake;
                self.queue.push(due, Event::Hub(life, HubEvent::Wake(token)));
            }
            // Nobody asks for streams here.
            Effect::GiveStream { .. } | Effect::EndStream { .. } | Effect::CutTunnel { .. } => {}
            Effect::Report(note) => say!(self, "hub", "{note:?}"),
        }
    }

    pub(crate) fn hub_event(&mut self, event: &HubEvent) {
        match *event {
            HubEvent::Stored => {
                if let Some(tx) = self.store_hub() {
                    self.step_hub(Input::Committed(tx));
                }
            }
            HubEvent::Wake(token) => {
                if self.hub.wake == token {
                    self.step_hub(Input::Wake);
                }
            }
            HubEvent::Disconnected { device, connection } => {
                let device = self.devices[device].id.clone();
                let connection = iot_hub_core::ConnectionId(connection);
                self.step_hub(Input::Disconnected { device, connection });
            }
        }
    }

    fn store_hub(&mut self) -> Option<edge_protocol::TxId> {
        let tx = self.hub.commits.pop_front()?;
        for write in tx.writes {
            self.judge_hub_write(&write);
            self.hub.disk.apply(write);
        }
        for change in &tx.changes {
            self.changed(change);
        }
        Some(tx.id)
    }

    fn changed(&mut self, change: &Change) {
        if let Change::Deployment { uid } | Change::DeploymentEnded { uid } = change {
            let (stream, life) = (self.bridge.hub_stream.number, self.bridge.life);
            if self.bridge.hub_stream.live {
                let delay = self.rng.within(2, 200);
                let uid = uid.clone();
                self.push(delay, Event::Bridge(life, BridgeEvent::Look { stream, uid }));
            }
        }
    }

    pub(crate) fn request(&mut self, caller: Caller, call: Call) {
        if matches!(caller, Caller::Person) && self.is_outdated(&call) {
            return;
        }
        if self.hub.hub.is_none() {
            self.coverage.met(Path::HubAway);
            return self.unanswered(caller, call);
        }
        self.hub.requests += 1;
        let request = RequestId(self.hub.requests);
        self.hub.callers.insert(request, (caller, call.clone()));
        say!(self, "hub", "is asked: {}", about(&call));
        self.step_hub(Input::Call { request, call });
    }

    fn reply(&mut self, request: RequestId, result: Result<(), CallError>) {
        let Some((caller, call)) = self.hub.callers.remove(&request) else {
            return self.fail(format!("answered twice: {request:?}"));
        };
        say!(self, "hub", "answers {}: {result:?}", about(&call));
        match caller {
            Caller::Person => {
                if matches!(result, Err(CallError::NoSuchDevice(_))) {
                    // The enrolment was lost in a crash, and is being repeated.
                    self.unanswered(Caller::Person, call);
                } else if let Err(error) = result {
                    self.fail(format!("a person is refused {}: {error}", about(&call)));
                }
            }
            Caller::Sealer => {}
            Caller::Bridge(life, op) => {
                let delay = self.rng.within(2, 200);
                let event = if self.strikes(Path::RequestUnanswered, self.weather.http_fails / 2) {
                    BridgeEvent::Unanswered(op)
                } else {
                    BridgeEvent::Answer(op, result)
                };
                self.push(delay, Event::Bridge(life, event));
            }
        }
    }

    fn unanswered(&mut self, caller: Caller, call: Call) {
        match caller {
            Caller::Bridge(life, op) => {
                self.push(100, Event::Bridge(life, BridgeEvent::Unanswered(op)));
            }
            Caller::Sealer => {}
            Caller::Person => self.push(1_000, Event::Request { caller, call }),
        }
    }

    /// A change of tags that was overtaken by a later one.
    fn is_outdated(&self, call: &Call) -> bool {
        let Call::SetTags { device, tags } = call else {
            return false;
        };
        let zone = self.devices[self.at(device)].zone;
        tags.get("zone").map(String::as_str) != Some(zone)
    }

    pub(crate) fn at(&self, device: &edge_protocol::DeviceId) -> At {
        self.devices
            .iter()
            .position(|known| known.id == *device)
            .expect("the hub knows only devices of this world")
    }

    /// A blob over HTTPS.
    pub(crate) fn fetch(&mut self, at: At, digest: &Digest) -> Option<String> {
        if self.strikes(Path::FetchFails, self.weather.http_fails) || !self.devices[at].link.network {
            return None;
        }
        let hub = self.hub.hub.as_ref()?;
        let blob = hub.blob(&self.devices[at].id, digest)?;
        self.coverage.met(Path::BlobFetched);
        Some(blob.to_owned())
    }

    fn send_down(&mut self, at: At, connection: u64, lane: Lane, bytes: Vec<u8>) {
        match frame::decode::<DownFrame>(&bytes).map(|frame| frame.body) {
            Err(error) => return self.fail(format!("a frame that no agent reads: {error}")),
            Ok(Down::Ack(ack)) => {
                say!(
                    self,
                    "hub",
                    "tells {} it has status {} events {}",
                    self.devices[at].id,
                    ack.status_upto,
                    ack.event_seq
                );
                self.judge_acknowledged(at, (ack.session, ack.status_upto, ack.event_seq));
            }
            Ok(Down::Statement { envelope, .. }) => match read(&envelope.payload) {
                Some(statement) => {
                    self.coverage.met(form_path(&statement.body));
                    say!(
                        self,
                        "hub",
                        "tells {} {} {}",
                        self.devices[at].id,
                        statement.generation,
                        form(&statement.body)
                    );
                    self.judge_statement(at, &statement);
                }
                None => return self.fail("a statement that no agent reads"),
            },
            Ok(Down::Keys { .. } | Down::Stream { .. } | Down::StatsAsk(_) | Down::Unknown) => {}
        }
        if self.devices[at].link.connection == Some(connection) {
            let frame = Frame {
                lane,
                bytes: bytes.into(),
                word: None,
            };
            self.transmit(at, false, &frame);
        }
    }
}

fn read(payload: &str) -> Option<Statement> {
    let payload = base64::engine::general_purpose::STANDARD.decode(payload).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn form(body: &StatementBody) -> String {
    match body {
        StatementBody::Same => "same".to_owned(),
        StatementBody::Delta {
            base, put, forget, ..
        } => {
            let put: Vec<String> = put
                .iter()
                .map(|item| format!("{} {:?} r{}", item.uid, item.state, item.revision))
                .collect();
            let forget: Vec<&str> = forget.iter().map(PodUid::as_str).collect();
            format!(
                "delta on {base}: put [{}] forget [{}]",
                put.join(", "),
                forget.join(", ")
            )
        }
        StatementBody::Snapshot { part, of, items } => {
            let items: Vec<String> = items
                .iter()
                .map(|item| format!("{} {:?} r{}", item.uid, item.state, item.revision))
                .collect();
            format!("snapshot {}/{of}: [{}]", part + 1, items.join(", "))
        }
    }
}

fn form_path(body: &StatementBody) -> Path {
    match body {
        StatementBody::Same => Path::StatementSame,
        StatementBody::Delta { .. } => Path::StatementDelta,
        StatementBody::Snapshot { of: 1, .. } => Path::StatementSnapshot,
        StatementBody::Snapshot { .. } => Path::StatementParts,
    }
}

fn about(call: &Call) -> String {
    match call {
        Call::PutDeployment { spec, .. } => format!("put {}", spec.uid),
        Call::DeleteDeployment {
            uid, grace_period_s, ..
        } => format!("delete {uid} within {grace_period_s:?}"),
        Call::ReleaseDeployment { uid } => format!("release {uid}"),
        Call::SetTags { device, tags } => format!("tags of {device}: {tags:?}"),
        Call::EnrolDevice { device, .. } => format!("enrol {device}"),
        Call::PutKeyWraps { uid, wraps } => format!("keep {} keys of {uid}", wraps.len()),
        other => format!("{other:?}"),
    }
}
