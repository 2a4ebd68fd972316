//! A Node of ours: what we own of it, and the writes that keep just that.
//!
//! [`view`] is what a Node shows, [`fleet`] how the fleet node fills it in. Labels, annotations, capacity and conditions of ours go by
//! server-side apply, which leaves those of others alone. Taints and addresses are lists that an apply would take whole, so they have
//! writes of their own.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::patch::would_change;
use crate::taint::{Taint, add_taint, remove_taint};

pub mod fleet;
pub mod view;

pub use fleet::{FleetSpec, FleetState, HubWord};
pub use view::{
    Address, Capacity, ConditionStatus, Endpoint, KubeletPort, NodeCondition, NodeImage, NodeInfo, NodeView,
    Owned, kubelet_port, own_labels,
};

use view::{condition_json, find_condition};

/// How often conditions get a new heartbeat when nothing else changed: the kubelet's `nodeStatusReportFrequency`.
const HEARTBEAT: SignedDuration = SignedDuration::from_mins(5);
pub const HUB_REACHABLE: &str = "outrigger.io/HubReachable";

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
    #[serde(rename = "providerID")]
    pub provider_id: String,
    pub taints: Vec<Value>,
}

/// What a Node should be.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeAim {
    Present(Box<NodeView>),
    /// There should be none: what it stood for is a node no longer.
    Absent,
    /// Nobody has heard yet of what it stands for, since the hub does not answer: a Node that is there shows that, and stays else as it is.
    Kept(HubWord),
    /// Nobody has heard of what it stands for, and whoever should know does answer: it is left as it is, and its lease lapses.
    Unheard,
}

/// One write. They are independent of each other and each is idempotent.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeAction {
    /// POST of a whole Node, with our taints.
    Create(Value),
    /// Server-side apply, forced, of our labels and annotations.
    Apply(Value),
    /// JSON merge patch that removes labels and annotations of ours that are no longer so.
    DropStale(Value),
    /// Server-side apply, forced, of `status`.
    ApplyStatus(Value),
    /// Strategic merge patch of `status` with one condition: the others stay, whoever applied them.
    PatchCondition(Value),
    /// JSON merge patch of `status`, which replaces the list of addresses.
    ReplaceAddresses(Value),
    /// JSON patch of `spec.taints`, guarded by a test.
    PatchTaints(Value),
    /// DELETE with these `DeleteOptions`: the UID is a precondition.
    Delete(Value),
}

/// The writes that bring the Node to what it should be. None when it is.
pub fn plan(observed: Option<&ObservedNode>, aim: &NodeAim, now: Timestamp) -> Vec<NodeAction> {
    match (aim, observed) {
        (NodeAim::Present(view), _) => plan_node(observed, view, now),
        (NodeAim::Absent, Some(node)) if node.metadata.deletion_timestamp.is_none() => {
            let options = json!({
                "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": node.metadata.uid},
            });
            vec![NodeAction::Delete(options)]
        }
        (NodeAim::Kept(hub), Some(node)) if node.metadata.deletion_timestamp.is_none() => {
            let taint = taint_action(node, hub.answers());
            taint.into_iter().chain(hub_action(node, hub, now)).collect()
        }
        (NodeAim::Absent | NodeAim::Kept(_) | NodeAim::Unheard, _) => Vec::new(),
    }
}

/// The writes that bring the Node to this view. A Node that is being deleted is left alone until it is gone.
pub fn plan_node(observed: Option<&ObservedNode>, view: &NodeView, now: Timestamp) -> Vec<NodeAction> {
    let Some(node) = observed else {
        return vec![NodeAction::Create(new_node(view, now))];
    };
    if node.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let mut actions = Vec::new();
    // First, while the Node still lists what was ours.
    actions.extend(stale_action(node, view));
    actions.extend(metadata_action(node, view));
    actions.extend(taint_action(node, view.takes_new));
    actions.extend(status_action(node, view, now));
    let addresses = view.addresses_json();
    if node.status.get("addresses") != Some(&addresses) {
        actions.push(NodeAction::ReplaceAddresses(
            json!({"status": {"addresses": addresses}}),
        ));
    }
    actions
}

fn metadata_action(node: &ObservedNode, view: &NodeView) -> Option<NodeAction> {
    let holds = |wanted: &BTreeMap<String, String>, present: &BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| present.get(key) == Some(value))
    };
    let NodeView {
        name,
        labels,
        annotations,
        ..
    } = view;
    if holds(labels, &node.metadata.labels) && holds(annotations, &node.metadata.annotations) {
        return None;
    }
    let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
    Some(NodeAction::Apply(
        json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata}),
    ))
}

/// An apply would only give up what an apply has set, and the Node was not created by one.
fn stale_action(node: &ObservedNode, view: &NodeView) -> Option<NodeAction> {
    let owned = view.owned?;
    let metadata = &node.metadata;
    let listed = metadata.annotations.get(owned.list).map_or("", String::as_str);
    let is_ours = |key: &str| {
        key.starts_with(owned.prefix) || key == owned.list || listed.split(',').any(|ours| ours == key)
    };
    let stale = |present: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
        let gone = present
            .keys()
            .filter(|key| is_ours(key) && !wanted.contains_key(*key));
        Value::Object(gone.map(|key| (key.clone(), Value::Null)).collect())
    };
    let labels = stale(&metadata.labels, &view.labels);
    let annotations = stale(&metadata.annotations, &view.annotations);
    let nothing = json!({});
    if labels == nothing && annotations == nothing {
        return None;
    }
    Some(NodeAction::DropStale(
        json!({"metadata": {"labels": labels, "annotations": annotations}}),
    ))
}

/// New pods come only while the hub answers.
fn taint_action(node: &ObservedNode, takes_new: bool) -> Option<NodeAction> {
    let version = &node.metadata.resource_version;
    let taints = &node.spec.taints;
    // One at a time: each patch tests the whole list, and the next look sees the rest.
    let patch = add_taint(taints, &Taint::provider(), version).or_else(|| {
        if takes_new {
            remove_taint(taints, &Taint::hub_unreachable(), version)
        } else {
            add_taint(taints, &Taint::hub_unreachable(), version)
        }
    });
    patch.map(NodeAction::PatchTaints)
}

/// Whether the hub answers, if the Node shows something else.
fn hub_action(node: &ObservedNode, hub: &HubWord, now: Timestamp) -> Option<NodeAction> {
    let status = json!({"conditions": [condition_json(&hub.condition(), Some(&node.status), now)]});
    would_change(&without_heartbeats(&node.status), &without_heartbeats(&status))
        .then(|| NodeAction::PatchCondition(json!({"status": status})))
}

fn status_action(node: &ObservedNode, view: &NodeView, now: Timestamp) -> Option<NodeAction> {
    let wanted = view.status_json(Some(&node.status), now);
    let heartbeat_due = view.lives && is_stale(&node.status, now);
    if !would_change(&without_heartbeats(&node.status), &without_heartbeats(&wanted)) && !heartbeat_due {
        return None;
    }
    Some(NodeAction::ApplyStatus(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": view.name}, "status": wanted,
    })))
}

fn new_node(view: &NodeView, now: Timestamp) -> Value {
    let mut taints = vec![Taint::provider()];
    if !view.takes_new {
        taints.push(Taint::hub_unreachable());
    }
    let mut status = view.status_json(None, now);
    status["addresses"] = view.addresses_json();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": view.name, "labels": view.labels, "annotations": view.annotations},
        "spec": {"providerID": view.provider_id, "taints": taints},
        "status": status,
    })
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

#[cfg(test)]
mod tests;
