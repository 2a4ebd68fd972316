//! The fleet's sum, for bookkeeping: each device admits by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_protocol::DeviceId;
use iot_hub_client::api::{Device, DeviceState};
use virtual_kubelet::core::Capacity;

use crate::device_nodes::DeviceNodes;

/// The devices as last told.
#[derive(Debug, Default)]
pub struct Fleet {
    devices: BTreeMap<DeviceId, Capacity>,
    apart: Option<Arc<DeviceNodes>>,
}

impl Fleet {
    /// Without the devices that are Nodes of their own.
    pub fn new(apart: Option<Arc<DeviceNodes>>) -> Self {
        Self {
            devices: BTreeMap::new(),
            apart,
        }
    }

    /// All devices at one moment.
    pub fn list(&mut self, devices: &[Device]) {
        self.devices.clear();
        for device in devices {
            self.see(device);
        }
    }

    /// One device as it is now. A device that is offline counts: it comes back. One that is disabled or decommissioned does not.
    pub fn see(&mut self, device: &Device) {
        let is_apart = self
            .apart
            .as_ref()
            .is_some_and(|nodes| nodes.is_outside_fleet(device));
        if device.state != DeviceState::Active || is_apart {
            self.devices.remove(&device.id);
            return;
        }
        let capacity = Capacity {
            cpu_milli: device.facts.cpu_milli,
            memory_bytes: device.facts.memory_bytes,
            pods: u64::from(device.facts.pods),
            ..Capacity::default()
        };
        self.devices.insert(device.id.clone(), capacity);
    }

    pub fn capacity(&self) -> Capacity {
        self.devices
            .values()
            .fold(Capacity::default(), |sum, device| Capacity {
                cpu_milli: sum.cpu_milli.saturating_add(device.cpu_milli),
                memory_bytes: sum.memory_bytes.saturating_add(device.memory_bytes),
                pods: sum.pods.saturating_add(device.pods),
                ..sum
            })
    }
}
