//! What is kept of devices' figures and of those who want them. No effects here.

use std::collections::BTreeMap;

use edge_protocol::v1::Stats;
use edge_protocol::{DeviceId, SessionEpoch};

use crate::io::{CallError, RequestId, StatsView};

/// How long whoever asks waits for a sample, in milliseconds.
pub(in crate::hub) const WAIT_MS: u64 = 5_000;
/// An ask that is not answered for this long, in milliseconds, was lost.
const LOST_MS: u64 = 2_000;
/// What nobody asked for this long, in milliseconds, is forgotten.
pub(in crate::hub) const FORGET_MS: u64 = 600_000;

/// By device.
#[derive(Debug, Default)]
pub(in crate::hub) struct Book {
    pub entries: BTreeMap<DeviceId, Entry>,
    /// Of all that is kept or on its way here, in bytes.
    pub weight: usize,
}

/// A device that somebody asked for.
#[derive(Debug)]
pub(in crate::hub) struct Entry {
    pub kept: Option<Kept>,
    pub coming: Option<Coming>,
    /// What the present session's device was last asked.
    pub asked: Option<Asked>,
    /// How often, and until when.
    pub wishes: BTreeMap<u64, u64>,
    pub waiters: Vec<Waiter>,
    pub wanted_ms: u64,
}

#[derive(Debug)]
pub(in crate::hub) struct Kept {
    pub view: StatsView,
    pub weight: usize,
    /// How soon after it the device said that it tells again; 0 for never.
    pub interval_ms: u64,
}

/// A sample of which parts are still missing.
#[derive(Debug)]
pub(in crate::hub) struct Coming {
    pub sample: u64,
    pub of: u32,
    pub next: u32,
    pub stats: Stats,
    pub weight: usize,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::hub) struct Asked {
    pub session: SessionEpoch,
    pub at_ms: u64,
    pub interval_ms: u64,
    pub until_ms: u64,
    pub answered: bool,
}

#[derive(Debug)]
pub(in crate::hub) struct Waiter {
    pub request: RequestId,
    pub until_ms: u64,
}

impl Entry {
    pub fn new(now_ms: u64) -> Self {
        Self {
            kept: None,
            coming: None,
            asked: None,
            wishes: BTreeMap::new(),
            waiters: Vec::new(),
            wanted_ms: now_ms,
        }
    }

    pub fn weight(&self) -> usize {
        let kept = self.kept.as_ref().map_or(0, |kept| kept.weight);
        kept + self.coming.as_ref().map_or(0, |coming| coming.weight)
    }

    pub fn is_young(&self, age_ms: u64, now_ms: u64) -> bool {
        let kept = self.kept.as_ref();
        kept.is_some_and(|kept| now_ms.saturating_sub(kept.view.heard_ms) <= age_ms)
    }

    /// The next sample is known to come later than anybody waits.
    pub fn is_far(&self, now_ms: u64) -> bool {
        let next = |kept: &Kept| kept.view.heard_ms + kept.interval_ms;
        let kept = self.kept.as_ref().filter(|kept| kept.interval_ms > 0);
        kept.is_some_and(|kept| next(kept) > now_ms + WAIT_MS)
    }

    /// What to ask the device now, if anything; it is noted as asked.
    pub fn ask(&mut self, session: SessionEpoch, now_ms: u64) -> Option<Asked> {
        self.wishes.retain(|_, until_ms| *until_ms >= now_ms);
        let interval_ms = *self.wishes.keys().next()?;
        let until_ms = self.wishes.values().copied().max()?;
        let asked = self.asked.filter(|asked| asked.session == session);
        let holds = asked.is_some_and(|asked| {
            let is_over = asked.answered && asked.until_ms < now_ms;
            let is_lost = !asked.answered && now_ms >= self.lost_ms(&asked);
            let is_short = until_ms.saturating_sub(asked.until_ms) > until_ms.saturating_sub(now_ms) / 2;
            !(is_over || is_lost || is_short || interval_ms < asked.interval_ms)
        });
        if holds {
            return None;
        }
        let ask = Asked {
            session,
            at_ms: now_ms,
            interval_ms,
            until_ms,
            answered: false,
        };
        self.asked = Some(ask);
        Some(ask)
    }

    /// When an ask without an answer is lost. The device answers when its interval is over, counted from the sample before.
    fn lost_ms(&self, asked: &Asked) -> u64 {
        let kept = self.kept.as_ref();
        let next_ms = kept.map_or(0, |kept| kept.view.heard_ms + asked.interval_ms);
        asked.at_ms.max(next_ms) + LOST_MS
    }

    /// When something of it is due.
    pub fn wake_at(&self) -> u64 {
        let waiters = self.waiters.iter().map(|waiter| waiter.until_ms).min();
        let asked = self
            .asked
            .filter(|asked| !asked.answered && !self.waiters.is_empty());
        let lost = asked.map(|asked| self.lost_ms(&asked));
        let due = waiters.into_iter().chain(lost).min();
        due.unwrap_or(self.wanted_ms + FORGET_MS)
    }

    /// The answer, now that nothing better is to be waited for.
    pub fn answer(&self, otherwise: CallError) -> Result<(), CallError> {
        self.kept.as_ref().map_or(Err(otherwise), |_| Ok(()))
    }
}

impl Book {
    /// Drops what was asked for longest ago, but for this device's, until the rest fits.
    pub fn fit(&mut self, limit: usize, but: &DeviceId) {
        while self.weight > limit {
            let others = self
                .entries
                .iter()
                .filter(|(id, entry)| *id != but && entry.weight() > 0);
            let oldest = others.min_by_key(|(_, entry)| entry.wanted_ms);
            let Some(id) = oldest.map(|(id, _)| id.clone()) else {
                return;
            };
            if let Some(entry) = self.entries.get_mut(&id) {
                self.weight = self.weight.saturating_sub(entry.weight());
                (entry.kept, entry.coming) = (None, None);
            }
        }
    }
}

/// About what it takes in memory.
pub(in crate::hub) fn weight(stats: &Stats) -> usize {
    use std::mem::size_of;

    use edge_protocol::v1::{
        ContainerStats, InterfaceStats, NetworkStats, NodeStats, VolumeStats, WorkloadStats,
    };
    /// Names, and what allocations cost.
    const NAMES: usize = 160;
    let network = |network: &Option<NetworkStats>| {
        let interfaces = network.as_ref().map_or(0, |network| network.interfaces.len());
        interfaces * (size_of::<InterfaceStats>() + NAMES)
    };
    let workloads = stats.workloads.iter().map(|workload| {
        let containers = workload.containers.len() * (size_of::<ContainerStats>() + NAMES);
        let volumes = workload.volumes.len() * (size_of::<VolumeStats>() + NAMES);
        size_of::<WorkloadStats>() + NAMES + containers + volumes + network(&workload.network)
    });
    let node = stats
        .node
        .as_ref()
        .map_or(0, |node| size_of::<NodeStats>() + network(&node.network));
    size_of::<Stats>() + node + workloads.sum::<usize>()
}
