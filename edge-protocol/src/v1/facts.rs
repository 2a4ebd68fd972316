//! What a device claims about itself. Claims may narrow a target; they never grant anything.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address;

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
    /// The runtime can keep a process to the groups that its workload names. False also while no runtime is known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict_groups: bool,
    /// What the runtime has, as [`bounded_images`] leaves it. No hello says it, and no frame on a link that counts bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<HeldImage>,
}

impl Facts {
    /// The device's addresses, one of a family, the foremost first. What is no address counts for nothing.
    pub fn ips(&self) -> Vec<IpAddr> {
        address::said(&self.addresses)
    }
}

/// An image on a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct HeldImage {
    /// With digests first, then with tags.
    pub names: Vec<String>,
    pub size_bytes: u64,
}

/// The most images that are told, as `nodeStatusMaxImages` of a kubelet.
const MAX_IMAGES: usize = 50;
/// The most names of one, as `MaxNamesPerImageInNodeStatus` of `pkg/kubelet/nodestatus/setters.go`.
const MAX_IMAGE_NAMES: usize = 5;
/// The longest name of one, in bytes.
const MAX_IMAGE_NAME_BYTES: usize = 512;
/// The most bytes of all their names: what a hub holds in memory for a device is bounded.
const MAX_IMAGES_BYTES: usize = 4 << 10;

/// The largest first, as a kubelet sorts them, and no more than a Node and a hub should hold of a device. An image without a name that can
/// be told is left out.
pub fn bounded_images(mut images: Vec<HeldImage>) -> Vec<HeldImage> {
    images.sort_by(|a, b| {
        b.size_bytes
            .cmp(&a.size_bytes)
            .then_with(|| a.names.cmp(&b.names))
    });
    let mut room = MAX_IMAGES_BYTES;
    let mut told = Vec::new();
    for HeldImage {
        mut names,
        size_bytes,
    } in images
    {
        names.retain(|name| name.len() <= MAX_IMAGE_NAME_BYTES && !name.contains(char::is_control));
        names.truncate(MAX_IMAGE_NAMES);
        let bytes: usize = names.iter().map(String::len).sum();
        if told.len() == MAX_IMAGES || bytes > room {
            break;
        }
        if bytes > 0 {
            room -= bytes;
            told.push(HeldImage { names, size_bytes });
        }
    }
    told
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

    /// The least time between two samples of what the device uses, in milliseconds, beside the device's own: a link that counts bytes carries them more
    /// rarely, or they would be most of what it carries.
    pub fn stats_floor_ms(self) -> u64 {
        match self {
            Self::Lan => 0,
            Self::Cellular => 30_000,
            Self::Satellite => 120_000,
        }
    }
}
