//! The fleet Node: what we own of it, and the writes that keep just that.
//!
//! Labels, annotations, capacity and conditions of ours go by server-side apply, which leaves those of others alone. Taints and
//! addresses are lists that an apply would take whole, so they have writes of their own.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::patch::would_change;
use crate::taint::{Taint, add_taint, remove_taint};

/// How often conditions get a new heartbeat when nothing else changed: the kubelet's `nodeStatusReportFrequency`.
const HEARTBEAT: SignedDuration = SignedDuration::from_mins(5);
pub const HUB_REACHABLE: &str = "outrigger.io/HubReachable";

/// What never changes while the process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    pub name: String,
    /// Not loopback: the API server refuses to proxy there.
    pub internal_ip: String,
    /// Where the kubelet API listens; absent while nothing does.
    pub kubelet_port: Option<u16>,
    /// `outrigger://<hub>/<node>`; fixed at creation.
    pub provider_id: String,
    /// Value of `topology.kubernetes.io/zone`: always an own one, or dark devices would slow the eviction of dead workers.
    pub zone: String,
    pub os: String,
    /// As Kubernetes spells it: `amd64`, `arm64`, `arm`.
    pub arch: String,
    pub kubelet_version: String,
    /// Further labels and annotations of ours.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// `None` while the fleet is not known: what the Node shows stays, and a new Node shows nothing to give.
    pub capacity: Option<Capacity>,
    /// Whether the hub answers; while it does not, the node stays Ready and takes nothing new.
    pub hub_reachable: bool,
    pub hub_message: String,
}

/// Sums over the fleet, already bounded by configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    pub cpu_milli: u64,
    pub memory_bytes: u64,
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
        }
    }

    fn quantities(self) -> Value {
        let cpu = if self.cpu_milli.is_multiple_of(1000) {
            (self.cpu_milli / 1000).to_string()
        } else {
            format!("{}m", self.cpu_milli)
        };
        // Whole Ki as the kubelet reports it: the API server stores the canonical form, and only that compares equal.
        let memory = canonical_binary(self.memory_bytes);
        json!({"cpu": cpu, "memory": memory, "pods": self.pods.to_string()})
    }
}

/// A byte count in the largest binary unit that holds it whole, as `resource.Quantity` prints it.
fn canonical_binary(bytes: u64) -> String {
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

/// The Node as the API server has it, as far as decisions read it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ObservedNode {
    pub metadata: ObservedMetadata,
    pub spec: ObservedSpec,
    pub status: Value,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedMetadata {
    pub uid: String,
    pub resource_version: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub deletion_timestamp: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ObservedSpec {
    pub taints: Vec<Value>,
}

/// One write. They are independent of each other and each is idempotent.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeAction {
    /// POST of a whole Node, with our taints.
    Create(Value),
    /// Server-side apply, forced, of our labels and annotations.
    Apply(Value),
    /// Server-side apply, forced, of `status`.
    ApplyStatus(Value),
    /// JSON merge patch of `status`, which replaces the list of addresses.
    ReplaceAddresses(Value),
    /// JSON patch of `spec.taints`, guarded by a test.
    PatchTaints(Value),
}

/// The writes that bring the Node to what it should be. None when it is. A Node that is being deleted is left alone until it is gone.
pub fn plan_node(
    observed: Option<&ObservedNode>,
    spec: &NodeSpec,
    state: &NodeState,
    now: Timestamp,
) -> Vec<NodeAction> {
    let Some(node) = observed else {
        return vec![NodeAction::Create(new_node(spec, state, now))];
    };
    if node.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let mut actions = Vec::new();
    actions.extend(metadata_action(node, spec));
    actions.extend(taint_actions(node, state));
    actions.extend(status_action(node, spec, state, now));
    let addresses = addresses(spec);
    if node.status.get("addresses") != Some(&addresses) {
        actions.push(NodeAction::ReplaceAddresses(
            json!({"status": {"addresses": addresses}}),
        ));
    }
    actions
}

fn metadata_action(node: &ObservedNode, spec: &NodeSpec) -> Option<NodeAction> {
    let holds = |wanted: &BTreeMap<String, String>, present: &BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| present.get(key) == Some(value))
    };
    let labels = labels(spec);
    if holds(&labels, &node.metadata.labels) && holds(&spec.annotations, &node.metadata.annotations) {
        return None;
    }
    let metadata = json!({"name": spec.name, "labels": labels, "annotations": spec.annotations});
    Some(NodeAction::Apply(
        json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata}),
    ))
}

fn taint_actions(node: &ObservedNode, state: &NodeState) -> Option<NodeAction> {
    let version = &node.metadata.resource_version;
    let taints = &node.spec.taints;
    // One at a time: each patch tests the whole list, and the next look sees the rest.
    let patch = add_taint(taints, &Taint::provider(), version).or_else(|| {
        if state.hub_reachable {
            remove_taint(taints, &Taint::hub_unreachable(), version)
        } else {
            add_taint(taints, &Taint::hub_unreachable(), version)
        }
    });
    patch.map(NodeAction::PatchTaints)
}

fn status_action(
    node: &ObservedNode,
    spec: &NodeSpec,
    state: &NodeState,
    now: Timestamp,
) -> Option<NodeAction> {
    let wanted = status(Some(&node.status), spec, state, now);
    if !would_change(&without_heartbeats(&node.status), &without_heartbeats(&wanted))
        && !is_stale(&node.status, now)
    {
        return None;
    }
    Some(NodeAction::ApplyStatus(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": spec.name}, "status": wanted,
    })))
}

fn new_node(spec: &NodeSpec, state: &NodeState, now: Timestamp) -> Value {
    let mut taints = vec![Taint::provider()];
    if !state.hub_reachable {
        taints.push(Taint::hub_unreachable());
    }
    let mut status = status(None, spec, state, now);
    status["addresses"] = addresses(spec);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": spec.name, "labels": labels(spec), "annotations": spec.annotations},
        "spec": {"providerID": spec.provider_id, "taints": taints},
        "status": status,
    })
}

fn labels(spec: &NodeSpec) -> BTreeMap<String, String> {
    let ours = [
        ("type", "virtual-kubelet"),
        ("kubernetes.io/os", &spec.os),
        ("kubernetes.io/arch", &spec.arch),
        ("kubernetes.io/hostname", &spec.name),
        ("node.kubernetes.io/exclude-from-external-load-balancers", "true"),
        ("topology.kubernetes.io/zone", &spec.zone),
    ];
    let mut labels = spec.labels.clone();
    labels.extend(ours.map(|(key, value)| (key.to_owned(), value.to_owned())));
    labels
}

fn addresses(spec: &NodeSpec) -> Value {
    json!([{"type": "InternalIP", "address": spec.internal_ip}, {"type": "Hostname", "address": spec.name}])
}

fn status(current: Option<&Value>, spec: &NodeSpec, state: &NodeState, now: Timestamp) -> Value {
    let mut status = Map::new();
    for member in ["capacity", "allocatable"] {
        // What an apply leaves out of its own it would remove, so the present figures are repeated.
        let present = current
            .and_then(|status| status.get(member))
            .filter(|present| present.is_object());
        let quantities = match (state.capacity, present) {
            (Some(capacity), _) => capacity.quantities(),
            (None, Some(present)) => present.clone(),
            (None, None) => Capacity::default().quantities(),
        };
        status.insert(member.into(), quantities);
    }
    status.insert("conditions".into(), conditions(current, state, now));
    status.insert("nodeInfo".into(), node_info(spec));
    if let Some(port) = spec.kubelet_port {
        status.insert(
            "daemonEndpoints".into(),
            json!({"kubeletEndpoint": {"Port": port}}),
        );
    }
    Value::Object(status)
}

/// A virtual node has no machine, so the members that name one are empty; the API wants all of them present.
fn node_info(spec: &NodeSpec) -> Value {
    json!({
        "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "Outrigger fleet",
        "containerRuntimeVersion": "outrigger://1", "kubeletVersion": spec.kubelet_version, "kubeProxyVersion": "",
        "operatingSystem": spec.os, "architecture": spec.arch,
    })
}

fn conditions(current: Option<&Value>, state: &NodeState, now: Timestamp) -> Value {
    let hub = if state.hub_reachable {
        ("True", "HubAnswers", "the hub answers")
    } else {
        ("False", "HubSilent", state.hub_message.as_str())
    };
    let wanted = [
        ("Ready", "True", "KubeletReady", "the virtual kubelet is running"),
        (
            "MemoryPressure",
            "False",
            "DevicesAdmit",
            "each device admits by itself",
        ),
        (
            "DiskPressure",
            "False",
            "DevicesAdmit",
            "each device admits by itself",
        ),
        (
            "PIDPressure",
            "False",
            "DevicesAdmit",
            "each device admits by itself",
        ),
        (
            "NetworkUnavailable",
            "False",
            "NoPodNetwork",
            "pods of this node have no cluster address",
        ),
        (HUB_REACHABLE, hub.0, hub.1, hub.2),
    ];
    let now = time(now);
    let condition = |(kind, status, reason, message): (&str, &str, &str, &str)| {
        let since = find_condition(current, kind)
            .filter(|was| was.get("status").and_then(Value::as_str) == Some(status))
            .and_then(|was| was.get("lastTransitionTime")?.as_str());
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since.unwrap_or(&now),
        })
    };
    wanted.map(condition).into_iter().collect()
}

fn find_condition<'s>(status: Option<&'s Value>, kind: &str) -> Option<&'s Value> {
    let conditions = status?.get("conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}

/// Heartbeats alone are no change; [`is_stale`] renews them.
fn without_heartbeats(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        for condition in conditions {
            if let Some(condition) = condition.as_object_mut() {
                condition.remove("lastHeartbeatTime");
            }
        }
    }
    status
}

fn is_stale(status: &Value, now: Timestamp) -> bool {
    let beat = find_condition(Some(status), "Ready").and_then(|ready| {
        ready
            .get("lastHeartbeatTime")?
            .as_str()?
            .parse::<Timestamp>()
            .ok()
    });
    beat.is_none_or(|beat| now.duration_since(beat).abs() >= HEARTBEAT)
}

/// As `metav1.Time` is written.
fn time(now: Timestamp) -> String {
    format!("{now:.0}")
}

#[cfg(test)]
mod tests;
