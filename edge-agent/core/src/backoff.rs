//! Waiting before another try: capped, doubling, with full jitter where many devices share one server.

use edge_protocol::v1::{ContainerSpec, Reason, Resources};

use crate::roster::Touch;

/// Splitmix64: enough to spread retries, seeded by the pump, so that a simulation replays.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Anything below the bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Full jitter: anything up to the delay, but never so little that a failing step spins.
    pub(crate) fn jitter(&mut self, delay_ms: u64) -> u64 {
        (self.next() % (delay_ms + 1)).max(delay_ms.min(FLOOR_MS))
    }
}

const FLOOR_MS: u64 = 500;

/// A first delay and a cap, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) first_ms: u64,
    pub(crate) cap_ms: u64,
}

/// `imageBackOffPeriod` and `MaxImageBackOff` of pkg/kubelet/kubelet.go.
pub(crate) const IMAGES: Schedule = Schedule {
    first_ms: 10_000,
    cap_ms: 300_000,
};
/// `backOffPeriod` and `MaxCrashLoopBackOff` of pkg/kubelet/kubelet.go.
pub(crate) const CRASHES: Schedule = Schedule {
    first_ms: 10_000,
    cap_ms: 300_000,
};
/// `initialDurationBeforeRetry` and `maxDurationBeforeRetry` of pkg/util/goroutinemap/exponentialbackoff.
pub(crate) const VOLUMES: Schedule = Schedule {
    first_ms: 500,
    cap_ms: 122_000,
};
/// Any other step, and blobs.
pub(crate) const STEPS: Schedule = Schedule {
    first_ms: 1_000,
    cap_ms: 60_000,
};

impl Schedule {
    pub(crate) fn after(self, previous_ms: Option<u64>) -> u64 {
        previous_ms.map_or(self.first_ms, |previous| (previous * 2).min(self.cap_ms))
    }
}

/// What failed last, and when it may be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) delay_ms: u64,
    /// On the monotonic clock, as the next one: since when it fails for this reason.
    pub(crate) since_ms: u64,
    pub(crate) until_ms: u64,
    /// Of a pull: until then it is shown for what it is, afterwards as being backed off.
    pub(crate) fresh_until_ms: Option<u64>,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// What a back-off is about, beside the container's name (`GetBackoffKey` of `pkg/kubelet/kuberuntime/helpers.go`): made from another image
/// or given other resources, a container never crashed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Restarted {
    image: String,
    resources: Resources,
}

/// The kubelet's crash back-off of one container (`doBackOff` of `kuberuntime_manager.go`, `flowcontrol.Backoff`). It is exact, without jitter:
/// no server is shared, and people know these times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CrashBackoff {
    /// The delay that the next crash waits, and when it was set: at the last restart.
    entry: Option<(u64, u64)>,
    /// What was restarted then.
    of: Option<Restarted>,
    /// The attempt whose end was seen last, and from when on it may be followed by another.
    ended: Option<(u32, u64)>,
    /// The last attempt after which waiting was told of.
    told: Option<u32>,
}

impl CrashBackoff {
    /// An instance was seen to have ended. Idempotent per attempt; whether it is news.
    pub(crate) fn saw_end(&mut self, attempt: u32, now_ms: u64) -> Touch {
        if self.ended.is_some_and(|(seen, _)| seen >= attempt) {
            return Touch::No;
        }
        // As `hasExpired`: after twice the cap without a crash the past is forgotten.
        self.entry = self
            .entry
            .filter(|(_, set_ms)| now_ms.saturating_sub(*set_ms) <= 2 * CRASHES.cap_ms);
        let until = now_ms + self.entry.map_or(0, |(delay, _)| delay);
        self.ended = Some((attempt, until));
        Touch::Yes
    }

    /// From when on the successor of the attempt whose end was seen last may start.
    pub(crate) fn over_ms(&self) -> Option<u64> {
        self.ended.map(|(_, until)| until)
    }

    /// From when on the successor of this attempt may start; absent when its end was not yet seen, or says nothing of what is to start.
    pub(crate) fn until_ms(&self, attempt: u32, spec: &ContainerSpec) -> Option<u64> {
        self.ended
            .filter(|(seen, _)| *seen == attempt && self.is_about(spec))
            .map(|(_, until)| until)
    }

    /// The delay that is being waited for, in milliseconds.
    pub(crate) fn delay_ms(&self) -> u64 {
        self.entry.map_or(0, |(delay, _)| delay)
    }

    /// Waiting after this attempt was not told of yet.
    pub(crate) fn is_news(&self, attempt: u32) -> bool {
        self.told.is_none_or(|told| told < attempt)
    }

    pub(crate) fn told(&mut self, attempt: u32) {
        self.told = Some(attempt);
    }

    /// A further instance is being started.
    pub(crate) fn restarted(&mut self, spec: &ContainerSpec, now_ms: u64) {
        let previous = self.entry.filter(|_| self.is_about(spec)).map(|(delay, _)| delay);
        self.entry = Some((CRASHES.after(previous), now_ms));
        self.of = Some(Restarted {
            image: spec.image.clone(),
            resources: spec.resources.clone(),
        });
    }

    fn is_about(&self, spec: &ContainerSpec) -> bool {
        let same = |of: &Restarted| of.image == spec.image && of.resources == spec.resources;
        self.of.as_ref().is_none_or(same)
    }

    /// The monotonic clock began anew: what was waited for is over.
    pub(crate) fn rebase(&mut self, now_ms: u64) {
        self.entry = self.entry.map(|(delay, _)| (delay, now_ms));
        self.ended = self.ended.map(|(attempt, _)| (attempt, now_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_wait_as_under_a_kubelet() {
        let spec = ContainerSpec::new("c", "image");
        let mut backoff = CrashBackoff::default();
        let (mut now, mut waits) = (1_000_000, vec![]);
        for attempt in 0..8 {
            now += 1_000;
            backoff.saw_end(attempt, now);
            backoff.saw_end(attempt, now + 5_000);
            let until = backoff.until_ms(attempt, &spec).unwrap();
            waits.push((until - now) / 1_000);
            now = until;
            backoff.restarted(&spec, now);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        backoff.saw_end(8, now + 600_000);
        assert_eq!(
            backoff.until_ms(8, &spec),
            Some(now + 600_000 + 300_000),
            "ten minutes are not more than ten minutes"
        );
        backoff.restarted(&spec, now);
        backoff.saw_end(9, now + 600_001);
        assert_eq!(backoff.until_ms(9, &spec), Some(now + 600_001));
    }

    #[test]
    fn another_image_or_other_resources_begin_anew() {
        let spec = ContainerSpec::new("c", "image");
        let image = ContainerSpec::new("c", "another");
        let mut resources = spec.clone();
        resources.resources.memory_limit_bytes = Some(7);
        let mut command = spec.clone();
        command.command = vec!["other".to_owned()];
        for (other, waits) in [
            (image, [None, Some(10_300)]),
            (resources, [None, Some(10_300)]),
            (command, [Some(20_100), Some(40_300)]),
        ] {
            let mut backoff = CrashBackoff::default();
            backoff.restarted(&spec, 0);
            backoff.restarted(&spec, 0);
            backoff.saw_end(1, 100);
            let first = backoff.until_ms(1, &other);
            backoff.restarted(&other, 200);
            backoff.saw_end(2, 300);
            assert_eq!([first, backoff.until_ms(2, &other)], waits);
        }
    }

    #[test]
    fn a_new_boot_leaves_nothing_to_wait_for() {
        let spec = ContainerSpec::new("c", "image");
        let mut backoff = CrashBackoff::default();
        backoff.restarted(&spec, 5_000_000);
        backoff.saw_end(1, 5_000_001);
        backoff.rebase(7);
        assert_eq!(backoff.until_ms(1, &spec), Some(7));
    }

    #[test]
    fn jitter_is_full_but_does_not_spin() {
        let mut rng = Rng::new(3);
        let waits: Vec<u64> = (0..1_000).map(|_| rng.jitter(10_000)).collect();
        assert!(waits.iter().all(|wait| (FLOOR_MS..=10_000).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 1_500) && waits.iter().any(|wait| *wait > 8_500));
    }
}
