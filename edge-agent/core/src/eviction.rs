//! Which workload has to go when the device runs out of something, or when it takes more than it may.
//!
//! The rules are those of pkg/kubelet/eviction in Kubernetes 1.37 with its default hard thresholds: `rankMemoryPressure`,
//! `rankPIDPressure` and `rankDiskPressureFunc` say who goes first, `localStorageEviction` who goes whatever there is left, and
//! `evictionMessage` what is said of it. At most one workload goes per measurement for lack of something.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use edge_protocol::PodUid;
use edge_protocol::v1::{ContainerSpec, Manifest, Medium, Pressures, VolumeSource};

use crate::sums;
use crate::usage::{Disk, Room, Usage, WorkloadUsage};

/// Seconds that a workload gets which has to go at once (`immediateEvictionGracePeriodSeconds`).
pub(crate) const GRACE_S: u32 = 1;
/// How long a condition stays after the last measurement that showed it (`evictionPressureTransitionPeriod`).
const TRANSITION_MS: u64 = 5 * 60_000;

/// A hard threshold: below it the device lacks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    Least(u64),
    /// In hundredths of the capacity.
    Percent(u8),
}

impl Threshold {
    fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Least(amount) => amount,
            Self::Percent(percent) => capacity / 100 * u64::from(percent),
        }
    }

    fn is_crossed(self, room: Room) -> bool {
        room.capacity > 0 && room.available < self.of(room.capacity)
    }

    fn is_near(self, room: Room) -> bool {
        room.available < self.of(room.capacity).saturating_mul(2)
    }
}

/// When a device lacks what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub memory: Threshold,
    pub node_disk: Threshold,
    pub node_inodes: Threshold,
    pub image_disk: Threshold,
    pub image_inodes: Threshold,
    /// The kubelet has no default for it.
    pub processes: Option<Threshold>,
}

impl Default for Thresholds {
    /// `DefaultEvictionHard` of pkg/kubelet/apis/config/v1beta1.
    fn default() -> Self {
        Self {
            memory: Threshold::Least(100 << 20),
            node_disk: Threshold::Percent(10),
            node_inodes: Threshold::Percent(5),
            image_disk: Threshold::Percent(15),
            image_inodes: Threshold::Percent(5),
            processes: None,
        }
    }
}

impl Thresholds {
    /// Whether so little is left, twice a threshold, that the next decision may need everything measured. Generous: it only costs a
    /// measurement.
    pub fn are_near(&self, usage: &Usage) -> bool {
        Signal::ALL.into_iter().any(|signal| {
            let measured = signal.threshold(self).zip(signal.room(usage));
            measured.is_some_and(|(threshold, room)| threshold.is_near(room))
        })
    }
}

/// What a device may lack, in the order in which it is mended: memory first, as there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    Memory,
    NodeDisk,
    NodeInodes,
    ImageDisk,
    ImageInodes,
    Processes,
}

impl Signal {
    const ALL: [Self; 6] = [
        Self::Memory,
        Self::NodeDisk,
        Self::NodeInodes,
        Self::ImageDisk,
        Self::ImageInodes,
        Self::Processes,
    ];

    /// The resource as messages name it.
    fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::NodeDisk | Self::ImageDisk => "ephemeral-storage",
            Self::NodeInodes | Self::ImageInodes => "inodes",
            Self::Processes => "pids",
        }
    }

    fn room(self, usage: &Usage) -> Option<Room> {
        let bytes = |disk: Option<Disk>| disk.map(|disk| disk.bytes);
        let inodes = |disk: Option<Disk>| disk.map(|disk| disk.inodes);
        match self {
            Self::Memory => usage.memory,
            Self::NodeDisk => bytes(usage.node_disk),
            Self::NodeInodes => inodes(usage.node_disk),
            Self::ImageDisk => bytes(usage.image_disk),
            Self::ImageInodes => inodes(usage.image_disk),
            Self::Processes => usage.processes,
        }
    }

    fn threshold(self, thresholds: &Thresholds) -> Option<Threshold> {
        match self {
            Self::Memory => Some(thresholds.memory),
            Self::NodeDisk => Some(thresholds.node_disk),
            Self::NodeInodes => Some(thresholds.node_inodes),
            Self::ImageDisk => Some(thresholds.image_disk),
            Self::ImageInodes => Some(thresholds.image_inodes),
            Self::Processes => thresholds.processes,
        }
    }
}

/// What the device lacks now, and since when it was last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    seen_ms: BTreeMap<Signal, u64>,
    lacking: Vec<Signal>,
}

impl Pressure {
    /// Takes a measurement in; times are of the monotonic clock.
    pub(crate) fn measure(&mut self, usage: &Usage, thresholds: &Thresholds, now_ms: u64) {
        let lacks = |signal: &Signal| {
            let crossed = |(threshold, room): (Threshold, Room)| threshold.is_crossed(room);
            signal
                .threshold(thresholds)
                .zip(signal.room(usage))
                .is_some_and(crossed)
        };
        self.lacking = Signal::ALL.into_iter().filter(lacks).collect();
        for signal in &self.lacking {
            self.seen_ms.insert(*signal, now_ms);
        }
        self.seen_ms
            .retain(|_, seen| now_ms.saturating_sub(*seen) < TRANSITION_MS);
    }

    /// The conditions of a Node, which outlive what caused them by five minutes.
    pub(crate) fn conditions(&self) -> Pressures {
        let seen = |signals: &[Signal]| signals.iter().any(|signal| self.seen_ms.contains_key(signal));
        Pressures {
            memory: seen(&[Signal::Memory]),
            disk: seen(&[
                Signal::NodeDisk,
                Signal::NodeInodes,
                Signal::ImageDisk,
                Signal::ImageInodes,
            ]),
            processes: seen(&[Signal::Processes]),
        }
    }

    /// Whether images that nobody uses should go before any workload does (`buildSignalToNodeReclaimFuncs`).
    pub(crate) fn wants_images_gone(&self, usage: &Usage) -> bool {
        self.lacking.iter().any(|signal| match signal {
            Signal::ImageDisk | Signal::ImageInodes => true,
            Signal::NodeDisk | Signal::NodeInodes => !usage.disks_differ,
            Signal::Memory | Signal::Processes => false,
        })
    }
}

/// Somebody has to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Eviction {
    pub(crate) uid: PodUid,
    pub(crate) message: String,
    pub(crate) grace_s: u32,
    /// The device is at fault and not the workload: `evictPod` sets a condition that says so, but not where `localStorageEviction` asks.
    pub(crate) disrupts: bool,
}

/// A workload that runs, and what it uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runs<'a> {
    pub(crate) uid: &'a PodUid,
    pub(crate) manifest: &'a Manifest,
    /// Absent where it could not be measured: such a one goes first.
    pub(crate) usage: Option<&'a WorkloadUsage>,
}

/// Who takes more of the disk than its own limits allow; all of them go, whatever the device has left.
pub(crate) fn over_limit(workloads: &[Runs<'_>]) -> Vec<Eviction> {
    let over = |runs: &Runs<'_>| {
        let usage = runs.usage?;
        let message = over_volume(runs.manifest, usage)
            .or_else(|| over_workload(runs.manifest, usage))
            .or_else(|| over_container(runs.manifest, usage))?;
        Some(Eviction {
            uid: runs.uid.clone(),
            message,
            grace_s: GRACE_S,
            disrupts: false,
        })
    };
    workloads
        .iter()
        .filter(|runs| !runs.manifest.workload.is_critical())
        .filter_map(over)
        .collect()
}

/// Who goes for the first thing that the device lacks; nobody when it lacks nothing, or when it is not known who uses how much (`synchronize`
/// ends where `summaryProvider.Get` fails).
pub(crate) fn for_lack(
    pressure: &Pressure,
    usage: &Usage,
    thresholds: &Thresholds,
    workloads: &[Runs<'_>],
) -> Option<Eviction> {
    let signal = *pressure.lacking.first()?;
    usage.workloads.as_ref()?;
    let first = workloads
        .iter()
        .filter(|runs| !runs.manifest.workload.is_critical())
        .min_by_key(|runs| (rank(signal, runs, usage.disks_differ), runs.uid))?;
    Some(Eviction {
        uid: first.uid.clone(),
        message: message(signal, usage, thresholds, first),
        // A hard threshold leaves no time; images are freed before, by the caller.
        grace_s: GRACE_S,
        disrupts: true,
    })
}

/// The least goes first: not measured, over its requests, of low priority, far over its requests.
type Rank = (bool, bool, i32, Reverse<i128>);

/// Where disks differ, only what is on the one that is full counts (`buildSignalToRankFunc`).
fn rank(signal: Signal, runs: &Runs<'_>, disks_differ: bool) -> Rank {
    let Some(usage) = runs.usage else {
        return (false, false, 0, Reverse(0));
    };
    let sums = sums::of(&runs.manifest.workload);
    let (used, requested) = match signal {
        Signal::Memory => (usage.memory_bytes, sums.memory_request_bytes),
        Signal::NodeDisk | Signal::ImageDisk => (
            match signal {
                Signal::NodeDisk if disks_differ => usage.data_bytes(),
                Signal::ImageDisk if disks_differ => usage.layer_bytes(),
                _ => usage.disk_bytes(),
            },
            sums.ephemeral_storage_request_bytes,
        ),
        // Of these nothing can be asked for.
        Signal::NodeInodes if disks_differ => (usage.volume_inodes, 0),
        Signal::ImageInodes if disks_differ => (usage.layer_inodes, 0),
        Signal::NodeInodes | Signal::ImageInodes => {
            (usage.layer_inodes.saturating_add(usage.volume_inodes), 0)
        }
        Signal::Processes => (usage.processes, 0),
    };
    // For processes only priority and number count.
    let within = signal == Signal::Processes || used <= requested;
    let over = i128::from(used) - i128::from(requested);
    (true, within, runs.manifest.workload.priority, Reverse(over))
}

/// The containers that run together: the main ones and the sidecars.
fn lasting(manifest: &Manifest) -> impl Iterator<Item = &ContainerSpec> {
    let workload = &manifest.workload;
    let sidecars = workload.init_containers.iter().filter(|spec| spec.is_sidecar());
    workload.containers.iter().chain(sidecars)
}

fn over_volume(manifest: &Manifest, usage: &WorkloadUsage) -> Option<String> {
    manifest.workload.volumes.iter().find_map(|volume| {
        // The kernel holds those in memory to their size.
        let VolumeSource::EmptyDir {
            medium: Medium::Disk,
            size_limit_bytes: Some(limit),
        } = volume.source
        else {
            return None;
        };
        let over = limit > 0 && usage.volumes.get(&volume.name).is_some_and(|used| *used > limit);
        over.then(|| {
            format!(
                "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
                volume.name,
                binary(limit)
            )
        })
    })
}

fn over_workload(manifest: &Manifest, usage: &WorkloadUsage) -> Option<String> {
    let limit = sums::of(&manifest.workload).ephemeral_storage_limit_bytes?;
    (usage.disk_bytes() > limit).then(|| {
        format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {}. ",
            binary(limit)
        )
    })
}

fn over_container(manifest: &Manifest, usage: &WorkloadUsage) -> Option<String> {
    lasting(manifest).find_map(|container| {
        let limit = container
            .resources
            .ephemeral_storage_limit_bytes
            .filter(|limit| *limit > 0)?;
        let used = usage.containers.get(&container.name)?.disk_bytes();
        (used > limit).then(|| {
            format!(
                "Container {} exceeded its local ephemeral storage limit {:?}. ",
                container.name,
                binary(limit)
            )
        })
    })
}

fn message(signal: Signal, usage: &Usage, thresholds: &Thresholds, runs: &Runs<'_>) -> String {
    let resource = signal.resource();
    let mut parts = vec![format!("The node was low on resource: {resource}. ")];
    if let Some((threshold, room)) = signal.threshold(thresholds).zip(signal.room(usage)) {
        let least = threshold.of(room.capacity);
        let (least, available) = (amount(signal, least), amount(signal, room.available));
        parts.push(format!("Threshold quantity: {least}, available: {available}. "));
    }
    let Some(measured) = runs.usage else {
        return parts.concat();
    };
    for container in lasting(runs.manifest) {
        let Some(used) = measured.containers.get(&container.name) else {
            continue;
        };
        let (used, asked) = match signal {
            Signal::Memory => (used.memory_bytes, container.resources.memory_request_bytes),
            Signal::NodeDisk | Signal::ImageDisk => (
                used.disk_bytes(),
                container.resources.ephemeral_storage_request_bytes,
            ),
            _ => continue,
        };
        let asked = asked.unwrap_or(0);
        if used > asked {
            parts.push(format!(
                "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
                container.name,
                binary(used),
                binary(asked)
            ));
        }
    }
    parts.concat()
}

fn amount(signal: Signal, value: u64) -> String {
    match signal {
        Signal::Memory | Signal::NodeDisk | Signal::ImageDisk => binary(value),
        Signal::NodeInodes | Signal::ImageInodes | Signal::Processes => value.to_string(),
    }
}

/// As a `resource.Quantity` in binary format writes itself: the greatest unit that leaves no fraction.
fn binary(bytes: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut value = bytes;
    let mut unit = 0;
    while value > 0 && value.is_multiple_of(1024) && unit + 1 < units.len() {
        value /= 1024;
        unit += 1;
    }
    format!("{value}{}", units.get(unit).unwrap_or(&""))
}

#[cfg(test)]
mod tests;
