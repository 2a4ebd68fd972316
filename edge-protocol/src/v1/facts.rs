//! What a device claims about itself. Claims may narrow a target; they never grant anything.

use serde::{Deserialize, Serialize};

/// Read on the device at start, and again when something changes. Absent fields are unknown, not zero.
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
