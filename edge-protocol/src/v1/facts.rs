//! What a device claims about itself. Claims may narrow a target; they never grant anything.

use serde::{Deserialize, Serialize};

/// Read on the device at start, and told again when something changes. Absent fields are unknown, not zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Facts {
    pub hostname: String,
    /// As Go and Kubernetes spell them: `linux`, `amd64`, `arm64`, `arm`.
    pub os: String,
    pub arch: String,
    pub kernel_version: String,
    pub os_image: String,
    pub runtime_name: String,
    pub runtime_version: String,
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    pub ephemeral_storage_bytes: u64,
    /// The most workloads the agent will run.
    pub pods: u32,
    /// `/etc/machine-id`, the board's UUID and the id of this boot, as a Node's `nodeInfo` has them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub machine_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system_uuid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// Addresses that it would speak from, one of a family, IPv4 first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    #[serde(skip_serializing_if = "Pressures::is_none")]
    pub pressures: Pressures,
}

/// What the device lacks, by the kubelet's thresholds; each outlives its cause by five minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Pressures {
    pub memory: bool,
    pub disk: bool,
    pub processes: bool,
}

impl Pressures {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The class of a device's link, assigned by the hub. It sets keep-alive, heartbeat and the deadline after which silence counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LinkClass {
    #[default]
    Lan,
    Cellular,
    Satellite,
}

impl LinkClass {
    /// MQTT keep-alive and heartbeat, in seconds; used from the next CONNECT.
    pub fn keep_alive_s(self) -> u16 {
        match self {
            Self::Lan => 30,
            Self::Cellular => 240,
            Self::Satellite => 900,
        }
    }

    /// Silence longer than this, in milliseconds, means offline: one and a half keep-alives.
    pub fn deadline_ms(self) -> u64 {
        u64::from(self.keep_alive_s()) * 1500
    }
}
