//! The kubelet's formulas: what cgroups get for requests and limits.
//!
//! Sources, Kubernetes 1.37: `pkg/kubelet/cm/helpers_linux.go` (shares, quota), `pkg/kubelet/qos/policy.go` (OOM score),
//! `pkg/kubelet/kuberuntime/kuberuntime_container_linux.go` (which of them a container gets).

use edge_protocol::v1::{ContainerSpec, QosClass, Resources, WorkloadSpec};

/// Length of the period that a CPU quota counts in, in microseconds.
pub const CPU_PERIOD_US: u64 = 100_000;

/// What a container has that requests nothing.
pub const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
const SHARES_PER_CPU: u64 = 1024;
const MILLI: u64 = 1000;
const MIN_QUOTA_US: u64 = 1000;

const GUARANTEED_OOM_SCORE: i64 = -997;
const BEST_EFFORT_OOM_SCORE: i64 = 1000;
/// The priority of `system-node-critical`.
const SYSTEM_NODE_CRITICAL: i32 = 2_000_001_000;

/// Relative weight of a request under contention; no request has the least there is.
pub fn cpu_shares(milli: u64) -> u64 {
    (milli.saturating_mul(SHARES_PER_CPU) / MILLI).clamp(MIN_SHARES, MAX_SHARES)
}

/// The request that these shares are of, as the kubelet reads it back (`sharesToMilliCPU`): rounded up.
pub fn cpu_milli(shares: u64) -> u64 {
    shares.saturating_mul(MILLI).div_ceil(SHARES_PER_CPU)
}

/// Microseconds of CPU per [`CPU_PERIOD_US`] for a limit; `None` is no limit.
pub fn cpu_quota_us(limit_milli: u64) -> Option<u64> {
    (limit_milli > 0).then(|| (limit_milli.saturating_mul(CPU_PERIOD_US) / MILLI).max(MIN_QUOTA_US))
}

/// The weight of cgroup v2 that equals these shares (`getCPUWeight` of `pkg/kubelet/cm/cgroup_manager_linux.go`).
pub fn cpu_weight(shares: u64) -> u64 {
    let above_least = shares.clamp(MIN_SHARES, MAX_SHARES) - MIN_SHARES;
    1 + above_least * 9999 / (MAX_SHARES - MIN_SHARES)
}

/// How gladly the kernel kills this container when the machine has no memory left, from -1000 to 1000.
///
/// `memory_capacity` is the machine's memory in bytes. A Burstable container that requests nothing is killed last
/// among the best-effort ones; one that requests everything is still killed before a Guaranteed one. A sidecar is killed no sooner than
/// the container that it serves.
pub fn oom_score_adj(
    workload: &WorkloadSpec,
    qos: QosClass,
    container: &ContainerSpec,
    memory_capacity: u64,
) -> i64 {
    match qos {
        _ if workload.priority >= SYSTEM_NODE_CRITICAL => GUARANTEED_OOM_SCORE,
        QosClass::Guaranteed => GUARANTEED_OOM_SCORE,
        QosClass::BestEffort => BEST_EFFORT_OOM_SCORE,
        QosClass::Burstable => {
            let score = |request: u64| {
                let request = request.saturating_add(unclaimed_memory(workload));
                let share = u128::from(request) * 1000 / u128::from(memory_capacity.max(1));
                1000 - i64::try_from(share).unwrap_or(i64::MAX)
            };
            let mut own = score(memory_request(container));
            if container.is_sidecar() {
                let least = workload.containers.iter().map(memory_request).min();
                own = own.min(score(least.unwrap_or(0)));
            }
            own.clamp(1000 + GUARANTEED_OOM_SCORE, BEST_EFFORT_OOM_SCORE - 1)
        }
    }
}

/// A container that states only a limit requests it.
fn memory_request(container: &ContainerSpec) -> u64 {
    let Resources {
        memory_request_bytes,
        memory_limit_bytes,
        ..
    } = container.resources;
    memory_request_bytes.or(memory_limit_bytes).unwrap_or(0)
}

/// What the workload as a whole requests beyond its containers, in equal parts (`remainingPodMemReqPerContainer`).
fn unclaimed_memory(workload: &WorkloadSpec) -> u64 {
    let whole = workload
        .resources
        .as_ref()
        .and_then(|whole| whole.memory_request_bytes);
    let claimed: u64 = workload.all_containers().map(memory_request).sum();
    let count = workload.all_containers().count().max(1) as u64;
    whole.map_or(0, |whole| whole.saturating_sub(claimed) / count)
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
            let container = ContainerSpec {
                resources,
                ..ContainerSpec::new("main", "image")
            };
            let workload = WorkloadSpec::new("web", vec![container.clone()]);
            assert_eq!(oom_score_adj(&workload, qos, &container, 4 << 30), expect);
        }
        check(QosClass::Guaranteed, Some(1 << 30), Some(1 << 30), -997);
        check(QosClass::BestEffort, None, None, 1000);
        check(QosClass::Burstable, None, None, 999);
        check(QosClass::Burstable, Some(1 << 30), None, 750);
        check(QosClass::Burstable, None, Some(1 << 30), 750);
        check(QosClass::Burstable, Some(4 << 30), None, 3);
        check(QosClass::Burstable, Some(u64::MAX), None, 3);
    }

    #[test]
    fn a_sidecar_is_killed_no_sooner_than_what_it_serves_and_all_share_what_nobody_claimed() {
        let container = |name, request| ContainerSpec {
            resources: Resources {
                memory_request_bytes: Some(request),
                ..Resources::default()
            },
            ..ContainerSpec::new(name, "image")
        };
        let sidecar = ContainerSpec {
            restart_policy: Some(edge_protocol::v1::RestartPolicy::Always),
            ..container("sidecar", 0)
        };
        let mut workload = WorkloadSpec::new("web", vec![container("main", 1 << 30)]);
        workload.init_containers.push(sidecar.clone());
        let score = |workload: &WorkloadSpec, of| oom_score_adj(workload, QosClass::Burstable, of, 4 << 30);
        assert_eq!(score(&workload, &sidecar), 750);
        assert_eq!(score(&workload, &workload.containers[0]), 750);
        workload.resources = Some(Resources {
            memory_request_bytes: Some(3 << 30),
            ..Resources::default()
        });
        assert_eq!(score(&workload, &workload.containers[0]), 500);
        workload.priority = SYSTEM_NODE_CRITICAL;
        assert_eq!(score(&workload, &sidecar), GUARANTEED_OOM_SCORE);
    }
}
