//! The machine's beginning: what the store held, put back in its places.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::{Tombstone, TombstoneReason};
use edge_protocol::{AfterCommit, DeviceId, Incarnation, ItemState, Now, SetItem};

use super::blobs::Blobs;
use super::keys::Keys;
use super::objects::Bodies;
use super::stats::Book;
use super::streams::Streams;
use super::timers::{Timer, Timers};
use super::waiting::Waiting;
use super::{Hub, HubConfig, Turn};
use crate::device::{Allowance, Device};
use crate::fleet::{Assignment, Deployment, DeviceIndex, Fleet, Outline, Role, Target};
use crate::io::{AssignmentRecord, DeploymentRecord, DeviceState, Note, Restored, SetRecord};

impl Hub {
    /// A hub that goes on where the store stands. Its first effects (its incarnation, timers) come with its first step: begin with
    /// [`Input::Wake`](crate::Input::Wake).
    ///
    /// `seed` makes the spread of repeats; equal seeds, stores and inputs give equal effects.
    pub fn new(config: HubConfig, restored: Restored, seed: u64, now: Now) -> Self {
        let wall = u64::try_from(now.wall_ms).unwrap_or(0).max(1);
        let mut turn = Turn::new(now);
        turn.incarnation = restored.incarnation.is_none();
        let mut hub = Self {
            config,
            incarnation: restored.incarnation.unwrap_or(Incarnation(wall)),
            devices: BTreeMap::new(),
            device_index: DeviceIndex::default(),
            fleet: Fleet::default(),
            blobs: Blobs::restored(restored.blobs),
            keys: Keys::restored(restored.key_wraps),
            timers: Timers::default(),
            waiting: Waiting::default(),
            streams: Streams::default(),
            stats: Book::default(),
            strangers: Allowance::default(),
            after: AfterCommit::default(),
            pending: None,
            random: seed,
        };
        hub.restore_devices(&mut turn, restored.devices, restored.sets);
        for record in restored.deployments {
            hub.restore_deployment(&mut turn, record);
        }
        hub.restore_assignments(&mut turn, restored.assignments);
        turn.wraps.extend(hub.keys.drop_unnamed());
        let idle: BTreeSet<_> = hub.blobs.idle().collect();
        turn.blobs.extend(idle);
        // The figures of a restored hub are no change.
        turn.announced.clear();
        hub.pending = Some(turn);
        hub
    }

    fn restore_devices(
        &mut self,
        turn: &mut Turn,
        devices: Vec<crate::io::DeviceRecord>,
        sets: Vec<(DeviceId, SetRecord)>,
    ) {
        let mut sets: BTreeMap<DeviceId, SetRecord> = sets.into_iter().collect();
        for record in devices {
            let id = record.id.clone();
            if record.state != DeviceState::Decommissioned {
                self.device_index.insert(&record);
            }
            let device = match sets.remove(&id) {
                Some(set) => Device::restored(record, set, &turn.now),
                None => Device::new(record, self.incarnation),
            };
            for item in device.items().iter() {
                self.blobs.hold_stored(&item.digest);
            }
            if let Some(deadline) = device.deadline() {
                self.timers.set(Timer::Liveness(id.clone()), deadline);
            }
            self.devices.insert(id, device);
        }
    }

    /// What this build cannot read keeps its devices and their work as they are (law 2).
    fn restore_deployment(&mut self, turn: &mut Turn, record: DeploymentRecord) {
        let uid = record.spec.uid.clone();
        let mut unreadable = |why: String| {
            turn.note(Note::Unreadable {
                uid: uid.clone(),
                why,
            });
        };
        let target = Target::parse(&record.spec.target).unwrap_or_else(|error| {
            unreadable(error.to_string());
            Target::unreadable()
        });
        let outline = Outline::parse(&record.spec, usize::MAX).unwrap_or_else(|error| {
            unreadable(error.to_string());
            Outline::unreadable()
        });
        let mut deployment = Deployment::new(record, target, outline);
        self.hold_blobs(turn, &mut deployment, &Bodies::new());
        self.fleet.insert(deployment);
        turn.checks.insert(uid);
    }

    fn restore_assignments(&mut self, turn: &mut Turn, records: Vec<AssignmentRecord>) {
        for record in records {
            let (uid, id) = (record.uid.clone(), record.device.clone());
            let item = self.devices.get(&id).and_then(|device| device.items().get(&uid));
            let role = match item {
                Some(item) => self.restored_role(item),
                None if record.superseded => Role::Left,
                None if record.waiting => Role::Waiting,
                None => {
                    // A row without an item asks nothing of the device.
                    turn.assignments.insert((uid, id));
                    continue;
                }
            };
            if let Some(deployment) = self.fleet.get_mut(&uid) {
                if !record.counted {
                    let waited = u64::try_from(turn.now.wall_ms.saturating_sub(record.since_ms)).unwrap_or(0);
                    let left = self.config.join_deadline_ms.saturating_sub(waited);
                    let at = turn.now.mono_ms.saturating_add(left);
                    self.timers.set(Timer::Join(uid.clone(), id.clone()), at);
                }
                if role == Role::Waiting {
                    self.waiting.insert(&id, record.since_ms, &uid);
                }
                deployment.assign(id.clone(), Assignment::restored(record, role));
                self.refresh(turn, &uid, &id);
            }
        }
    }

    fn restored_role(&self, item: &SetItem) -> Role {
        match item.state {
            ItemState::Run => Role::Run,
            ItemState::Orphan => Role::Orphan,
            ItemState::Stop => {
                let body = self.blobs.get(&item.digest);
                let tombstone = body.and_then(|body| serde_json::from_str::<Tombstone>(body).ok());
                Role::Stop {
                    reason: tombstone
                        .as_ref()
                        .map_or(TombstoneReason::Deleted, |tombstone| tombstone.reason),
                    grace_period_s: tombstone.and_then(|tombstone| tombstone.grace_period_s),
                }
            }
        }
    }
}
