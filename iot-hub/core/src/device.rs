//! The Device machine: one device's desired set, its session, its acknowledgements and its last word.
//!
//! It knows nothing of deployments, conditions or other devices. [`Hub`](crate::Hub) edits the set with [`Device::put`] and
//! [`Device::forget`], closes an edit with [`Device::bump`], and asks [`Device::offer`] what to tell the device next.
//!
//! At most one offer is under way per session: what changes meanwhile waits, and goes as one delta once the offer is acknowledged.
//! That bounds memory and makes bursts cheap. An idle device holds its record, one set and a few numbers (≤ 4 KiB, tested).

mod offer;
mod quarantine;
mod rates;
mod session;

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::Rung;
use edge_protocol::{
    DeploymentRevision, DesiredSet, Digest, Incarnation, ItemState, Now, PodUid, SetGeneration, SetItem,
};

use crate::condition::Subject;
use crate::io::{ConnectionId, DeviceRecord, DeviceView, RefusedSet, SetRecord};

pub(crate) use offer::{Need, Offered, Part};
pub(crate) use quarantine::Quarantine;
pub(crate) use rates::Allowance;
pub use rates::{Rate, Rates};
pub(crate) use session::{AckOutcome, Greeting, Session};

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) record: DeviceRecord,
    items: DesiredSet,
    generation: SetGeneration,
    digest: Digest,
    acknowledged: Acknowledged,
    /// Workloads that no statement sent so far has named: the device cannot hold them.
    unsent: BTreeSet<PodUid>,
    /// Items that are to run.
    running: usize,
    pub(crate) quarantine: Quarantine,
    pub(crate) allowance: Allowance,
    /// The set that it refuses whole, and since when.
    refused: Option<RefusedSet>,
    pub(crate) connection: Option<ConnectionId>,
    session: Option<Box<Session>>,
    last_word: Option<Word>,
}

/// What the device last said it has on disk.
#[derive(Debug)]
enum Acknowledged {
    Nothing,
    /// The present set; not stored twice.
    Current,
    Older(Box<(SetGeneration, DesiredSet)>),
}

#[derive(Debug, Clone, Copy)]
struct Word {
    mono_ms: u64,
    wall_ms: i64,
}

impl Device {
    /// A device that was never told anything.
    pub(crate) fn new(record: DeviceRecord, incarnation: Incarnation) -> Self {
        let set = SetRecord {
            generation: SetGeneration { incarnation, n: 1 },
            items: DesiredSet::default(),
            acknowledged: None,
        };
        Self::from_record(record, set)
    }

    /// A device as the store held it. Whether its items were ever sent is unknown then, so all of them count as sent. One that was
    /// not offline is presumed to be there until its deadline, counted from now.
    pub(crate) fn restored(record: DeviceRecord, set: SetRecord, now: &Now) -> Self {
        let mut device = Self::from_record(record, set);
        if let Some(wall_ms) = device.record.last_seen_ms.filter(|_| !device.record.offline) {
            device.last_word = Some(Word {
                mono_ms: now.mono_ms,
                wall_ms,
            });
        }
        device
    }

    fn from_record(record: DeviceRecord, set: SetRecord) -> Self {
        let acknowledged = match set.acknowledged {
            None => Acknowledged::Nothing,
            Some((generation, items)) if generation == set.generation && items == set.items => {
                Acknowledged::Current
            }
            Some(older) => Acknowledged::Older(Box::new(older)),
        };
        Self {
            record,
            running: set.items.iter().filter(|item| runs(item)).count(),
            digest: set.items.digest(),
            items: set.items,
            generation: set.generation,
            acknowledged,
            unsent: BTreeSet::new(),
            quarantine: Quarantine::default(),
            allowance: Allowance::default(),
            refused: None,
            connection: None,
            session: None,
            last_word: None,
        }
    }

    /// Another machine takes over the id. Its generation goes on, so that nothing older can pass for newer.
    pub(crate) fn begin_anew(&mut self, record: DeviceRecord) {
        let set = SetRecord {
            generation: self.generation,
            items: std::mem::take(&mut self.items),
            acknowledged: None,
        };
        *self = Self::from_record(record, set);
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            id: &self.record.id,
            group: &self.record.group,
            tags: &self.record.tags,
            facts: &self.record.facts,
        }
    }

    // The set.

    pub(crate) fn items(&self) -> &DesiredSet {
        &self.items
    }

    pub(crate) fn generation(&self) -> SetGeneration {
        self.generation
    }

    pub(crate) fn put(&mut self, item: SetItem) {
        self.keep_acknowledged();
        if self.items.get(&item.uid).is_none() {
            self.unsent.insert(item.uid.clone());
        }
        self.running += usize::from(runs(&item));
        self.running -= usize::from(self.items.get(&item.uid).is_some_and(runs));
        self.items.put(item);
    }

    pub(crate) fn forget(&mut self, uid: &PodUid) -> Option<SetItem> {
        self.items.get(uid)?;
        self.keep_acknowledged();
        self.unsent.remove(uid);
        let forgotten = self.items.forget(uid);
        self.running -= usize::from(forgotten.as_ref().is_some_and(runs));
        forgotten
    }

    /// How many workloads it is to run, orphans among them.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// What may run on the device: all that it last acknowledged and was not to stop, and all that its set names now, each with
    /// what is asked of it, if anything is.
    pub(crate) fn may_run(&self) -> BTreeMap<PodUid, Option<ItemState>> {
        let held = self.acknowledged().into_iter().flat_map(|(_, set)| set.iter());
        held.filter(|item| item.state != ItemState::Stop)
            .map(|item| (item.uid.clone(), None))
            .chain(self.items.iter().map(|item| (item.uid.clone(), Some(item.state))))
            .collect()
    }

    /// Whether the device may have been told of this workload: by this hub, or by what this hub was before it was restored.
    pub(crate) fn may_hold(&self, uid: &PodUid, incarnation: Incarnation) -> bool {
        let from_before = self
            .acknowledged()
            .is_some_and(|(generation, _)| generation.incarnation < incarnation);
        let told = !self.unsent.contains(uid) || self.quarantine.holds(uid) || from_before;
        self.items.get(uid).is_some() && told
    }

    /// The highest version of this workload's item that this hub knows the device may hold: the present one's, and that of what it last
    /// acknowledged, which it holds until it hears that the item is forgotten.
    pub(crate) fn newest_revision(&self, uid: &PodUid) -> Option<DeploymentRevision> {
        let acknowledged = self.acknowledged().and_then(|(_, set)| set.get(uid));
        let items = [self.items.get(uid), acknowledged];
        items.into_iter().flatten().map(|item| item.revision).max()
    }

    /// Whether the workload is in its set, or in what it last acknowledged.
    pub(crate) fn may_have(&self, uid: &PodUid) -> bool {
        let is_in = |set: &DesiredSet| set.get(uid).is_some();
        is_in(&self.items) || self.acknowledged().is_some_and(|(_, set)| is_in(set))
    }

    /// Ends an edit: the set as it is now gets the next generation of this incarnation.
    pub(crate) fn bump(&mut self, incarnation: Incarnation) {
        self.keep_acknowledged();
        let n = if self.generation.incarnation == incarnation {
            self.generation.n + 1
        } else {
            1
        };
        self.generation = SetGeneration { incarnation, n };
        self.digest = self.items.digest();
    }

    /// Before the present set changes, the acknowledged one becomes a value of its own.
    fn keep_acknowledged(&mut self) {
        if matches!(self.acknowledged, Acknowledged::Current) {
            self.acknowledged = Acknowledged::Older(Box::new((self.generation, self.items.clone())));
        }
    }

    fn acknowledged(&self) -> Option<(SetGeneration, &DesiredSet)> {
        match &self.acknowledged {
            Acknowledged::Nothing => None,
            Acknowledged::Current => Some((self.generation, &self.items)),
            Acknowledged::Older(older) => Some((older.0, &older.1)),
        }
    }

    pub(crate) fn set_record(&self) -> SetRecord {
        SetRecord {
            generation: self.generation,
            items: self.items.clone(),
            acknowledged: self
                .acknowledged()
                .map(|(generation, items)| (generation, items.clone())),
        }
    }

    /// Whether the device has said that it persisted the present item of this workload.
    pub(crate) fn has_persisted(&self, uid: &PodUid) -> bool {
        let item = self.items.get(uid);
        item.is_some() && self.acknowledged().is_some_and(|(_, set)| set.get(uid) == item)
    }

    /// The rung that acknowledgements alone give the workload.
    pub(crate) fn acknowledged_rung(&self, uid: &PodUid) -> Rung {
        let Some(item) = self.items.get(uid) else {
            return Rung::Targeted;
        };
        // A running workload that becomes an orphan, or back, is the same workload.
        let same = |other: &SetItem| {
            other.digest == item.digest && (other.state == ItemState::Stop) == (item.state == ItemState::Stop)
        };
        if self
            .acknowledged()
            .and_then(|(_, set)| set.get(uid))
            .is_some_and(same)
        {
            return Rung::Persisted;
        }
        match self.session.as_deref().and_then(Session::received) {
            Some(set) if set.get(uid).is_some_and(same) => Rung::Received,
            _ => Rung::Targeted,
        }
    }

    // Liveness.

    pub(crate) fn is_online(&self) -> bool {
        !self.record.offline
    }

    pub(crate) fn hear(&mut self, now: &Now) {
        self.last_word = Some(Word {
            mono_ms: now.mono_ms,
            wall_ms: now.wall_ms,
        });
    }

    /// When silence begins to count, by the monotonic clock.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.last_word
            .map(|word| word.mono_ms.saturating_add(self.record.link.deadline_ms()))
    }

    pub(crate) fn last_seen_ms(&self) -> Option<i64> {
        self.last_word
            .map(|word| word.wall_ms)
            .or(self.record.last_seen_ms)
    }

    pub(crate) fn view(&self) -> DeviceView {
        DeviceView {
            record: self.record.clone(),
            connected: self.connection.is_some(),
            online: self.is_online(),
            last_seen_ms: self.last_seen_ms(),
            generation: self.generation,
            acknowledged: self.acknowledged().map(|(generation, _)| generation),
            quarantine: self.quarantine.iter().cloned().collect(),
            refused: self.refused,
            surplus: self.allowance.surplus(),
        }
    }
}

fn runs(item: &SetItem) -> bool {
    item.state != ItemState::Stop
}

#[cfg(test)]
mod tests;
