//! Capped exponential pauses with full jitter (each uniformly between nothing and its bound), so that many clients of a
//! returning hub do not return in step.

use std::time::Duration;

const BASE: Duration = Duration::from_millis(250);

/// The pause before attempt `attempt`; 0 is the first and has none.
pub(crate) fn pause(attempt: u32, cap: Duration) -> Duration {
    bound(attempt, cap).mul_f64(rand::random::<f64>())
}

fn bound(attempt: u32, cap: Duration) -> Duration {
    match attempt.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => BASE
            .saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(cap),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap() {
        let cap = Duration::from_secs(10);
        for (attempt, millis) in [(0, 0), (1, 250), (2, 500), (6, 8000), (7, 10_000), (1000, 10_000)] {
            assert_eq!(bound(attempt, cap), Duration::from_millis(millis), "{attempt}");
            assert!(pause(attempt, cap) <= bound(attempt, cap));
        }
    }
}
