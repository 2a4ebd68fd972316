//! What a workload as a whole asks for and is held to (`PodRequests` and `PodLimits` of k8s.io/component-helpers/resource/helpers.go,
//! `ResourceConfigForPod` of `pkg/kubelet/cm/helpers_linux.go`).

use edge_protocol::v1::{ContainerSpec, Resources, WorkloadSpec};
use serde::{Deserialize, Serialize};

use crate::step::SandboxSpec;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) cpu_request_milli: u64,
    pub(crate) memory_request_bytes: u64,
    pub(crate) ephemeral_storage_request_bytes: u64,
    /// A limit stands only if every container has one, or the workload itself.
    pub(crate) cpu_limit_milli: Option<u64>,
    pub(crate) memory_limit_bytes: Option<u64>,
    /// Unlike the others it stands as soon as one container has one: nothing is held to it, it is counted.
    pub(crate) ephemeral_storage_limit_bytes: Option<u64>,
}

/// What a workload's cgroup holds it to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bounds {
    pub(crate) cpu_request_milli: u64,
    pub(crate) cpu_limit_milli: Option<u64>,
    pub(crate) memory_limit_bytes: Option<u64>,
}

impl Bounds {
    pub(crate) fn of(workload: &WorkloadSpec) -> Self {
        let sums = of(workload);
        Self {
            cpu_request_milli: sums.cpu_request_milli,
            cpu_limit_milli: sums.cpu_limit_milli,
            memory_limit_bytes: sums.memory_limit_bytes,
        }
    }

    pub(crate) fn resources(self) -> Resources {
        Resources {
            cpu_request_milli: Some(self.cpu_request_milli),
            cpu_limit_milli: self.cpu_limit_milli,
            memory_limit_bytes: self.memory_limit_bytes,
            ..Resources::default()
        }
    }

    pub(crate) fn told(sandbox: &SandboxSpec) -> Self {
        Self {
            cpu_request_milli: sandbox.cpu_request_milli,
            cpu_limit_milli: sandbox.cpu_limit_milli,
            memory_limit_bytes: sandbox.memory_limit_bytes,
        }
    }
}

type Figure = fn(&Resources) -> Option<u64>;

pub(crate) fn of(workload: &WorkloadSpec) -> Sums {
    let cpu: Figure = |r| r.cpu_request_milli.or(r.cpu_limit_milli);
    let memory: Figure = |r| r.memory_request_bytes.or(r.memory_limit_bytes);
    let storage: Figure = |r| {
        r.ephemeral_storage_request_bytes
            .or(r.ephemeral_storage_limit_bytes)
    };
    Sums {
        cpu_request_milli: request(workload, cpu, |r| r.cpu_request_milli),
        memory_request_bytes: request(workload, memory, |r| r.memory_request_bytes),
        ephemeral_storage_request_bytes: request(workload, storage, |_| None),
        cpu_limit_milli: limit(workload, |r| r.cpu_limit_milli, |r| r.cpu_request_milli),
        memory_limit_bytes: limit(workload, |r| r.memory_limit_bytes, |r| r.memory_request_bytes),
        ephemeral_storage_limit_bytes: storage_limit(workload),
    }
}

fn request(workload: &WorkloadSpec, figure: Figure, of_pod: Figure) -> u64 {
    let own = workload.resources.as_ref();
    let by_containers = Some(aggregate(workload, figure)).filter(|sum| *sum > 0);
    // A request that the pod leaves out is its containers', or else its own limit, as the API's defaults have it.
    let asked = own
        .and_then(of_pod)
        .or(by_containers)
        .or_else(|| own.and_then(figure))
        .unwrap_or(0);
    let overhead = workload.overhead.as_ref().and_then(figure).unwrap_or(0);
    asked.saturating_add(overhead)
}

fn limit(workload: &WorkloadSpec, figure: Figure, overhead: Figure) -> Option<u64> {
    let stated = |figure: Figure, r: &Resources| figure(r).filter(|limit| *limit > 0);
    let of_pod = workload.resources.as_ref().and_then(|r| stated(figure, r));
    let all = workload
        .all_containers()
        .all(|spec| stated(figure, &spec.resources).is_some());
    let limit = of_pod.or_else(|| all.then(|| aggregate(workload, figure)))?;
    let overhead = workload.overhead.as_ref().and_then(|r| overhead(r).or(figure(r)));
    Some(limit.saturating_add(overhead.unwrap_or(0)))
}

fn storage_limit(workload: &WorkloadSpec) -> Option<u64> {
    let figure: Figure = |r| r.ephemeral_storage_limit_bytes;
    let mut containers = workload.all_containers();
    let any = containers.any(|spec| figure(&spec.resources).is_some());
    let limit = any.then(|| aggregate(workload, figure))?;
    let overhead = workload.overhead.as_ref().filter(|_| limit > 0);
    let overhead = overhead.and_then(|r| r.ephemeral_storage_request_bytes.or(figure(r)));
    Some(limit.saturating_add(overhead.unwrap_or(0)))
}

/// All main containers and sidecars together, or the most there is at one time while the initial ones run, whichever is more.
fn aggregate(workload: &WorkloadSpec, figure: Figure) -> u64 {
    let of = |spec: &ContainerSpec| figure(&spec.resources).unwrap_or(0);
    let (mut sidecars, mut peak) = (0u64, 0u64);
    for spec in &workload.init_containers {
        if spec.is_sidecar() {
            sidecars = sidecars.saturating_add(of(spec));
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.saturating_add(of(spec)));
        }
    }
    let mains = workload
        .containers
        .iter()
        .map(of)
        .fold(sidecars, u64::saturating_add);
    mains.max(peak)
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_protocol::v1::RestartPolicy;

    fn cpu(request: u64, limit: Option<u64>) -> Resources {
        Resources {
            cpu_request_milli: Some(request),
            cpu_limit_milli: limit,
            ..Resources::default()
        }
    }

    fn container(resources: Resources) -> ContainerSpec {
        ContainerSpec {
            resources,
            ..ContainerSpec::new("c", "image")
        }
    }

    fn sidecar(resources: Resources) -> ContainerSpec {
        ContainerSpec {
            restart_policy: Some(RestartPolicy::Always),
            ..container(resources)
        }
    }

    #[test]
    fn the_greatest_need_at_any_time_counts() {
        let mut workload = WorkloadSpec::new(
            "w",
            vec![container(cpu(100, Some(200))), container(cpu(50, Some(60)))],
        );
        let sum = |workload: &WorkloadSpec| (of(workload).cpu_request_milli, of(workload).cpu_limit_milli);
        assert_eq!(sum(&workload), (150, Some(260)));
        // One that runs alone, before.
        workload.init_containers = vec![container(cpu(120, Some(120)))];
        assert_eq!(sum(&workload), (150, Some(260)));
        workload.init_containers = vec![container(cpu(400, Some(500)))];
        assert_eq!(sum(&workload), (400, Some(500)));
        // A sidecar runs beside those after it, and beside the main ones.
        workload.init_containers = vec![sidecar(cpu(10, Some(10))), container(cpu(400, Some(500)))];
        assert_eq!(sum(&workload), (410, Some(510)));
        workload.init_containers = vec![container(cpu(155, Some(20))), sidecar(cpu(10, Some(10)))];
        assert_eq!(sum(&workload), (160, Some(270)));
        // One without a limit, and there is none.
        workload.init_containers = vec![container(cpu(1, None))];
        assert_eq!(sum(&workload), (150, None));
    }

    #[test]
    fn the_pods_own_word_goes_over_its_containers_and_overhead_on_top() {
        let mut workload = WorkloadSpec::new("w", vec![container(cpu(100, None))]);
        workload.resources = Some(Resources {
            cpu_limit_milli: Some(900),
            ..Resources::default()
        });
        assert_eq!(
            (of(&workload).cpu_request_milli, of(&workload).cpu_limit_milli),
            (100, Some(900))
        );
        workload.resources = Some(cpu(300, Some(900)));
        workload.overhead = Some(cpu(7, None));
        assert_eq!(
            (of(&workload).cpu_request_milli, of(&workload).cpu_limit_milli),
            (307, Some(907))
        );
        assert_eq!(of(&workload).memory_limit_bytes, None);
    }
}
