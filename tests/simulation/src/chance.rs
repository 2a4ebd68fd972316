//! The one source of randomness, and how bad the weather is.

/// A sequence that depends on the seed alone (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `bound - 1`; 0 for no choice.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.draw() % bound).unwrap_or(0)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % (high - low + 1)
    }

    /// True this often in ten thousand.
    pub(crate) fn chance(&mut self, per_10k: u64) -> bool {
        per_10k > 0 && self.draw() % 10_000 < per_10k
    }

    pub(crate) fn flip(&mut self) -> bool {
        self.draw() & 1 == 1
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() {
            None
        } else {
            of.get(self.below(of.len()))
        }
    }
}

/// How often things go wrong, in ten thousand. Every seed has its own; after the storm all of it is 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weather {
    /// Per frame on the wire.
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    pub(crate) reorder: u64,
    /// A frame of an earlier session comes again, or another device's.
    pub(crate) replay: u64,
    /// Per step of a machine: the process dies after one of its effects.
    pub(crate) crash: u64,
    /// Per step in a runtime: it fails, perhaps after it was done.
    pub(crate) step_fails: u64,
    /// Per event of a runtime: the agent is not told.
    pub(crate) hint_lost: u64,
    /// Per request over HTTP: it fails, perhaps after it arrived.
    pub(crate) http_fails: u64,
    /// Per list of pods: a proxy answers something else.
    pub(crate) list_lies: u64,
    /// Per watch event: the watch breaks and loses it.
    pub(crate) watch_breaks: u64,
    /// What happens to processes, links, clocks and runtimes: mean milliseconds between two, 0 for never.
    pub(crate) incident_ms: u64,
    /// Whether the hub is restored from an older backup once.
    pub(crate) restore: bool,
    /// Whether manifests are too large to travel together.
    pub(crate) bulky: bool,
}

impl Weather {
    /// A third of the seeds see one kind of trouble only, so that a failure is easy to read; the others see several.
    pub(crate) fn of(rng: &mut Rng) -> Self {
        let single = rng.below(3) == 0;
        let only = rng.below(9);
        let mut level = |kind: usize, most: u64| {
            let on = if single { only == kind } else { rng.below(3) > 0 };
            if on { 1 + rng.draw() % most } else { 0 }
        };
        Self {
            drop: level(0, 1_000),
            duplicate: level(1, 1_000),
            reorder: level(1, 1_000),
            replay: level(2, 500),
            crash: level(3, 60),
            step_fails: level(4, 1_500),
            hint_lost: level(5, 5_000),
            http_fails: level(6, 2_000),
            list_lies: level(7, 4_000),
            watch_breaks: level(7, 300),
            incident_ms: level(8, 25_000).max(if single { 60_000 } else { 15_000 }),
            restore: false,
            bulky: false,
        }
    }
}
