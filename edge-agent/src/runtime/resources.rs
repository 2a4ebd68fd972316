//! The kubelet's formulas: what cgroups get for requests and limits.
//!
//! Sources, Kubernetes 1.37: `pkg/kubelet/cm/helpers_linux.go` (shares, quota), `pkg/kubelet/qos/policy.go` (OOM score),
//! `pkg/kubelet/kuberuntime/kuberuntime_container_linux.go` (which of them a container gets).

use edge_protocol::v1::{QosClass, Resources};

/// Length of the period that a CPU quota counts in, in microseconds.
pub const CPU_PERIOD_US: u64 = 100_000;

const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
const SHARES_PER_CPU: u64 = 1024;
const MILLI: u64 = 1000;
const MIN_QUOTA_US: u64 = 1000;

const GUARANTEED_OOM_SCORE: i64 = -997;
const BEST_EFFORT_OOM_SCORE: i64 = 1000;

/// Relative weight of a request under contention; no request has the least there is.
pub fn cpu_shares(milli: u64) -> u64 {
    (milli.saturating_mul(SHARES_PER_CPU) / MILLI).clamp(MIN_SHARES, MAX_SHARES)
}

/// Microseconds of CPU per [`CPU_PERIOD_US`] for a limit; `None` is no limit.
pub fn cpu_quota_us(limit_milli: u64) -> Option<u64> {
    (limit_milli > 0).then(|| (limit_milli.saturating_mul(CPU_PERIOD_US) / MILLI).max(MIN_QUOTA_US))
}

/// The weight of cgroup v2 that equals these shares (runc's conversion of [2, 262144] to [1, 10000]).
pub fn cpu_weight(shares: u64) -> u64 {
    let above_least = shares.clamp(MIN_SHARES, MAX_SHARES) - MIN_SHARES;
    1 + above_least * 9999 / (MAX_SHARES - MIN_SHARES)
}

/// How gladly the kernel kills this container when the machine has no memory left, from -1000 to 1000.
///
/// `memory_capacity` is the machine's memory in bytes. A Burstable container that requests nothing is killed last
/// among the best-effort ones; one that requests everything is still killed before a Guaranteed one.
pub fn oom_score_adj(qos: QosClass, resources: &Resources, memory_capacity: u64) -> i64 {
    match qos {
        QosClass::Guaranteed => GUARANTEED_OOM_SCORE,
        QosClass::BestEffort => BEST_EFFORT_OOM_SCORE,
        QosClass::Burstable => {
            let request = resources
                .memory_request_bytes
                .or(resources.memory_limit_bytes)
                .unwrap_or(0);
            let share = u128::from(request) * 1000 / u128::from(memory_capacity.max(1));
            let score = 1000 - i64::try_from(share).unwrap_or(i64::MAX);
            score.clamp(1000 + GUARANTEED_OOM_SCORE, BEST_EFFORT_OOM_SCORE - 1)
        }
    }
}

/// The request that shares are computed from: a container that states only a limit requests it.
pub fn cpu_request_milli(resources: &Resources) -> u64 {
    resources
        .cpu_request_milli
        .or(resources.cpu_limit_milli)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_request() {
        for (milli, expect) in [
            (0, 2),
            (1, 2),
            (2, 2),
            (3, 3),
            (100, 102),
            (1000, 1024),
            (1_000_000, 262_144),
            (u64::MAX, 262_144),
        ] {
            assert_eq!(cpu_shares(milli), expect, "{milli}");
        }
    }

    #[test]
    fn quota_follows_the_limit() {
        for (milli, expect) in [
            (0, None),
            (1, Some(1000)),
            (10, Some(1000)),
            (250, Some(25_000)),
            (2000, Some(200_000)),
        ] {
            assert_eq!(cpu_quota_us(milli), expect, "{milli}");
        }
    }

    #[test]
    fn weights_span_the_whole_range() {
        for (shares, expect) in [(0, 1), (2, 1), (1024, 39), (262_144, 10_000)] {
            assert_eq!(cpu_weight(shares), expect, "{shares}");
        }
    }

    #[test]
    fn oom_score_follows_the_class() {
        #[track_caller]
        fn check(qos: QosClass, request: Option<u64>, limit: Option<u64>, expect: i64) {
            let resources = Resources {
                memory_request_bytes: request,
                memory_limit_bytes: limit,
                ..Default::default()
            };
            assert_eq!(oom_score_adj(qos, &resources, 4 << 30), expect);
        }
        check(QosClass::Guaranteed, Some(1 << 30), Some(1 << 30), -997);
        check(QosClass::BestEffort, None, None, 1000);
        check(QosClass::Burstable, None, None, 999);
        check(QosClass::Burstable, Some(1 << 30), None, 750);
        check(QosClass::Burstable, None, Some(1 << 30), 750);
        check(QosClass::Burstable, Some(4 << 30), None, 3);
        check(QosClass::Burstable, Some(u64::MAX), None, 3);
    }
}
