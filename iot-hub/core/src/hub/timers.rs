//! Deadlines on the monotonic clock. What comes due is looked at again, never believed: a timer only wakes.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::{DeviceId, PodUid};

use super::{Hub, Turn};
use crate::io::StreamId;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The device may have been silent for too long.
    Liveness(DeviceId),
    /// An offer may have been lost.
    Resend(DeviceId),
    /// A late joiner counts from now on.
    Join(PodUid, DeviceId),
    /// The device may not come with the ticket any more.
    Ticket(StreamId),
    /// Somebody waits for what the device uses, or nobody has wanted it for long.
    Stats(DeviceId),
}

/// At most one moment per timer.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(u64, Timer)>,
    by_timer: BTreeMap<Timer, u64>,
    /// The moment last asked of the pump.
    asked: Option<u64>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: u64) {
        self.cancel(&timer);
        self.by_time.insert((at, timer.clone()));
        self.by_timer.insert(timer, at);
    }

    /// Sets the timer unless it is set: so that a stream of frames does not move its device's timer each time.
    pub(super) fn set_once(&mut self, timer: Timer, at: u64) {
        if !self.by_timer.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.by_timer.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }

    fn due(&mut self, now: u64) -> Option<Timer> {
        self.by_time.first().filter(|(at, _)| *at <= now)?;
        let (_, timer) = self.by_time.pop_first()?;
        self.by_timer.remove(&timer);
        Some(timer)
    }

    /// The pump woke the machine: whatever it was asked for is used up, even if it came early.
    pub(super) fn woken(&mut self) {
        self.asked = None;
    }

    /// The next moment, if the pump does not know it yet.
    pub(super) fn news(&mut self) -> Option<u64> {
        let next = self.by_time.first().map(|(at, _)| *at);
        if next == self.asked {
            return None;
        }
        self.asked = next;
        next
    }
}

impl Hub {
    pub(super) fn run_timers(&mut self, turn: &mut Turn) {
        while let Some(timer) = self.timers.due(turn.now.mono_ms) {
            match timer {
                Timer::Liveness(id) => self.check_liveness(turn, &id),
                Timer::Resend(id) => {
                    turn.offers.insert(id);
                }
                Timer::Join(uid, id) => self.count_joiner(turn, &uid, &id),
                Timer::Ticket(stream) => self.expire_ticket(turn, stream),
                Timer::Stats(id) => self.stats_due(turn, &id),
            }
        }
    }

    fn check_liveness(&mut self, turn: &mut Turn, id: &DeviceId) {
        let Some(device) = self.devices.get(id) else {
            return;
        };
        if device.is_past_deadline(&turn.now) {
            self.set_online(turn, id, false);
        } else if let Some(deadline) = device.deadline() {
            self.timers.set(Timer::Liveness(id.clone()), deadline);
        }
    }

    fn count_joiner(&mut self, turn: &mut Turn, uid: &PodUid, id: &DeviceId) {
        let assignment = self
            .fleet
            .get_mut(uid)
            .and_then(|deployment| deployment.assignment_mut(id));
        if let Some(assignment) = assignment.filter(|assignment| !assignment.counted) {
            assignment.counted = true;
            turn.assignment_changed(uid, id);
            self.refresh(turn, uid, id);
        }
    }
}
