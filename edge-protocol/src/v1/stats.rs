//! What a device and its workloads use, told while somebody asks.
//!
//! The definitions are the kubelet's (`stats/v1alpha1` of k8s.io/kubelet, pkg/kubelet/stats): a working set is what is in use less the inactive file
//! cache. All of it is the device's own word. A figure that it cannot say is absent, and each group of them has the moment that it was read at.

use serde::{Deserialize, Serialize};

use crate::text::sanitise;
use crate::time::DeviceTime;
use crate::{Nonce, PodUid, SessionEpoch};

/// Workloads in one part of a report: with the bounds below, the longest part fits a frame.
pub const MAX_STATS_WORKLOADS: usize = 32;
/// Parts of one sample.
pub const MAX_STATS_PARTS: u32 = 64;
/// The longest time between two samples that can be asked for, in milliseconds.
pub const MAX_STATS_INTERVAL_MS: u64 = 600_000;
/// The longest time that one ask is good for, in milliseconds.
pub const MAX_STATS_FOR_MS: u64 = 600_000;

/// Containers, and volumes, that are told of one workload.
const MAX_OF_WORKLOAD: usize = 64;
const MAX_INTERFACES: usize = 16;
/// Names of containers and volumes are labels of DNS, the longest ids have 64 characters.
const MAX_NAME: usize = 64;

/// Somebody wants figures: a sample at once, or `interval_ms` after the last one where that was a moment ago, and then one per interval until `for_ms` have
/// passed. A later ask takes the place of an earlier one; the end of the session ends them all.
///
/// It is unsigned, because it changes nothing on a device, and the device says itself how often it tells at the most. The nonce of the session's hello
/// binds it to that one session of that one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsAsk {
    pub nonce: Nonce,
    pub session: SessionEpoch,
    pub interval_ms: u64,
    /// 0 asks for one sample.
    pub for_ms: u64,
}

/// One part of one sample, in the bulk lane. It is not acknowledged: the next one says more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsReport {
    /// Rises with every sample of a life of the agent; the same in all parts of one.
    pub sample: u64,
    /// The sample is whole when `part + 1 == of` came after all others, in order.
    pub part: u32,
    pub of: u32,
    /// When the next one comes, counted from this; 0 when none was asked for. It may be more than what was asked.
    pub interval_ms: u64,
    /// What concerns the device as a whole is in the first part.
    pub stats: Stats,
}

/// A sample, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stats {
    /// When it was complete: the clock that the moments of the figures are read on, beside the device's wall clock.
    pub at: DeviceTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Box<NodeStats>>,
    /// Those with a running container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadStats>,
}

/// The device as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeStats {
    /// When it booted, in milliseconds since the Unix epoch by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<ProcessStats>,
    /// Where volumes and logs are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<FsStats>,
    /// Where images and the writable layers of containers are; used is what images take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_fs: Option<FsStats>,
}

/// One workload. What it has on a file system shares the room of that: see [`NodeStats`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkloadStats {
    pub uid: PodUid,
    /// When its sandbox was made, in milliseconds since the Unix epoch by the device's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// Of its cgroup: all of its containers, and its sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<IoStats>,
    /// Absent on the device's own network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<ProcessStats>,
    /// Its containers' layers and logs, and its volumes on the device's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<FsStats>,
    /// Those that live on the device's disk for this workload alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeStats>,
    /// Those that run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerStats>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerStats {
    pub name: String,
    /// The bare runtime id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// In milliseconds since the Unix epoch by the device's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<IoStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<ProcessStats>,
    /// Its writable layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<FsStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<FsStats>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeStats {
    pub name: String,
    pub fs: FsStats,
}

/// The interfaces of one network namespace but for loopback and what leads into containers, as cAdvisor leaves them out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NetworkStats {
    pub at_ms: u64,
    /// The one that the default route leads through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    pub interfaces: Vec<InterfaceStats>,
}

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $field:ident),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name {
            /// When they were read, in milliseconds since the device's boot (`DeviceTime::mono_ms`).
            pub at_ms: u64,
            $($(#[$of])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $field: Option<u64>,)+
        }
    )+};
}

figures! {
    CpuStats {
        /// Of all cores since the cgroup was made, in nanoseconds.
        usage_ns,
        /// Over the time since the sample before, or a second where there was none: nanoseconds of core per second.
        rate_nanocores,
        /// Periods in which it was runnable, those in which its limit stopped it, and for how long.
        periods,
        throttled_periods,
        throttled_ns,
    }
    MemoryStats {
        usage_bytes,
        /// In use less the inactive file cache.
        working_set_bytes,
        /// Up to the limit, or to what the device has; absent without a limit.
        available_bytes,
        rss_bytes,
        cache_bytes,
        page_faults,
        major_page_faults,
    }
    SwapStats {
        usage_bytes,
        /// Absent without a limit.
        available_bytes,
    }
    /// Of block devices, since the cgroup was made.
    IoStats {
        read_bytes,
        written_bytes,
        reads,
        writes,
    }
    ProcessStats {
        /// Processes.
        count,
        /// Tasks: processes and their threads.
        threads,
        /// Tasks that there may be.
        threads_limit,
    }
    FsStats {
        capacity_bytes,
        available_bytes,
        used_bytes,
        inodes,
        inodes_free,
        inodes_used,
    }
}

/// Counts since the interface came up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InterfaceStats {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

impl Stats {
    /// At most so much of it as one part may carry, with clean names. What exceeds is left out; clean and short stats pass unchanged.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.workloads.truncate(MAX_STATS_WORKLOADS);
        let networks = self.workloads.iter_mut().map(|workload| &mut workload.network);
        let node = self.node.iter_mut().map(|node| &mut node.network);
        for network in networks.chain(node).flatten() {
            network.interfaces.truncate(MAX_INTERFACES);
            let names = network.interfaces.iter_mut().map(|interface| &mut interface.name);
            names.chain(&mut network.default).for_each(clean);
        }
        for workload in &mut self.workloads {
            workload.containers.truncate(MAX_OF_WORKLOAD);
            workload.volumes.truncate(MAX_OF_WORKLOAD);
            for container in &mut workload.containers {
                clean(&mut container.name);
                clean(&mut container.id);
            }
            workload
                .volumes
                .iter_mut()
                .for_each(|volume| clean(&mut volume.name));
        }
        self
    }
}

fn clean(name: &mut String) {
    *name = sanitise(name);
    let end = (0..=MAX_NAME.min(name.len()))
        .rev()
        .find(|end| name.is_char_boundary(*end));
    name.truncate(end.unwrap_or(0));
}

impl StatsReport {
    /// The parts of one sample, in the order that they are to be sent in; workloads beyond what all parts can carry are left out.
    pub fn parts(sample: u64, interval_ms: u64, stats: Stats) -> Vec<Self> {
        let Stats {
            at,
            mut node,
            mut workloads,
        } = stats;
        workloads.truncate(MAX_STATS_PARTS as usize * MAX_STATS_WORKLOADS);
        let mut parts = Vec::new();
        loop {
            let rest = workloads.split_off(workloads.len().min(MAX_STATS_WORKLOADS));
            let stats = Stats {
                at,
                node: node.take(),
                workloads,
            };
            parts.push(stats.bounded());
            if rest.is_empty() {
                break;
            }
            workloads = rest;
        }
        let of = u32::try_from(parts.len()).unwrap_or(MAX_STATS_PARTS);
        let part = |(part, stats)| Self {
            sample,
            part,
            of,
            interval_ms,
            stats,
        };
        (0..).zip(parts).map(part).collect()
    }
}

#[cfg(test)]
mod tests;
