//! What a hub is told at its beginning.

use edge_protocol::HubId;
use edge_protocol::sign::Signer;
use edge_protocol::v1::object::MAX_OBJECT;

use crate::device::Rates;

#[derive(Debug)]
pub struct HubConfig {
    pub hub: HubId,
    pub signer: Signer,
    /// Milliseconds until a late joiner counts although it was never healthy.
    pub join_deadline_ms: u64,
    pub limits: Limits,
}

/// What one caller or one device may make the hub hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub devices: usize,
    pub deployments: usize,
    pub manifest_bytes: usize,
    /// Of one object's body, and of all objects of one deployment together.
    pub object_bytes: usize,
    pub deployment_object_bytes: usize,
    /// Of all objects' bodies that the hub holds.
    pub objects_bytes: usize,
    pub tags: usize,
    /// Of a tag's key and of its value each.
    pub tag_bytes: usize,
    /// Workloads that one device is to run, orphans among them. An agent refuses a larger set whole.
    pub workloads: usize,
    /// Items in one statement to a device; a larger set travels as a snapshot of several parts.
    pub part_items: usize,
    /// Streams that are ordered or open, in all and of one device.
    pub streams: usize,
    pub device_streams: usize,
    /// Of all that devices said of what they use, in memory.
    pub stats_bytes: usize,
    /// What one device may send per minute.
    pub rates: Rates,
}

impl HubConfig {
    /// Ten minutes until a late joiner counts (law 3), and the default limits.
    pub fn new(hub: HubId, signer: Signer) -> Self {
        Self {
            hub,
            signer,
            join_deadline_ms: 600_000,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            devices: 100_000,
            deployments: 20_000,
            manifest_bytes: 1 << 20,
            object_bytes: MAX_OBJECT,
            deployment_object_bytes: 2 * MAX_OBJECT,
            objects_bytes: 512 << 20,
            tags: 64,
            tag_bytes: 256,
            workloads: 1_000,
            // About 300 KiB of base64, well inside a frame together with inline blobs.
            part_items: 1_000,
            streams: 4_096,
            device_streams: 64,
            stats_bytes: 256 << 20,
            rates: Rates::default(),
        }
    }
}
