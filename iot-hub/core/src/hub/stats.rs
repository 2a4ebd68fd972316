//! What devices use, while somebody asks: the newest sample of each, in memory only, and one ask per device however many want it.
//!
//! Whoever asks once costs a device one sample. Whoever asks again soon has the device sample by itself for a while, as often as the fastest of all
//! asks, so that the next answer is there before the question. A sample is kept while its device is away, and until nobody asked for ten minutes.

mod book;

use std::sync::Arc;

use edge_protocol::v1::{
    Down, DownFrame, LinkClass, MAX_STATS_FOR_MS, MAX_STATS_INTERVAL_MS, MAX_STATS_PARTS, StatsAsk,
    StatsReport, VERSION, ability,
};
use edge_protocol::{DeviceId, Lane, frame};

pub(super) use book::Book;
use book::{Coming, Entry, FORGET_MS, Kept, WAIT_MS, Waiter, weight};

use super::timers::Timer;
use super::{Hub, Turn};
use crate::io::{CallError, DeviceState, Effect, RequestId, StatsView};

/// A device samples no more often unless its owner says so (`stats.floor_s` of the agent); in milliseconds.
const FLOOR_MS: u64 = 10_000;
/// Whoever asks again within this many times the age that is young enough, asks regularly.
const REGULAR: u64 = 4;
/// For so many of its own times a regular ask is good.
const LEASE: u64 = 3;
/// Callers that may wait for one device.
const MAX_WAITERS: usize = 64;

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
