//! What devices use, while somebody asks: the newest sample of each, in memory only, and one ask per device however many want it.
//!
//! Whoever asks once costs a device one sample. Whoever asks again soon has the device sample by itself for a while, as often as the fastest of all
//! asks, so that the next answer is there before the question. A sample is kept while its device is away, and until nobody asked for ten minutes.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_protocol::v1::{
    Down, DownFrame, LinkClass, MAX_STATS_FOR_MS, MAX_STATS_INTERVAL_MS, MAX_STATS_PARTS, Stats, StatsAsk,
    StatsReport, VERSION, ability,
};
use edge_protocol::{DeviceId, Lane, SessionEpoch, frame};

use super::timers::Timer;
use super::{Hub, Turn};
use crate::io::{CallError, DeviceState, Effect, RequestId, StatsView};

/// How long whoever asks waits for a sample, in milliseconds.
const WAIT_MS: u64 = 5_000;
/// An ask that is not answered for this long, in milliseconds, was lost.
const LOST_MS: u64 = 2_000;
/// A device samples no more often unless its owner says so (`stats.floor_s` of the agent); in milliseconds.
const FLOOR_MS: u64 = 10_000;
/// Whoever asks again within this many times the age that is young enough, asks regularly.
const REGULAR: u64 = 4;
/// For so many of its own times a regular ask is good.
const LEASE: u64 = 3;
/// What nobody asked for this long, in milliseconds, is forgotten.
const FORGET_MS: u64 = 600_000;
/// Callers that may wait for one device.
const MAX_WAITERS: usize = 64;

/// By device.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: BTreeMap<DeviceId, Entry>,
    /// Of all that is kept or on its way here, in bytes.
    weight: usize,
}

/// A device that somebody asked for.
#[derive(Debug)]
struct Entry {
    kept: Option<Kept>,
    coming: Option<Coming>,
    /// What the present session's device was last asked.
    asked: Option<Asked>,
    /// How often, and until when.
    wishes: BTreeMap<u64, u64>,
    waiters: Vec<Waiter>,
    wanted_ms: u64,
}

#[derive(Debug)]
struct Kept {
    view: StatsView,
    weight: usize,
    /// How soon after it the device said that it tells again; 0 for never.
    interval_ms: u64,
}

/// A sample of which parts are still missing.
#[derive(Debug)]
struct Coming {
    sample: u64,
    of: u32,
    next: u32,
    stats: Stats,
    weight: usize,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    session: SessionEpoch,
    at_ms: u64,
    interval_ms: u64,
    until_ms: u64,
    answered: bool,
}

#[derive(Debug)]
struct Waiter {
    request: RequestId,
    until_ms: u64,
}

impl Entry {
    fn new(now_ms: u64) -> Self {
        Self {
            kept: None,
            coming: None,
            asked: None,
            wishes: BTreeMap::new(),
            waiters: Vec::new(),
            wanted_ms: now_ms,
        }
    }

    fn weight(&self) -> usize {
        let kept = self.kept.as_ref().map_or(0, |kept| kept.weight);
        kept + self.coming.as_ref().map_or(0, |coming| coming.weight)
    }

    fn is_young(&self, age_ms: u64, now_ms: u64) -> bool {
        let kept = self.kept.as_ref();
        kept.is_some_and(|kept| now_ms.saturating_sub(kept.view.heard_ms) <= age_ms)
    }

    /// The next sample is known to come later than anybody waits.
    fn is_far(&self, now_ms: u64) -> bool {
        let next = |kept: &Kept| kept.view.heard_ms + kept.interval_ms;
        let kept = self.kept.as_ref().filter(|kept| kept.interval_ms > 0);
        kept.is_some_and(|kept| next(kept) > now_ms + WAIT_MS)
    }

    /// What to ask the device now, if anything; it is noted as asked.
    fn ask(&mut self, session: SessionEpoch, now_ms: u64) -> Option<Asked> {
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
    fn wake_at(&self) -> u64 {
        let waiters = self.waiters.iter().map(|waiter| waiter.until_ms).min();
        let asked = self
            .asked
            .filter(|asked| !asked.answered && !self.waiters.is_empty());
        let lost = asked.map(|asked| self.lost_ms(&asked));
        let due = waiters.into_iter().chain(lost).min();
        due.unwrap_or(self.wanted_ms + FORGET_MS)
    }

    /// The answer, now that nothing better is to be waited for.
    fn answer(&self, otherwise: CallError) -> Result<(), CallError> {
        self.kept.as_ref().map_or(Err(otherwise), |_| Ok(()))
    }
}

impl Book {
    /// Drops what was asked for longest ago, but for this device's, until the rest fits.
    fn fit(&mut self, limit: usize, but: &DeviceId) {
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

impl Hub {
    /// The newest sample of a device, while it is kept.
    pub fn stats(&self, id: &DeviceId) -> Option<&StatsView> {
        self.stats.entries.get(id)?.kept.as_ref().map(|kept| &kept.view)
    }

    /// Somebody wants a sample that is no older than this. The reply comes once there is one, or none is to be waited for: then the one that is kept
    /// is the best there is.
    pub(super) fn stats_wanted(&mut self, turn: &mut Turn, request: RequestId, id: &DeviceId, age_ms: u64) {
        let reply = |turn: &mut Turn, result| turn.effects.push(Effect::Reply { request, result });
        let present = |device: &&crate::device::Device| device.record.state != DeviceState::Decommissioned;
        let Some(device) = self.devices.get(id).filter(present) else {
            return reply(turn, Err(CallError::NoSuchDevice(id.clone())));
        };
        let record = &device.record;
        if device.session().is_some() && !record.features.iter().any(|word| word == ability::STATS) {
            return reply(turn, Err(CallError::NoStats(id.clone())));
        }
        let now_ms = turn.now.mono_ms;
        let (age_ms, interval_ms) = rhythm(age_ms, record.link);
        let is_connected = device.session().is_some() && device.connection.is_some();
        let entries = &mut self.stats.entries;
        let entry = entries.entry(id.clone()).or_insert_with(|| Entry::new(now_ms));
        // Those that ask at the same time are not one that asks again.
        let regular =
            entry.kept.is_some() && now_ms.saturating_sub(entry.wanted_ms) <= age_ms.saturating_mul(REGULAR);
        entry.wanted_ms = now_ms;
        let is_young = entry.is_young(age_ms, now_ms);
        if regular || !is_young {
            let lease_ms = if regular { LEASE * age_ms } else { 0 };
            let until_ms = now_ms + lease_ms.min(MAX_STATS_FOR_MS);
            let wish = entry.wishes.entry(interval_ms).or_insert(until_ms);
            *wish = until_ms.max(*wish);
        }
        let result = if !is_connected {
            Some(entry.answer(CallError::NotConnected(id.clone())))
        } else if is_young || entry.is_far(now_ms) {
            Some(Ok(()))
        } else if entry.waiters.len() >= MAX_WAITERS {
            let (what, limit) = ("callers that wait for what one device uses", MAX_WAITERS);
            Some(entry.answer(CallError::LimitReached { what, limit }))
        } else {
            entry.waiters.push(Waiter {
                request,
                until_ms: now_ms + WAIT_MS,
            });
            None
        };
        if let Some(result) = result {
            reply(turn, result);
        }
        self.ask_stats(turn, id);
        self.mind_stats_timer(id);
    }

    /// Tells the device how often and how long it is to sample, if it does not know.
    fn ask_stats(&mut self, turn: &mut Turn, id: &DeviceId) {
        let (Some(device), Some(entry)) = (self.devices.get(id), self.stats.entries.get_mut(id)) else {
            return;
        };
        let (Some(connection), Some(session)) = (device.connection, device.session()) else {
            return;
        };
        let Some(asked) = entry.ask(session.epoch, turn.now.mono_ms) else {
            return;
        };
        let ask = DownFrame {
            v: VERSION,
            body: Down::StatsAsk(StatsAsk {
                nonce: session.nonce.clone(),
                session: session.epoch,
                interval_ms: asked.interval_ms,
                for_ms: asked.until_ms.saturating_sub(turn.now.mono_ms),
            }),
        };
        turn.after.push(Effect::Send {
            device: id.clone(),
            connection,
            lane: Lane::Command,
            bytes: frame::encode(&ask).expect("a few numbers fit a frame"),
        });
    }

    /// A part of a sample. Parts come in order, or the sample is not whole.
    pub(super) fn stats_report(&mut self, turn: &mut Turn, id: &DeviceId, report: StatsReport) {
        let rates = &self.config.limits.rates;
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        if !device.allowance.stats(rates, &turn.now) {
            return turn.surplus(id, "stats");
        }
        let session = device.session().map(|session| session.epoch);
        let entry = self.stats.entries.get_mut(id);
        let Some(entry) =
            entry.filter(|entry| entry.asked.is_some_and(|asked| Some(asked.session) == session))
        else {
            return self.refuse(turn, id, "it tells what it uses, which nobody asked");
        };
        let StatsReport {
            sample,
            part,
            of,
            interval_ms,
            stats,
        } = report;
        if of > MAX_STATS_PARTS || part >= of {
            return self.refuse(turn, id, format!("part {part} of {of} of what it uses"));
        }
        let mut stats = stats.bounded();
        stats.workloads.retain(|workload| device.may_have(&workload.uid));
        let before = entry.weight();
        let coming = entry.coming.take();
        let goes_on =
            |coming: &Coming| part > 0 && (coming.sample, coming.of, coming.next) == (sample, of, part);
        let coming = coming.filter(goes_on);
        if coming.is_none() && part > 0 {
            // Of a sample that has lost a part.
            self.stats.weight = self.stats.weight + entry.weight() - before;
            return;
        }
        let weight = weight(&stats);
        let coming = match coming {
            None => Coming {
                sample,
                of,
                next: 1,
                stats,
                weight,
            },
            Some(mut coming) => {
                coming.next += 1;
                coming.stats.workloads.append(&mut stats.workloads);
                coming.weight += weight;
                coming
            }
        };
        if coming.next == of {
            let view = StatsView {
                stats: Arc::new(coming.stats),
                heard_ms: turn.now.mono_ms,
                heard_wall_ms: turn.now.wall_ms,
            };
            entry.kept = Some(Kept {
                view,
                weight: coming.weight,
                interval_ms,
            });
            if let Some(asked) = &mut entry.asked {
                asked.answered = true;
            }
            for Waiter { request, .. } in std::mem::take(&mut entry.waiters) {
                turn.effects.push(Effect::Reply {
                    request,
                    result: Ok(()),
                });
            }
        } else {
            entry.coming = Some(coming);
        }
        self.stats.weight = self.stats.weight + entry.weight() - before;
        self.stats.fit(self.config.limits.stats_bytes, id);
        self.mind_stats_timer(id);
    }

    /// Its session has ended: nobody waits for it any more.
    pub(super) fn end_stats(&mut self, turn: &mut Turn, id: &DeviceId) {
        let Some(entry) = self.stats.entries.get_mut(id) else {
            return;
        };
        self.stats.weight = self.stats.weight.saturating_sub(entry.weight());
        (entry.asked, entry.coming) = (None, None);
        self.stats.weight += entry.weight();
        for Waiter { request, .. } in std::mem::take(&mut entry.waiters) {
            let result = entry.answer(CallError::NotConnected(id.clone()));
            turn.effects.push(Effect::Reply { request, result });
        }
        self.mind_stats_timer(id);
    }

    /// What was kept is of a device that is no more.
    pub(super) fn drop_stats(&mut self, turn: &mut Turn, id: &DeviceId) {
        self.end_stats(turn, id);
        if let Some(entry) = self.stats.entries.remove(id) {
            self.stats.weight = self.stats.weight.saturating_sub(entry.weight());
        }
        self.timers.cancel(&Timer::Stats(id.clone()));
    }

    pub(super) fn stats_due(&mut self, turn: &mut Turn, id: &DeviceId) {
        let now_ms = turn.now.mono_ms;
        let Some(entry) = self.stats.entries.get_mut(id) else {
            return;
        };
        let waiters = std::mem::take(&mut entry.waiters);
        let (over, waiting): (Vec<_>, _) = waiters.into_iter().partition(|waiter| waiter.until_ms <= now_ms);
        entry.waiters = waiting;
        for Waiter { request, .. } in over {
            let result = entry.answer(CallError::NotAnswered(id.clone()));
            turn.effects.push(Effect::Reply { request, result });
        }
        if entry.waiters.is_empty() {
            if now_ms >= entry.wanted_ms + FORGET_MS {
                return self.drop_stats(turn, id);
            }
        } else {
            // What they wait for is wished for until they have it.
            let interval_ms = entry.asked.map_or(FLOOR_MS, |asked| asked.interval_ms);
            entry.wishes.entry(interval_ms).or_insert(now_ms);
            self.ask_stats(turn, id);
        }
        self.mind_stats_timer(id);
    }

    fn mind_stats_timer(&mut self, id: &DeviceId) {
        if let Some(entry) = self.stats.entries.get(id) {
            self.timers.set(Timer::Stats(id.clone()), entry.wake_at());
        }
    }
}

/// The age that is young enough, which no link is asked to beat, and how often to sample for it. Of each power of two there is one, so that
/// a device is asked few different things.
fn rhythm(age_ms: u64, link: LinkClass) -> (u64, u64) {
    let floor_ms = FLOOR_MS.max(link.stats_floor_ms());
    let age_ms = age_ms.clamp(floor_ms, MAX_STATS_INTERVAL_MS);
    let mut interval_ms = floor_ms;
    while interval_ms * 2 <= age_ms / 2 {
        interval_ms *= 2;
    }
    (age_ms, interval_ms)
}

/// About what it takes in memory.
fn weight(stats: &Stats) -> usize {
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
