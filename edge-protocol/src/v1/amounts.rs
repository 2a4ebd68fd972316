//! Amounts of what a device has, and what of it its workloads may have.

use serde::{Deserialize, Serialize};

/// Of a device: what it has, keeps for itself, or gives to workloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Amounts {
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    pub ephemeral_storage_bytes: u64,
}

/// The kubelet's default `evictionHard`, which is not allocatable either (`DefaultEvictionHard` of `pkg/kubelet/apis/config/v1beta1`):
/// `memory.available`, and `nodefs.available` in percent.
const EVICTION_MEMORY: u64 = 100 << 20;
const EVICTION_STORAGE_PERCENT: u64 = 10;

impl Amounts {
    /// What of a capacity workloads may have (`GetNodeAllocatableReservation` of `pkg/kubelet/cm/node_container_manager_linux.go`).
    #[must_use]
    pub fn allocatable(self, reserved: Self) -> Self {
        let memory = reserved.memory_bytes.saturating_add(EVICTION_MEMORY);
        let evicted = self.ephemeral_storage_bytes / 100 * EVICTION_STORAGE_PERCENT;
        let storage = reserved.ephemeral_storage_bytes.saturating_add(evicted);
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(reserved.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_sub(memory),
            ephemeral_storage_bytes: self.ephemeral_storage_bytes.saturating_sub(storage),
        }
    }
}
