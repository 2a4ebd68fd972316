//! What a Node shows, whatever it stands for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::serving::ServingWord;

/// The API server hands `WebSockets` for `exec`, `attach` and `port-forward` on as they are to a kubelet that declares it, from Kubernetes 1.36 on; others get
/// SPDY (`k8s.io/component-helpers`, `nodedeclaredfeatures/features/extendwebsocketstokubelet`). No pod needs it.
pub const WEB_SOCKETS: &str = "ExtendWebSocketsToKubelet";

/// Everything of a Node that is ours. Two kinds of node differ in how they fill it in, and in nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeView {
    pub name: String,
    /// Fixed at creation.
    pub provider_id: String,
    /// All labels and annotations of ours. Those of others stay as they are.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Which of the others were ours once, and are removed.
    pub owned: Option<Owned>,
    pub addresses: Vec<Address>,
    pub kubelet_port: KubeletPort,
    /// `None` while it is not known: what the Node shows stays, and a new Node shows nothing to give.
    pub capacity: Option<Capacity>,
    pub allocatable: Option<Capacity>,
    pub info: NodeInfo,
    pub conditions: Vec<NodeCondition>,
    pub images: Vec<NodeImage>,
    /// Features that a pod may need of its node (KEP-5328), sorted. `None` where the API server does not keep them, or may not: what the
    /// Node shows stays.
    pub declared_features: Option<Vec<&'static str>>,
    /// Whether its runtime can keep a process to the groups that its pod names. `None` as for declared features.
    pub strict_groups: Option<bool>,
    /// Whether new pods may come: else a taint says that the hub does not answer.
    pub takes_new: bool,
    /// Whether there is a sign of life behind it: heartbeats and the lease go on. Without, both stay as they are.
    pub lives: bool,
}

/// The keys of labels and annotations that only we set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// All under it.
    pub prefix: &'static str,
    /// The annotation in which the Node lists the others, with commas between: what somebody else set under such a key is not ours.
    pub list: &'static str,
}

/// Where the kubelet API answers for a Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubeletPort {
    /// Nowhere.
    Nothing,
    /// It is not known yet: what the Node shows stays.
    Kept,
    At(u16),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `InternalIP`, `Hostname`.
    pub kind: &'static str,
    pub address: String,
}

/// Already bounded by configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    /// Shown only where it is known.
    pub ephemeral_storage_bytes: Option<u64>,
    pub pods: u64,
}

impl Capacity {
    /// The lesser of each.
    #[must_use]
    pub fn at_most(self, bound: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.min(bound.cpu_milli),
            memory_bytes: self.memory_bytes.min(bound.memory_bytes),
            pods: self.pods.min(bound.pods),
            ..self
        }
    }

    pub(super) fn quantities(self) -> Value {
        let cpu = if self.cpu_milli.is_multiple_of(1000) {
            (self.cpu_milli / 1000).to_string()
        } else {
            format!("{}m", self.cpu_milli)
        };
        // Whole Ki as the kubelet reports it: the API server stores the canonical form, and only that compares equal.
        let memory = canonical_binary(self.memory_bytes);
        let mut quantities = json!({"cpu": cpu, "memory": memory, "pods": self.pods.to_string()});
        if let Some(bytes) = self.ephemeral_storage_bytes {
            quantities["ephemeral-storage"] = json!(canonical_binary(bytes));
        }
        quantities
    }
}

/// A byte count in the largest binary unit that holds it whole, as `resource.Quantity` prints it.
pub(super) fn canonical_binary(bytes: u64) -> String {
    let units = [
        (60, "Ei"),
        (50, "Pi"),
        (40, "Ti"),
        (30, "Gi"),
        (20, "Mi"),
        (10, "Ki"),
    ];
    let whole = units
        .iter()
        .find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift));
    match whole {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// `status.nodeInfo`; the API wants all of its members present, so what is not known is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeInfo {
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    pub os_image: String,
    /// `containerd://2.1.1`.
    pub container_runtime_version: String,
    pub kubelet_version: String,
    pub operating_system: String,
    pub architecture: String,
}

impl NodeInfo {
    pub(super) fn json(&self) -> Value {
        json!({
            "machineID": self.machine_id, "systemUUID": self.system_uuid, "bootID": self.boot_id,
            "kernelVersion": self.kernel_version, "osImage": self.os_image,
            "containerRuntimeVersion": self.container_runtime_version, "kubeletVersion": self.kubelet_version,
            "kubeProxyVersion": "", "operatingSystem": self.operating_system, "architecture": self.architecture,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl ConditionStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCondition {
    pub kind: &'static str,
    pub status: ConditionStatus,
    pub reason: &'static str,
    pub message: String,
    /// When it was last known; absent is now.
    pub known_at: Option<Timestamp>,
}

impl NodeCondition {
    pub fn new(
        kind: &'static str,
        status: ConditionStatus,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            status,
            reason,
            message: message.into(),
            known_at: None,
        }
    }

    #[must_use]
    pub fn known_at(self, at: Timestamp) -> Self {
        Self {
            known_at: Some(at),
            ..self
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeImage {
    pub names: Vec<String>,
    pub size_bytes: u64,
}

/// The labels that every node of ours has. The zone is always an own one, or dark devices would slow the eviction of dead workers.
pub fn own_labels(name: &str, os: &str, arch: &str, zone: &str) -> BTreeMap<String, String> {
    let ours = [
        ("type", "virtual-kubelet"),
        ("kubernetes.io/os", os),
        ("kubernetes.io/arch", arch),
        ("kubernetes.io/hostname", name),
        ("node.kubernetes.io/exclude-from-external-load-balancers", "true"),
        ("topology.kubernetes.io/zone", zone),
    ];
    ours.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Where the kubelet API of a process is reached, and by what certificate it can be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Of the process, whatever machine a Node stands for.
    pub address: IpAddr,
    pub port: KubeletPort,
    /// `None` until it is known.
    pub serving: Option<ServingWord>,
}

impl NodeView {
    /// The same Node with its kubelet API. The API server calls the first address of a kind, so that of the process goes before a device's own. A Node that
    /// declares features declares [`WEB_SOCKETS`] too.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: &Endpoint) -> Self {
        let address = Address {
            kind: "InternalIP",
            address: endpoint.address.to_string(),
        };
        self.addresses.retain(|own| *own != address);
        self.addresses.insert(0, address);
        self.kubelet_port = endpoint.port;
        let serving = endpoint.serving.as_ref();
        self.conditions.extend(serving.map(ServingWord::condition));
        if let Some(declared) = &mut self.declared_features
            && let Err(place) = declared.binary_search(&WEB_SOCKETS)
        {
            declared.insert(place, WEB_SOCKETS);
        }
        self
    }

    pub(super) fn addresses_json(&self) -> Value {
        let address = |address: &Address| json!({"type": address.kind, "address": address.address});
        self.addresses.iter().map(address).collect()
    }

    /// The status on top of the one that the Node has, without the addresses.
    pub(super) fn status_json(&self, current: Option<&Value>, now: Timestamp) -> Value {
        let mut status = Map::new();
        for (member, wanted) in [("capacity", self.capacity), ("allocatable", self.allocatable)] {
            // What an apply leaves out of its own it would remove, so the present figures are repeated.
            let present = current
                .and_then(|status| status.get(member))
                .filter(|present| present.is_object());
            let quantities = match (wanted, present) {
                (Some(capacity), _) => capacity.quantities(),
                (None, Some(present)) => present.clone(),
                (None, None) => Capacity::default().quantities(),
            };
            status.insert(member.into(), quantities);
        }
        let conditions = self
            .conditions
            .iter()
            .map(|wanted| condition_json(wanted, current, now));
        status.insert("conditions".into(), conditions.collect());
        status.insert("nodeInfo".into(), self.info.json());
        if !self.images.is_empty() {
            let image = |image: &NodeImage| json!({"names": image.names, "sizeBytes": image.size_bytes});
            status.insert("images".into(), self.images.iter().map(image).collect());
        }
        let declared = self.declared_features.as_ref().map(|features| json!(features));
        let groups = self.strict_groups;
        let features = groups.map(|can| json!({"supplementalGroupsPolicy": can}));
        for (member, known) in [("declaredFeatures", declared), ("features", features)] {
            let present = || current.and_then(|status| status.get(member).cloned());
            if let Some(known) = known.or_else(present) {
                status.insert(member.into(), known);
            }
        }
        let shown = kubelet_port(current).filter(|port| *port != 0);
        let port = match self.kubelet_port {
            // 0 is nowhere, and what the API server writes where nothing was said.
            KubeletPort::Nothing => shown.map(|_| 0),
            KubeletPort::Kept => shown,
            KubeletPort::At(port) => Some(port),
        };
        if let Some(port) = port {
            let endpoints = json!({"kubeletEndpoint": {"Port": port}});
            status.insert("daemonEndpoints".into(), endpoints);
        }
        Value::Object(status)
    }
}

/// The port of the kubelet API in a Node's status.
pub fn kubelet_port(status: Option<&Value>) -> Option<u16> {
    let port = status?.pointer("/daemonEndpoints/kubeletEndpoint/Port")?;
    port.as_u64().and_then(|port| u16::try_from(port).ok())
}

pub(super) fn condition_json(wanted: &NodeCondition, current: Option<&Value>, now: Timestamp) -> Value {
    let status = wanted.status.as_str();
    let since = find_condition(current, wanted.kind)
        .filter(|was| was.get("status").and_then(Value::as_str) == Some(status))
        .and_then(|was| was.get("lastTransitionTime")?.as_str());
    let now_text = time(now);
    json!({
        "type": wanted.kind, "status": status, "reason": wanted.reason, "message": wanted.message,
        "lastHeartbeatTime": wanted.known_at.map_or(now_text.clone(), time),
        "lastTransitionTime": since.unwrap_or(&now_text),
    })
}

pub(super) fn find_condition<'s>(status: Option<&'s Value>, kind: &str) -> Option<&'s Value> {
    let conditions = status?.get("conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}

/// As `metav1.Time` is written.
fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}
