//! What the Node of one device shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_protocol::v1::{HeldImage, Pressures};
use iot_hub_client::api::{Device, DeviceState};
use jiff::Timestamp;
use virtual_kubelet::core::node::{
    Address, Capacity, ConditionStatus, HubWord, KubeletPort, NodeCondition, NodeImage, NodeInfo, NodeView,
    Owned, own_labels,
};

use edge_provider_translate::features;

use crate::device_nodes::{DeviceNodes, is_label_key, is_label_value};

/// Labels and annotations under it are this process's alone.
pub const TAGS: &str = "tag.outrigger.io/";
const ALL_TAGS: &str = "outrigger.io/tags";
/// From this version on an API server keeps whether a node can keep to a pod's groups, unless it is switched off (`SupplementalGroupsPolicy`, beta).
const GROUPS_SINCE: (u32, u32) = (1, 33);
/// The labels and annotations that come from tags and do not begin like one: they go when their tag does.
const BY_TAGS: &str = "outrigger.io/set-by-tags";
const AGENT_VERSION: &str = "outrigger.io/agent-version";
const CONNECTED: &str = "outrigger.io/Connected";
const ZONE: &str = "topology.kubernetes.io/zone";
/// As the node controller writes for a kubelet that stopped (`pkg/controller/nodelifecycle`).
const UNKNOWN: &str = "NodeStatusUnknown";

/// What never changes while the process runs.
#[derive(Debug, Clone)]
pub struct DeviceSpec {
    pub name: String,
    pub provider_id: String,
    /// Unless a tag gives one.
    pub zone: String,
    pub kubelet_version: String,
    pub nodes: Arc<DeviceNodes>,
}

impl DeviceSpec {
    /// The Node of this device by its last word. A device that is silent past the deadline of its link shows what is unknown since.
    /// `kubernetes` is the API server's version, once it is known.
    pub fn view(&self, device: &Device, hub: &HubWord, kubernetes: Option<(u32, u32)>) -> NodeView {
        let (labels, annotations) = self.labels(device);
        let capacity = capacity(device);
        NodeView {
            name: self.name.clone(),
            provider_id: self.provider_id.clone(),
            labels,
            annotations,
            owned: Some(Owned {
                prefix: TAGS,
                list: BY_TAGS,
            }),
            addresses: self.addresses(device),
            kubelet_port: KubeletPort::Nothing,
            capacity: Some(capacity),
            allocatable: Some(self.nodes.options.reserved.allocatable(capacity)),
            info: self.info(device),
            conditions: conditions(device, hub),
            images: images(device),
            declared_features: kubernetes.and_then(|version| features::declared(&device.features, version)),
            strict_groups: kubernetes
                .filter(|version| *version >= GROUPS_SINCE)
                .map(|_| device.facts.strict_groups),
            takes_new: hub.answers(),
            lives: device.online,
        }
    }

    /// A tag is a label where it can be one, and an annotation where it cannot.
    fn labels(&self, device: &Device) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let mut labels = BTreeMap::new();
        let mut annotations = BTreeMap::new();
        let mut odd = BTreeMap::new();
        for (key, value) in &device.tags {
            let name = format!("{TAGS}{key}");
            match (is_label_key(&name), is_label_value(value)) {
                (true, true) => drop(labels.insert(name, value.clone())),
                (true, false) => drop(annotations.insert(name, value.clone())),
                (false, _) => drop(odd.insert(key, value)),
            }
        }
        let mut by_tags = Vec::new();
        if !odd.is_empty() {
            let text = serde_json::to_string(&odd).expect("texts have only text keys");
            annotations.insert(ALL_TAGS.to_owned(), text);
            by_tags.push(ALL_TAGS);
        }
        annotations.insert(AGENT_VERSION.to_owned(), device.agent_version.clone());
        let mut zone = self.zone.clone();
        for (label, tag) in &self.nodes.options.labels {
            match device.tags.get(tag).filter(|value| is_label_value(value)) {
                // An own one always: dark devices would slow the eviction of dead workers in a zone that is shared.
                Some(value) if label == ZONE => zone = own_zone(value),
                Some(value) => {
                    labels.insert(label.clone(), value.clone());
                    by_tags.push(label);
                }
                None => {}
            }
        }
        if !by_tags.is_empty() {
            annotations.insert(BY_TAGS.to_owned(), by_tags.join(","));
        }
        labels.extend(own_labels(
            &self.name,
            &device.facts.os,
            &device.facts.arch,
            &zone,
        ));
        (labels, annotations)
    }

    /// A device's address is an address of the Node only where the configuration says that it can be reached.
    fn addresses(&self, device: &Device) -> Vec<Address> {
        let address = |kind, address: String| Address { kind, address };
        let mut ips = device.facts.ips();
        ips.retain(|ip| self.nodes.is_routable(*ip));
        ips.iter()
            .map(|ip| address("InternalIP", ip.to_string()))
            .chain([address("Hostname", self.name.clone())])
            .collect()
    }

    fn info(&self, device: &Device) -> NodeInfo {
        let facts = &device.facts;
        NodeInfo {
            kernel_version: facts.kernel_version.clone(),
            os_image: facts.os_image.clone(),
            container_runtime_version: format!("{}://{}", facts.runtime_name, facts.runtime_version),
            kubelet_version: self.kubelet_version.clone(),
            operating_system: facts.os.clone(),
            architecture: facts.arch.clone(),
            machine_id: facts.machine_id.clone(),
            system_uuid: facts.system_uuid.clone(),
            boot_id: facts.boot_id.clone(),
        }
    }
}

fn own_zone(value: &str) -> String {
    let zone = format!("outrigger-{value}");
    if is_label_value(&zone) {
        zone
    } else {
        value.to_owned()
    }
}

fn capacity(device: &Device) -> Capacity {
    let facts = &device.facts;
    Capacity {
        cpu_milli: facts.cpu_milli,
        memory_bytes: facts.memory_bytes,
        ephemeral_storage_bytes: Some(facts.ephemeral_storage_bytes).filter(|bytes| *bytes > 0),
        pods: u64::from(facts.pods),
    }
}

fn images(device: &Device) -> Vec<NodeImage> {
    let image = |held: &HeldImage| NodeImage {
        names: held.names.clone(),
        size_bytes: held.size_bytes,
    };
    device.facts.images.iter().map(image).collect()
}

/// When the device was last heard.
pub fn last_word(device: &Device) -> Option<Timestamp> {
    Timestamp::from_millisecond(device.last_seen_ms?).ok()
}

fn conditions(device: &Device, hub: &HubWord) -> Vec<NodeCondition> {
    let mut conditions = if device.online {
        heard(device)
    } else {
        silent(device)
    };
    conditions.push(NodeCondition::new(
        "NetworkUnavailable",
        ConditionStatus::False,
        "DeviceNetwork",
        "the device gives its pods their network",
    ));
    conditions.push(connected(device));
    conditions.push(hub.condition());
    conditions
}

/// The kubelet's own reasons and words (`pkg/kubelet/nodestatus/setters.go`).
fn heard(device: &Device) -> Vec<NodeCondition> {
    let Pressures {
        memory,
        disk,
        processes,
    } = device.facts.pressures;
    let pressure = |kind, lacks: bool, [fine, short]: [(&'static str, &'static str); 2]| {
        let (status, (reason, message)) = if lacks {
            (ConditionStatus::True, short)
        } else {
            (ConditionStatus::False, fine)
        };
        NodeCondition::new(kind, status, reason, message)
    };
    vec![
        NodeCondition::new(
            "Ready",
            ConditionStatus::True,
            "KubeletReady",
            "the device is inside the deadline of its link",
        ),
        pressure(
            "MemoryPressure",
            memory,
            [
                (
                    "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available",
                ),
                (
                    "KubeletHasInsufficientMemory",
                    "kubelet has insufficient memory available",
                ),
            ],
        ),
        pressure(
            "DiskPressure",
            disk,
            [
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ],
        ),
        pressure(
            "PIDPressure",
            processes,
            [
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                (
                    "KubeletHasInsufficientPID",
                    "kubelet has insufficient PID available",
                ),
            ],
        ),
    ]
}

/// All that a kubelet says is unknown: with a different word the node controller would write this itself, again and again.
fn silent(device: &Device) -> Vec<NodeCondition> {
    let since = last_word(device);
    let message = match since {
        Some(at) => format!("the device was last heard at {at:.0}"),
        None => "the device was never heard".to_owned(),
    };
    let unknown = |kind| {
        let condition = NodeCondition::new(kind, ConditionStatus::Unknown, UNKNOWN, message.clone());
        match since {
            Some(at) => condition.known_at(at),
            None => condition,
        }
    };
    ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        .map(unknown)
        .into()
}

fn connected(device: &Device) -> NodeCondition {
    let (status, reason, message) = match (device.connected, device.state) {
        (true, _) => (
            ConditionStatus::True,
            "LinkUp",
            "the device has a connection to the hub".to_owned(),
        ),
        (false, DeviceState::Disabled) => (
            ConditionStatus::False,
            "Disabled",
            "the device may not connect".to_owned(),
        ),
        (false, _) => {
            let heard = last_word(device).map(|at| format!(", last heard at {at:.0}"));
            let message = format!(
                "the device has no connection to the hub{}",
                heard.unwrap_or_default()
            );
            (ConditionStatus::False, "LinkDown", message)
        }
    };
    NodeCondition::new(CONNECTED, status, reason, message)
}

#[cfg(test)]
pub(crate) mod tests;
