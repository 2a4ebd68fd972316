//! Retry delays: exponential, capped, with full jitter from a seeded generator.

/// Bounds of the delay before a retry, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub base_ms: u64,
    pub cap_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base_ms: 500,
            cap_ms: 60_000,
        }
    }
}

impl Backoff {
    /// The delay after `failures` failures in a row (at least one): uniform between 1 ms and the ceiling, which doubles up to the cap.
    /// "Full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter".
    pub fn delay_ms(self, failures: u32, random: &mut Random) -> u64 {
        let doubled = self
            .base_ms
            .saturating_mul(1 << failures.saturating_sub(1).min(20));
        1 + random.below(doubled.min(self.cap_ms).max(1))
    }
}

/// `SplitMix64`: small, seedable, good enough to spread retries, and no source of entropy.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform in `0..bound` but for a bias of at most `bound / 2^64`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_and_stops_at_the_cap() {
        let backoff = Backoff::default();
        let mut random = Random::new(7);
        let mut most = |failures| {
            (0..500)
                .map(|_| backoff.delay_ms(failures, &mut random))
                .max()
                .unwrap()
        };
        assert!((400..=500).contains(&most(1)));
        assert!((1700..=2000).contains(&most(3)));
        assert!((50_000..=60_000).contains(&most(40)));
        assert!((50_000..=60_000).contains(&most(u32::MAX)));
    }
}
