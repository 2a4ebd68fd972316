//! A device's figures as the kubelet API tells them.
//!
//! Moments of figures are on the device's monotonic clock, and starts on its wall clock; both are told by the hub's, so a device whose clock is wrong is
//! scraped like any other (law 11).

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_protocol::v1::stats as device;
use iot_hub_client::api::DeviceStats;
use jiff::Timestamp;
use virtual_kubelet::ObservedPod;
use virtual_kubelet_api::stats::{
    ContainerIdentity, ContainerLimits, ContainerStats, CpuStats, FsStats, InterfaceStats, MemoryStats,
    NetworkStats, NodeStats, PodReference, PodStats, ProcessStats, RlimitStats, RuntimeStats, Summary,
    SwapStats, Throttling, VolumeStats,
};

use super::table::RunningContainer;

/// What the device told, of these pods. What it runs beside them is told by nobody here. A kubelet names all that run, and asks its runtime anew each time: the
/// containers that started after the sample, by pod UID in `running`, are here without figures.
pub(super) fn summary(
    node: &str,
    told: &DeviceStats,
    pods: &[Arc<ObservedPod>],
    running: &BTreeMap<String, Arc<[RunningContainer]>>,
) -> Summary {
    let clock = Clock::of(told);
    let own = told.stats.node.as_deref().cloned().unwrap_or_default();
    let of_pod = |pod: &Arc<ObservedPod>| {
        let mut workloads = told.stats.workloads.iter();
        let workload = workloads.find(|workload| workload.uid.as_str() == pod.uid);
        let sampled = workload.map(|workload| clock.pod(pod, workload));
        match running.get(&pod.uid) {
            Some(running) => Some(clock.with_running(pod, sampled, running)),
            None => sampled,
        }
    };
    Summary {
        node: clock.node(node, &own),
        pods: pods.iter().filter_map(of_pod).collect(),
    }
}

/// One moment, in milliseconds: by the hub's clock, and by the device's two.
struct Clock {
    hub: i64,
    mono: u64,
    wall: i64,
}

impl Clock {
    fn of(told: &DeviceStats) -> Self {
        Self {
            hub: told.received_ms,
            mono: told.stats.at.mono_ms,
            wall: told.stats.at.wall_ms,
        }
    }

    fn read(&self, at_ms: u64) -> Timestamp {
        let ago = i64::try_from(self.mono.saturating_sub(at_ms)).unwrap_or(i64::MAX);
        timestamp(self.hub.saturating_sub(ago))
    }

    /// Absent: not known, the first moment there is.
    fn started(&self, at_ms: Option<i64>) -> Timestamp {
        let at = at_ms.map(|at| at.saturating_sub(self.wall).saturating_add(self.hub));
        at.map_or(Timestamp::UNIX_EPOCH, timestamp)
    }

    fn node(&self, name: &str, told: &device::NodeStats) -> NodeStats {
        let image_fs = told.image_fs.as_ref().map(|fs| self.fs(fs));
        NodeStats {
            node_name: name.to_owned(),
            start_time: self.started(told.started_ms),
            cpu: told.cpu.as_ref().map(|cpu| self.cpu(cpu)),
            memory: told.memory.as_ref().map(|memory| self.memory(memory)),
            network: told.network.as_ref().map(|network| self.network(network)),
            fs: told.fs.as_ref().map(|fs| self.fs(fs)),
            // Writable layers are where images are.
            runtime: image_fs.map(|image_fs| RuntimeStats {
                container_fs: Some(image_fs.clone()),
                image_fs: Some(image_fs),
            }),
            rlimit: told.processes.as_ref().map(|processes| RlimitStats {
                time: self.read(processes.at_ms),
                max_pid: processes
                    .threads_limit
                    .and_then(|limit| i64::try_from(limit).ok()),
                running_processes: processes.threads.and_then(|count| i64::try_from(count).ok()),
            }),
            swap: told.swap.as_ref().map(|swap| self.swap(swap)),
            machine: None,
        }
    }

    fn pod(&self, pod: &ObservedPod, told: &device::WorkloadStats) -> PodStats {
        PodStats {
            pod_ref: reference(pod),
            start_time: self.started(told.started_ms),
            containers: told
                .containers
                .iter()
                .map(|one| self.container(pod, one))
                .collect(),
            cpu: told.cpu.as_ref().map(|cpu| self.cpu(cpu)),
            memory: told.memory.as_ref().map(|memory| self.memory(memory)),
            network: told.network.as_ref().map(|network| self.network(network)),
            volumes: told
                .volumes
                .iter()
                .map(|volume| VolumeStats {
                    fs: self.fs(&volume.fs),
                    name: volume.name.clone(),
                    claim: None,
                })
                .collect(),
            ephemeral_storage: told.ephemeral_storage.as_ref().map(|fs| self.fs(fs)),
            processes: told.processes.as_ref().map(|processes| ProcessStats {
                count: processes.count,
            }),
            swap: told.swap.as_ref().map(|swap| self.swap(swap)),
        }
    }

    fn container(&self, pod: &ObservedPod, told: &device::ContainerStats) -> ContainerStats {
        ContainerStats {
            name: told.name.clone(),
            start_time: self.started(told.started_ms),
            cpu: told.cpu.as_ref().map(|cpu| self.cpu(cpu)),
            memory: told.memory.as_ref().map(|memory| self.memory(memory)),
            rootfs: told.rootfs.as_ref().map(|fs| self.fs(fs)),
            logs: told.logs.as_ref().map(|fs| self.fs(fs)),
            swap: told.swap.as_ref().map(|swap| self.swap(swap)),
            identity: ContainerIdentity {
                cgroup: String::new(),
                image: image(pod, &told.name).unwrap_or_default().to_owned(),
                id: told.id.clone(),
            },
            limits: ContainerLimits::default(),
            processes: told.processes.as_ref().and_then(|processes| processes.count),
        }
    }

    /// All of these containers, those that the sample has not without figures.
    fn with_running(
        &self,
        pod: &ObservedPod,
        sampled: Option<PodStats>,
        running: &[RunningContainer],
    ) -> PodStats {
        let started = |since: Option<Timestamp>| self.started(since.map(Timestamp::as_millisecond));
        let mut shown = sampled.unwrap_or_else(|| PodStats {
            pod_ref: reference(pod),
            start_time: started(running.iter().filter_map(|one| one.since).min()),
            containers: Vec::new(),
            cpu: None,
            memory: None,
            network: None,
            volumes: Vec::new(),
            ephemeral_storage: None,
            processes: None,
            swap: None,
        });
        for one in running {
            if shown.containers.iter().any(|shown| shown.name == one.name) {
                continue;
            }
            shown.containers.push(ContainerStats {
                name: one.name.clone(),
                start_time: started(one.since),
                cpu: None,
                memory: None,
                rootfs: None,
                logs: None,
                swap: None,
                identity: ContainerIdentity {
                    image: image(pod, &one.name).unwrap_or_default().to_owned(),
                    ..ContainerIdentity::default()
                },
                limits: ContainerLimits::default(),
                processes: None,
            });
        }
        shown
    }

    fn cpu(&self, told: &device::CpuStats) -> CpuStats {
        let throttling = told.periods.map(|periods| Throttling {
            periods,
            throttled_periods: told.throttled_periods.unwrap_or_default(),
            throttled_nano_seconds: told.throttled_ns.unwrap_or_default(),
        });
        CpuStats {
            time: self.read(told.at_ms),
            usage_nano_cores: told.rate_nanocores,
            usage_core_nano_seconds: told.usage_ns,
            throttling,
        }
    }

    fn memory(&self, told: &device::MemoryStats) -> MemoryStats {
        MemoryStats {
            time: self.read(told.at_ms),
            available_bytes: told.available_bytes,
            usage_bytes: told.usage_bytes,
            working_set_bytes: told.working_set_bytes,
            rss_bytes: told.rss_bytes,
            page_faults: told.page_faults,
            major_page_faults: told.major_page_faults,
            cache_bytes: told.cache_bytes,
        }
    }

    fn swap(&self, told: &device::SwapStats) -> SwapStats {
        SwapStats {
            time: self.read(told.at_ms),
            swap_available_bytes: told.available_bytes,
            swap_usage_bytes: told.usage_bytes,
        }
    }

    fn fs(&self, told: &device::FsStats) -> FsStats {
        FsStats {
            time: self.read(told.at_ms),
            available_bytes: told.available_bytes,
            capacity_bytes: told.capacity_bytes,
            used_bytes: told.used_bytes,
            inodes_free: told.inodes_free,
            inodes: told.inodes,
            inodes_used: told.inodes_used,
        }
    }

    fn network(&self, told: &device::NetworkStats) -> NetworkStats {
        let interfaces: Vec<InterfaceStats> = told.interfaces.iter().map(interface).collect();
        let is_default = |one: &&InterfaceStats| Some(&one.name) == told.default.as_ref();
        NetworkStats {
            time: self.read(told.at_ms),
            default: interfaces.iter().find(is_default).cloned().unwrap_or_default(),
            interfaces,
        }
    }
}

fn reference(pod: &ObservedPod) -> PodReference {
    PodReference {
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        uid: pod.uid.clone(),
    }
}

fn interface(told: &device::InterfaceStats) -> InterfaceStats {
    InterfaceStats {
        name: told.name.clone(),
        rx_bytes: Some(told.rx_bytes),
        rx_errors: Some(told.rx_errors),
        tx_bytes: Some(told.tx_bytes),
        tx_errors: Some(told.tx_errors),
        rx_packets: Some(told.rx_packets),
        rx_dropped: Some(told.rx_dropped),
        tx_packets: Some(told.tx_packets),
        tx_dropped: Some(told.tx_dropped),
    }
}

/// As the pod's spec names it.
fn image<'p>(pod: &'p ObservedPod, container: &str) -> Option<&'p str> {
    let lists = [
        "/spec/initContainers",
        "/spec/containers",
        "/spec/ephemeralContainers",
    ];
    let mut all = lists
        .iter()
        .filter_map(|list| pod.raw.pointer(list)?.as_array())
        .flatten();
    let named = all.find(|one| one["name"] == container)?;
    named["image"].as_str()
}

/// Out of the calendar's range: the first moment there is.
fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_device_whose_clock_is_wrong_is_told_of_by_the_hubs() {
        let told: DeviceStats = serde_json::from_value(json!({
            "age_ms": 5, "received_ms": 1_800_000_000_000_i64,
            "stats": {
                "at": {"boot_id": "00000000-0000-0000-0000-000000000001", "mono_ms": 60_000, "wall_ms": 100_000, "wall_trusted": false},
                "node": {"started_ms": 40_000, "cpu": {"at_ms": 59_000, "usage_ns": 7}},
                "workloads": [
                    {"uid": "u1", "started_ms": 70_000, "containers": [{"name": "main", "memory": {"at_ms": 60_000, "working_set_bytes": 9}}]},
                    {"uid": "orphan", "containers": []},
                ],
            },
        }))
        .unwrap();
        let pod = Arc::new(ObservedPod {
            uid: "u1".to_owned(),
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            raw: json!({"spec": {"containers": [{"name": "main", "image": "web:v1"}]}}),
            owner: None,
            namespace_labels: BTreeMap::new(),
            driven_away: false,
        });
        let started = |name: &str, ms| RunningContainer {
            name: name.to_owned(),
            since: Timestamp::from_millisecond(ms).ok(),
        };
        let new = Arc::new(ObservedPod {
            uid: "u2".to_owned(),
            name: "new".to_owned(),
            ..ObservedPod::clone(&pod)
        });
        let running = [
            (
                "u1".to_owned(),
                [started("main", 71_000), started("late", 90_000)].into(),
            ),
            ("u2".to_owned(), [started("main", 95_000)].into()),
        ];
        let summary = summary("press-7", &told, &[pod, new], &running.into());
        let ms = |timestamp: Timestamp| timestamp.as_millisecond() - 1_800_000_000_000;
        assert_eq!(ms(summary.node.start_time), -60_000);
        assert_eq!(
            summary
                .node
                .cpu
                .map(|cpu| (ms(cpu.time), cpu.usage_core_nano_seconds)),
            Some((-1_000, Some(7)))
        );
        let [pod, new] = summary.pods.as_slice() else {
            panic!("{:?}", summary.pods)
        };
        assert_eq!(pod.containers.len(), 2, "one of them is not in the sample");
        assert_eq!(ms(pod.containers[1].start_time), -10_000);
        assert_eq!((new.pod_ref.uid.as_str(), ms(new.start_time)), ("u2", -5_000));
        assert!(new.cpu.is_none() && new.containers[0].cpu.is_none());
        assert_eq!((pod.pod_ref.name.as_str(), ms(pod.start_time)), ("web", -30_000));
        assert_eq!(pod.containers[0].identity.image, "web:v1");
        assert_eq!(
            pod.containers[0]
                .memory
                .as_ref()
                .and_then(|memory| memory.working_set_bytes),
            Some(9)
        );
    }
}
