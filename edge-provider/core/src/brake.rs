//! The brake of law 2: how many workloads may be removed by inference alone in a stretch of time.

use std::collections::VecDeque;

use edge_protocol::Now;

use crate::memory::Removed;

/// How many inferred removals pass before a person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake {
    /// Workloads that always pass per window.
    pub workloads: usize,
    /// Per cent of the active deployments that pass per window, when that is more.
    pub percent: usize,
    pub window_ms: u64,
}

impl Default for Brake {
    fn default() -> Self {
        Self {
            workloads: 5,
            percent: 10,
            window_ms: 600_000,
        }
    }
}

impl Brake {
    /// How many pass per window while `active` deployments are held.
    pub fn limit(self, active: usize) -> usize {
        self.workloads.max(active.saturating_mul(self.percent) / 100)
    }
}

/// The removals that passed inside the window.
#[derive(Debug, Default)]
pub struct BrakeState {
    passed: VecDeque<Passed>,
    /// Of an earlier process, not yet placed on this one's monotonic clock.
    restored: Vec<Removed>,
}

/// Removals of one instant.
#[derive(Debug)]
struct Passed {
    /// When they no longer count, by the monotonic clock.
    until: u64,
    removed: Removed,
}

impl BrakeState {
    /// With the removals that an earlier process let pass.
    pub fn restored(removed: Vec<Removed>) -> Self {
        Self {
            passed: VecDeque::new(),
            restored: removed,
        }
    }

    /// How many more may pass now, with `active` deployments before any of this window's removals.
    pub fn allowance(&mut self, brake: Brake, active: usize, now: Now) -> usize {
        self.place_restored(brake, now);
        while self
            .passed
            .front()
            .is_some_and(|passed| now.mono_ms >= passed.until)
        {
            self.passed.pop_front();
        }
        let passed = self.passed.iter().map(|passed| passed.removed.count);
        brake
            .limit(active)
            .saturating_sub(passed.fold(0, usize::saturating_add))
    }

    pub fn record(&mut self, brake: Brake, now: Now) {
        match self.passed.back_mut() {
            Some(last) if last.removed.at_ms == now.wall_ms => last.removed.count += 1,
            _ => self.passed.push_back(Passed {
                until: now.mono_ms.saturating_add(brake.window_ms),
                removed: Removed {
                    at_ms: now.wall_ms,
                    count: 1,
                },
            }),
        }
    }

    /// What a later process needs to know.
    pub fn removed(&self) -> Vec<Removed> {
        let placed = self.passed.iter().map(|passed| passed.removed);
        self.restored.iter().copied().chain(placed).collect()
    }

    /// The wall clock says how much of the window is left. One that went back counts as a removal of this instant (law 11).
    fn place_restored(&mut self, brake: Brake, now: Now) {
        for mut removed in std::mem::take(&mut self.restored) {
            removed.at_ms = removed.at_ms.min(now.wall_ms);
            let age = u64::try_from(now.wall_ms.saturating_sub(removed.at_ms)).unwrap_or(0);
            let until = now.mono_ms.saturating_add(brake.window_ms.saturating_sub(age));
            self.passed.push_back(Passed { until, removed });
        }
    }
}

#[cfg(test)]
mod tests {
    use edge_protocol::BootId;

    use super::*;

    fn at(mono_ms: u64, wall_ms: i64) -> Now {
        Now {
            mono_ms,
            wall_ms,
            boot_id: BootId(uuid::Uuid::nil()),
        }
    }

    #[test]
    fn the_window_slides() {
        let mut state = BrakeState::default();
        let brake = Brake::default();
        for _ in 0..5 {
            state.record(brake, at(1_000, 0));
        }
        assert_eq!(state.removed(), [Removed { at_ms: 0, count: 5 }]);
        assert_eq!(state.allowance(brake, 40, at(2_000, 0)), 0);
        assert_eq!(state.allowance(brake, 100, at(2_000, 0)), 5);
        assert_eq!(state.allowance(brake, 40, at(600_999, 0)), 0);
        assert_eq!(state.allowance(brake, 40, at(601_000, 0)), 5);
    }

    #[test]
    fn a_restart_neither_empties_the_window_nor_begins_it_anew() {
        let brake = Brake::default();
        let removed = vec![Removed {
            at_ms: 1_000_000,
            count: 5,
        }];
        let restored = || BrakeState::restored(removed.clone());
        // (wall clock at start, when the window is over by the new process' monotonic clock)
        for (wall_ms, over_ms) in [(1_400_000, 200_000), (1_700_000, 0), (5, 600_000)] {
            let mut state = restored();
            assert_eq!(
                state.allowance(brake, 40, at(0, wall_ms)),
                if over_ms == 0 { 5 } else { 0 }
            );
            assert_eq!(state.allowance(brake, 40, at(over_ms, wall_ms)), 5, "{wall_ms}");
            if over_ms > 0 {
                let mut state = restored();
                state.allowance(brake, 40, at(0, wall_ms));
                assert_eq!(
                    state.allowance(brake, 40, at(over_ms - 1, wall_ms)),
                    0,
                    "{wall_ms}"
                );
            }
        }
    }
}
