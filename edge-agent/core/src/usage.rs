//! What a device and its workloads use, as measured at one moment: the seam between the shell that measures and the core that decides
//! what has to go.

use std::collections::BTreeMap;

use edge_protocol::PodUid;

use crate::images::ObservedImage;

/// One measurement. What could not be measured is absent, and then nothing is concluded from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    pub memory: Option<Room>,
    /// Where volumes and logs are.
    pub node_disk: Option<Disk>,
    /// Where images and the writable layers of containers are, which may be the same disk.
    pub image_disk: Option<Disk>,
    /// Whether the two are different disks.
    pub disks_differ: bool,
    pub processes: Option<Room>,
    /// Of all that run, complete; absent where they were not measured this time.
    pub workloads: Option<BTreeMap<PodUid, WorkloadUsage>>,
    /// All images of the runtime, complete; absent where they were not listed this time.
    pub images: Option<Vec<ObservedImage>>,
}

/// Bytes or numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    pub capacity: u64,
    pub available: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    pub bytes: Room,
    pub inodes: Room,
}

/// Of one workload; memory is the working set, as the kubelet counts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadUsage {
    pub memory_bytes: u64,
    pub processes: u64,
    /// Of writable layers.
    pub layer_inodes: u64,
    /// Of volumes.
    pub volume_inodes: u64,
    /// Of volumes that live on the device's disk for this workload alone, by name.
    pub volumes: BTreeMap<String, u64>,
    pub containers: BTreeMap<String, ContainerUsage>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    pub memory_bytes: u64,
    /// The writable layer.
    pub layer_bytes: u64,
    pub log_bytes: u64,
}

impl ContainerUsage {
    pub fn disk_bytes(self) -> u64 {
        self.layer_bytes.saturating_add(self.log_bytes)
    }
}

impl WorkloadUsage {
    /// Layers, logs and volumes together.
    pub fn disk_bytes(&self) -> u64 {
        self.layer_bytes().saturating_add(self.data_bytes())
    }

    /// What is where images are.
    pub fn layer_bytes(&self) -> u64 {
        let layers = self.containers.values().map(|container| container.layer_bytes);
        layers.fold(0, u64::saturating_add)
    }

    /// What is where logs and volumes are.
    pub fn data_bytes(&self) -> u64 {
        let logs = self.containers.values().map(|container| container.log_bytes);
        logs.chain(self.volumes.values().copied())
            .fold(0, u64::saturating_add)
    }
}
