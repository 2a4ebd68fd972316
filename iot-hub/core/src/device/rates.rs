//! What one device may make the hub do per minute (law 8). A flooding device spends its own allowance, and nobody else's.

use edge_protocol::Now;

use crate::io::Surplus;

/// So many at once, and so many per minute for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub burst: u32,
    pub per_minute: u32,
}

/// The rates of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Sessions begun.
    pub hellos: Rate,
    /// Status reports taken; one that is not taken is not acknowledged, and its content comes again.
    pub statuses: Rate,
    /// Events taken; the others are not acknowledged, and come again.
    pub events: Rate,
    /// Parts of samples of what it uses.
    pub stats: Rate,
    /// Refusals that are told one by one.
    pub refusals: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        let rate = |burst, per_minute| Rate { burst, per_minute };
        Self {
            hellos: rate(30, 30),
            statuses: rate(300, 300),
            // A device that was dark for long has thousands to tell.
            events: rate(4_096, 1_024),
            // Of a thousand workloads, as often as the floor of agents allows.
            stats: rate(128, 256),
            refusals: rate(20, 10),
        }
    }
}

const MINUTE_MS: u64 = 60_000;

/// A bucket that is full at the beginning. It holds what was taken and is not yet refilled, in parts of which one is [`MINUTE_MS`].
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    spent: u64,
    at_ms: u64,
}

impl Bucket {
    /// Takes up to `wanted`; how many there were.
    fn take(&mut self, rate: Rate, now: &Now, wanted: u32) -> u32 {
        let elapsed = now.mono_ms.saturating_sub(self.at_ms);
        self.at_ms = now.mono_ms;
        self.spent = self
            .spent
            .saturating_sub(elapsed.saturating_mul(u64::from(rate.per_minute)));
        let left = (u64::from(rate.burst) * MINUTE_MS).saturating_sub(self.spent) / MINUTE_MS;
        let taken = u32::try_from(left).unwrap_or(u32::MAX).min(wanted);
        self.spent += u64::from(taken) * MINUTE_MS;
        taken
    }
}

/// The allowances of one device, and what exceeded them since the hub began.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    hellos: Bucket,
    statuses: Bucket,
    events: Bucket,
    stats: Bucket,
    refusals: Bucket,
    surplus: Surplus,
}

impl Allowance {
    pub(crate) fn hello(&mut self, rates: &Rates, now: &Now) -> bool {
        let taken = self.hellos.take(rates.hellos, now, 1);
        self.surplus.hellos += u64::from(1 - taken);
        taken == 1
    }

    pub(crate) fn status(&mut self, rates: &Rates, now: &Now) -> bool {
        let taken = self.statuses.take(rates.statuses, now, 1);
        self.surplus.statuses += u64::from(1 - taken);
        taken == 1
    }

    pub(crate) fn stats(&mut self, rates: &Rates, now: &Now) -> bool {
        let taken = self.stats.take(rates.stats, now, 1);
        self.surplus.stats += u64::from(1 - taken);
        taken == 1
    }

    pub(crate) fn refusal(&mut self, rates: &Rates, now: &Now) -> bool {
        let taken = self.refusals.take(rates.refusals, now, 1);
        self.surplus.refusals += u64::from(1 - taken);
        taken == 1
    }

    /// How many of so many events are taken.
    pub(crate) fn events(&mut self, rates: &Rates, now: &Now, wanted: usize) -> usize {
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let taken = self.events.take(rates.events, now, wanted);
        self.surplus.events += u64::from(wanted - taken);
        taken as usize
    }

    pub(crate) fn surplus(&self) -> Surplus {
        self.surplus
    }
}

#[cfg(test)]
mod tests {
    use edge_protocol::BootId;

    use super::*;

    fn now(mono_ms: u64) -> Now {
        Now {
            mono_ms,
            wall_ms: 0,
            boot_id: BootId(uuid::Uuid::nil()),
        }
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate {
            burst: 3,
            per_minute: 2,
        };
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(rate, &now(5), 9), 3);
        assert_eq!(bucket.take(rate, &now(30_004), 1), 0);
        assert_eq!(bucket.take(rate, &now(30_005), 9), 1);
        assert_eq!(
            bucket.take(rate, &now(10_000_000), 9),
            3,
            "no more than a burst is saved"
        );
        assert_eq!(
            bucket.take(rate, &now(9), 9),
            0,
            "a clock that went back gives nothing"
        );
    }
}
