//! The brake of law 2: how many workloads may be removed by inference alone in a stretch of time.

use std::collections::VecDeque;

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
    passed: VecDeque<u64>,
}

impl BrakeState {
    /// How many more may pass at `now_ms`, with `active` deployments before any of this window's removals.
    pub fn allowance(&mut self, brake: Brake, active: usize, now_ms: u64) -> usize {
        while self
            .passed
            .front()
            .is_some_and(|at| now_ms.saturating_sub(*at) >= brake.window_ms)
        {
            self.passed.pop_front();
        }
        brake.limit(active).saturating_sub(self.passed.len())
    }

    pub fn record(&mut self, now_ms: u64) {
        self.passed.push_back(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides() {
        let mut state = BrakeState::default();
        let brake = Brake::default();
        for _ in 0..5 {
            state.record(1_000);
        }
        assert_eq!(state.allowance(brake, 40, 2_000), 0);
        assert_eq!(state.allowance(brake, 100, 2_000), 5);
        assert_eq!(state.allowance(brake, 40, 600_999), 0);
        assert_eq!(state.allowance(brake, 40, 601_000), 5);
    }
}
