//! The machine itself: its state, its one entry point, and the transaction that ends each step.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use edge_protocol::sign::TrustedKeys;
use edge_protocol::v1::{DeviceEvent, EventLevel, LinkClass, Reason};
use edge_protocol::{
    AfterCommit, BootId, DeviceId, DeviceTime, EnrolmentSerial, HubId, Now, PodUid, SealingSecret,
};

use crate::backoff::Rng;
use crate::claims::Claims;
use crate::desired::{Desired, QUARANTINE_KEY};
use crate::eviction::{Pressure, Thresholds};
use crate::fetch::Fetches;
use crate::history::{History, SEQ_KEY};
use crate::images::{ImagePolicy, Images};
use crate::io::{Effect, Input, Note, Restored, Tx, Write};
use crate::keys::Keys;
use crate::provenance::{PULLED_KEY, Provenance};
use crate::pulls::Pulls;
use crate::reports::Reports;
use crate::restore::{read_blobs, read_meta, read_records};
use crate::roster::{Roster, Touch};
use crate::session::{Parties, Session};
use crate::shelf::Shelf;
use crate::stats::Sampling;
use crate::streams::Commands;
use crate::transition::Rules;

/// Where the floor of trusted time is kept, in milliseconds since the Unix epoch.
pub(crate) const FLOOR_KEY: &str = "time-floor";
/// Where the link class is kept.
pub(crate) const LINK_KEY: &str = "link-class";

/// Who this device is and whom it believes. Fixed for one life of the process.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    pub device: DeviceId,
    pub enrolment: EnrolmentSerial,
    pub hub: HubId,
    pub keys: TrustedKeys,
    pub agent_version: String,
    /// As assigned at enrolment; what the hub assigned later is on disk and wins.
    pub link: LinkClass,
    /// What is sealed to this device opens with it.
    pub sealing: Arc<SealingSecret>,
    /// Abilities of this agent and of this device's policy; a manifest's `requires` is checked against them.
    pub features: Vec<String>,
    /// Whether the device knows name servers of the cluster.
    pub cluster_dns: bool,
    pub limits: Limits,
    /// Below which the device lacks something, and workloads go.
    pub thresholds: Thresholds,
    pub image_policy: ImagePolicy,
    /// How many images are pulled at the same time; absent means as many as are wanted.
    pub parallel_pulls: Option<NonZeroU32>,
    /// The least time between two samples of what the device uses, in milliseconds, whoever asks.
    pub sample_floor_ms: u64,
    /// In builds with debug assertions every step asks the whole again, and panics where an untouched workload is not as it was. It costs as
    /// much as all workloads do: for tests.
    pub proved: bool,
}

/// What bounds the machine's memory. Beyond a bound an offer is refused, or the oldest gives way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Workloads in a set that are to run.
    pub items: usize,
    /// Tombstones in a set. They have a bound of their own: fewer workloads mean more tombstones, so that one bound for both would
    /// refuse the very set that takes the excess away.
    pub tombstones: usize,
    /// Parts of a snapshot.
    pub parts: u32,
    /// Bytes of blobs held while a set is on its way to the disk.
    pub blob_bytes: usize,
    /// Events kept until the hub has them.
    pub events: usize,
    /// Blobs fetched at the same time.
    pub fetches: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            items: 1_000,
            tombstones: 20_000,
            parts: 256,
            blob_bytes: 64 << 20,
            events: 1_000,
            fetches: 4,
        }
    }
}

/// Whether the runtime can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Not once in this life of the process.
    Never,
    Lost,
    Seen,
}

/// What plans and statuses depend on beside the workloads themselves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Common {
    pub(crate) wall_trusted: bool,
    pub(crate) runtime: String,
}

/// What waits for a transaction.
#[derive(Debug)]
pub(crate) enum Deferred {
    /// The set being committed is now the trusted one.
    Trust,
    Record(PodUid),
    EventsUpTo(u64),
}

/// Everything an edge device decides. See the crate's documentation for the contract with the pump.
#[derive(Debug)]
pub struct Agent {
    pub(crate) config: AgentConfig,
    pub(crate) rng: Rng,
    pub(crate) boot_id: Option<BootId>,
    /// When this life of the agent began, on the monotonic clock.
    pub(crate) began_ms: u64,
    pub(crate) claims: Claims,
    pub(crate) floor_ms: i64,
    pub(crate) session: Session,
    pub(crate) desired: Desired,
    pub(crate) fetches: Fetches,
    /// Blobs on disk.
    pub(crate) shelf: Shelf,
    pub(crate) keys: Keys,
    pub(crate) roster: Roster,
    /// What plans and statuses of all workloads depend on, as of when they were last made.
    pub(crate) common: Common,
    pub(crate) reach: Reach,
    pub(crate) reports: Reports,
    pub(crate) history: History,
    pub(crate) next_step: u64,
    pub(crate) pressure: Pressure,
    pub(crate) images: Images,
    pub(crate) pulls: Pulls,
    pub(crate) provenance: Provenance,
    pub(crate) commands: Commands,
    pub(crate) sampling: Sampling,
    /// Steps that were told to have ended, in this life.
    pub(crate) told: u64,
    pub(crate) stopping: bool,
    pub(crate) plan_wake: Option<u64>,
    armed: Option<u64>,
    after: AfterCommit<Deferred>,
    pub(crate) writes: Vec<Write>,
    pub(crate) deferred: Vec<Deferred>,
    /// Blobs or records may have lost their last user.
    pub(crate) sweep_due: bool,
    /// Other blobs may be missing than before.
    pub(crate) fetch_due: bool,
    pub(crate) effects: Vec<Effect>,
}

impl Agent {
    /// The earliest moment it can be now, in milliseconds since the Unix epoch: the newest that was stored, or that the hub signed (law 11).
    /// Never negative; it only rises.
    pub fn time_floor_ms(&self) -> i64 {
        self.floor_ms.max(0)
    }

    /// Keep-alive of the first CONNECT, in seconds; [`Effect::KeepAlive`] tells of every other one.
    pub fn keep_alive_s(&self) -> u16 {
        self.session.keep_alive_s()
    }

    /// Rebuilds the machine from what the store held. Nothing runs before the first [`Input::Observed`].
    ///
    /// What cannot be used of the store is reported with the first step as [`Note::Damaged`] and asked for again; it never stops work.
    /// `seed` spreads retries; the same seed and inputs give the same effects.
    pub fn new(config: AgentConfig, restored: Restored, seed: u64) -> Self {
        let mut damage = Vec::new();
        let meta: BTreeMap<String, String> = restored.meta.into_iter().collect();
        let link: LinkClass = read_meta(&meta, LINK_KEY, &mut damage).unwrap_or(config.link);
        let parties = Parties {
            hub: config.hub,
            device: config.device.clone(),
            enrolment: config.enrolment.clone(),
        };
        let trusted = restored.set.filter(|set| {
            let sound = set.items.digest() == set.digest;
            if !sound {
                damage.push("the trusted set does not have its digest".to_owned());
            }
            sound
        });
        let quarantine = read_meta(&meta, QUARANTINE_KEY, &mut damage).unwrap_or_default();
        let desired = Desired::restored(trusted, quarantine);
        let (keys, unusable) = Keys::restored(Arc::clone(&config.sealing), restored.keys);
        let last_seq = read_meta(&meta, SEQ_KEY, &mut damage).unwrap_or(0);
        let mut agent = Self {
            rng: Rng::new(seed),
            boot_id: None,
            began_ms: 0,
            claims: Claims::default(),
            floor_ms: read_meta(&meta, FLOOR_KEY, &mut damage).unwrap_or(0),
            session: Session::new(parties, link),
            desired,
            fetches: Fetches::new(config.limits.fetches),
            shelf: Shelf::new(
                read_blobs(restored.blobs, &mut damage),
                restored.objects.into_iter().collect(),
            ),
            keys,
            roster: Roster::new(read_records(restored.workloads, &mut damage)),
            common: Common::default(),
            reach: Reach::Never,
            reports: Reports::default(),
            history: History::new(restored.events, last_seq, config.limits.events),
            next_step: 1,
            pressure: Pressure::default(),
            images: Images::default(),
            pulls: Pulls::default(),
            provenance: read_meta(&meta, PULLED_KEY, &mut damage).unwrap_or_default(),
            commands: Commands::default(),
            sampling: Sampling::default(),
            told: 0,
            stopping: false,
            plan_wake: None,
            armed: None,
            after: AfterCommit::default(),
            writes: unusable,
            deferred: Vec::new(),
            sweep_due: true,
            fetch_due: true,
            effects: Vec::new(),
            config,
        };
        agent.effects.extend(
            damage
                .into_iter()
                .map(|what| Effect::Report(Note::Damaged { what })),
        );
        agent
    }

    /// Takes one thing that happened and says what to do, in order.
    ///
    /// Total: no input panics, and inputs that are lost, doubled or reordered by the link change nothing in the end. `now.mono_ms` must not
    /// go back while `now.boot_id` stays.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.mind_the_boot(&now);
        match input {
            Input::LinkUp { nonce } => {
                self.desired.drop_parts();
                self.session.link_up(nonce);
            }
            Input::LinkDown => {
                self.desired.drop_parts();
                self.session.link_down();
            }
            Input::Frame(lane, bytes) => self.frame(&now, lane, &bytes),
            Input::Blob { digest, body } => self.blob(&now, digest, body),
            Input::Observed { observed, told } => self.observe(&now, observed, told),
            Input::RuntimeDown { message } => self.lose_sight(&message),
            Input::StepEnded { step, outcome } => self.step_ended(&now, step, outcome),
            Input::Committed(tx) => {
                for deferred in self.after.committed(tx) {
                    self.release(&now, deferred);
                }
            }
            Input::Facts(facts) => self.claims.measured(*facts),
            Input::Usage(usage) => self.shed(&now, &usage),
            Input::Sampled(sample) => self.sampled(&now, sample.map(|sample| *sample)),
            Input::Wake => self.armed = None,
            Input::Stop => self.stop(&now),
        }
        if !self.stopping {
            self.reconcile(&now);
            self.tell(&now);
            self.ask_for_keys(&now);
            self.sample(&now);
        }
        self.flush(&now);
        self.arm(&now);
        std::mem::take(&mut self.effects)
    }

    /// Gives the connection up; the pump dials again.
    pub(crate) fn redial(&mut self, why: &str) {
        self.session.link_down();
        self.desired.drop_parts();
        self.effects.push(Effect::Reconnect { why: why.to_owned() });
    }

    /// Deadlines are counts on one boot's monotonic clock. After another boot nothing of them is left.
    fn mind_the_boot(&mut self, now: &Now) {
        let first = self.boot_id.is_none();
        if self.boot_id.replace(now.boot_id) == Some(now.boot_id) {
            return;
        }
        self.armed = None;
        self.began_ms = now.mono_ms;
        if first {
            // Items of the set may be newer than their records where a crash fell between two writes.
            self.settle_restored(now);
            return;
        }
        self.session.rebase(now.mono_ms);
        self.claims.rebase(now.mono_ms);
        self.reports.rebase();
        self.history.rebase();
        self.fetches.rebase(now.mono_ms);
        self.pulls.rebase();
        self.sampling.rebase();
        self.roster.each(|_, workload, _| {
            workload.failures.values_mut().for_each(|failure| {
                failure.until_ms = now.mono_ms;
                failure.fresh_until_ms = failure.fresh_until_ms.map(|_| now.mono_ms);
            });
            workload
                .crashes
                .values_mut()
                .for_each(|crash| crash.rebase(now.mono_ms));
            workload
                .health
                .values_mut()
                .for_each(|health| health.rebase(now.mono_ms));
            workload.halt_ms = None;
            Touch::Yes
        });
    }

    pub(crate) fn settle_restored(&mut self, now: &Now) {
        let in_force = self.desired.in_force();
        let rules = Rules {
            stored: &self.shelf,
            coming: None,
            features: &self.config.features,
            now,
        };
        // A manifest that came late may take the place of one that nothing names then.
        (self.sweep_due, self.fetch_due) = (true, true);
        for uid in in_force.keys() {
            self.roster.ensure(uid);
        }
        self.roster.each(|uid, workload, _| {
            let item = in_force.get(uid);
            let before = workload.record.clone();
            let touch = rules.settle(workload, item.map(|(item, _)| item), item);
            workload.disk.dirty |= workload.record != before || (item.is_some() && !workload.disk.stored);
            touch
        });
    }

    fn stop(&mut self, now: &Now) {
        if self.session.epoch().is_some() {
            self.send(now, edge_protocol::Lane::Status, edge_protocol::v1::Up::Bye);
        }
        self.stopping = true;
        self.session.link_down();
    }

    /// This moment as reports state it. The wall clock counts as trusted from the newest time a verified signature spoke of on (law 11).
    pub(crate) fn device_time(&self, now: &Now) -> DeviceTime {
        now.device_time(self.floor_ms > 0 && now.wall_ms >= self.floor_ms)
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.effects.push(Effect::Report(note));
    }

    /// Adds an event to the history.
    pub(crate) fn event(
        &mut self,
        now: &Now,
        uid: &PodUid,
        (level, reason): (EventLevel, Reason),
        container: Option<&str>,
        message: &str,
    ) {
        let event = DeviceEvent {
            container: container.map(str::to_owned),
            ..self.event_of(now, uid, (level, reason), message)
        };
        self.tell_event(event);
    }

    /// One of the workload as a whole.
    pub(crate) fn event_of(
        &self,
        now: &Now,
        uid: &PodUid,
        (level, reason): (EventLevel, Reason),
        message: &str,
    ) -> DeviceEvent {
        DeviceEvent {
            seq: 0,
            at: self.device_time(now),
            uid: uid.clone(),
            container: None,
            level,
            reason,
            cause: None,
            message: edge_protocol::text::sanitise(message),
        }
    }

    pub(crate) fn tell_event(&mut self, event: DeviceEvent) {
        let writes = self.history.push(event);
        self.writes.extend(writes);
    }

    /// One transaction for all that this step wants on disk. It goes first: what the step does may rest on it.
    fn flush(&mut self, now: &Now) {
        self.commit_desired(now);
        if self.writes.is_empty() {
            return;
        }
        let mut deferred = std::mem::take(&mut self.deferred);
        deferred.push(Deferred::EventsUpTo(self.history.last_seq()));
        let id = self.after.begin(deferred);
        let writes = std::mem::take(&mut self.writes);
        self.effects.insert(0, Effect::Commit(Tx { id, writes }));
    }

    fn release(&mut self, now: &Now, deferred: Deferred) {
        match deferred {
            Deferred::Trust => self.trust(now),
            Deferred::EventsUpTo(seq) => self.history.committed(seq),
            Deferred::Record(uid) => {
                if let Some(workload) = self.roster.get_mut(&uid) {
                    workload.disk.writing = workload.disk.writing.saturating_sub(1);
                    workload.disk.stored = true;
                }
            }
        }
    }

    /// Asks to be woken at the earliest deadline.
    fn arm(&mut self, now: &Now) {
        let reports = self.session.epoch().and_then(|_| {
            let wishes = [
                self.reports.wake_at(),
                self.history.wake_at(),
                self.claims.wake_at(self.session.link()),
            ];
            wishes.into_iter().flatten().min()
        });
        let wishes = [
            self.session.wake_at(),
            reports,
            self.fetches.wake_at(now.mono_ms),
            self.keys.wake_at(),
            self.sampling.wake_at(),
            self.plan_wake,
        ];
        let at = wishes
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.max(now.mono_ms + 1));
        if let Some(at) = at.filter(|_| !self.stopping && at != self.armed) {
            self.armed = Some(at);
            self.effects.push(Effect::WakeAt(at));
        }
    }
}
