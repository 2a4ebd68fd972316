//! Which devices are Nodes of their own, and how they look as such: pure rules over the hub's word.

use std::collections::BTreeMap;
use std::net::IpAddr;

use edge_protocol::v1::Amounts;
use iot_hub_client::api::{Device, DeviceState};
use iot_hub_core::condition::{Condition, Subject, Truth};
use ipnet::IpNet;
use serde::Deserialize;
use virtual_kubelet::core::Capacity;

use daemon::ConfigError;
use daemon::config::check;

/// `[device_nodes]`; without it no device is a Node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceNodesOptions {
    /// The target condition that a device meets to be a Node. Only what the hub itself knows counts: a device cannot claim its way in.
    pub condition: String,
    /// Whether fleet pods run on such devices too, and their sum is in the fleet node's.
    #[serde(default)]
    pub in_fleet: bool,
    /// Ranges whose addresses others of the cluster can reach: only an address in one of them is shown as a Node's or a pod's.
    #[serde(default)]
    pub routable: Vec<IpNet>,
    /// Labels of the Node by the tag that gives their value.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What of a device is kept for itself: the kubelet's `kubeReserved` and `systemReserved`.
    #[serde(default)]
    pub reserved: Reserved,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reserved {
    pub cpu_milli: u64,
    pub memory_mib: u64,
    pub ephemeral_storage_mib: u64,
}

impl Reserved {
    pub fn amounts(self) -> Amounts {
        let mib = |mib: u64| mib.saturating_mul(1 << 20);
        Amounts {
            cpu_milli: self.cpu_milli,
            memory_bytes: mib(self.memory_mib),
            ephemeral_storage_bytes: mib(self.ephemeral_storage_mib),
        }
    }

    pub fn allocatable(self, capacity: Capacity) -> Capacity {
        let amounts = Amounts {
            cpu_milli: capacity.cpu_milli,
            memory_bytes: capacity.memory_bytes,
            ephemeral_storage_bytes: capacity.ephemeral_storage_bytes.unwrap_or(0),
        };
        let left = amounts.allocatable(self.amounts());
        Capacity {
            cpu_milli: left.cpu_milli,
            memory_bytes: left.memory_bytes,
            ephemeral_storage_bytes: capacity
                .ephemeral_storage_bytes
                .map(|_| left.ephemeral_storage_bytes),
            pods: capacity.pods,
        }
    }
}

impl DeviceNodesOptions {
    /// # Errors
    /// Names the key that cannot be used.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(
            self.condition.parse::<Condition>().is_ok(),
            "device_nodes.condition",
            "it is not a target condition",
        )?;
        check(
            self.labels.keys().all(|key| is_label_key(key)),
            "device_nodes.labels",
            "a key is no label's",
        )
    }

    /// `None` when the condition is none, which [`validate`](Self::validate) refuses.
    pub fn parsed(&self) -> Option<DeviceNodes> {
        Some(DeviceNodes {
            condition: self.condition.parse().ok()?,
            options: self.clone(),
        })
    }
}

/// The options, read once.
#[derive(Debug, Clone)]
pub struct DeviceNodes {
    condition: Condition,
    pub options: DeviceNodesOptions,
}

impl DeviceNodes {
    /// Whether this device should have a Node.
    pub fn is_node(&self, device: &Device) -> bool {
        let subject = Subject {
            id: &device.id,
            group: &device.group,
            tags: &device.tags,
            facts: &device.facts,
        };
        device.state != DeviceState::Decommissioned && self.condition.authority(&subject) == Truth::True
    }

    /// Whether fleet pods leave this device alone.
    pub fn is_outside_fleet(&self, device: &Device) -> bool {
        !self.options.in_fleet && self.is_node(device)
    }

    /// The scope of fleet pods: what their namespace may reach, less the devices that are Nodes of their own.
    pub fn fleet_scope(&self, scope: &str) -> String {
        let own = &self.condition;
        match scope.trim() {
            scope if self.options.in_fleet => scope.to_owned(),
            "*" => format!("NOT ({own})"),
            scope => format!("({scope}) AND NOT ({own})"),
        }
    }

    pub fn is_routable(&self, address: IpAddr) -> bool {
        self.options.routable.iter().any(|range| range.contains(&address))
    }
}

/// The target condition of the pods of a device's Node.
pub fn condition_of(device: &str) -> String {
    format!("deviceId = '{device}'")
}

/// `metav1validation.ValidateLabels`: an optional prefix, a subdomain, and a name.
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key
        .rsplit_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefixed = prefix.is_none_or(|prefix| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        !prefix.is_empty() && prefix.len() <= 253 && prefix.bytes().all(inner)
    });
    prefixed && !name.is_empty() && is_label_value(name)
}

/// At most 63 characters of a few kinds, with a letter or digit at both ends; or nothing.
pub fn is_label_value(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let end = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= 63 && value.bytes().all(inner) && end(bytes.first()) && end(bytes.last())
}

#[cfg(test)]
mod tests;
