//! The Node's lease: written by PUT, with the owner reference kept right.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// How long a lease counts, and how often it is renewed: the kubelet's values (`nodeLeaseDurationSeconds` 40, a quarter of it).
pub const DURATION_S: i64 = 40;
pub const RENEW_S: u64 = 10;
/// Where the node controller looks for it.
pub const NAMESPACE: &str = "kube-node-lease";

/// A lease as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LeaseFacts {
    pub metadata: LeaseMetadata,
    #[serde(default)]
    pub spec: LeaseSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseMetadata {
    pub resource_version: String,
    pub owner_references: Vec<Value>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    pub holder_identity: Option<String>,
    pub lease_duration_seconds: Option<i64>,
    pub lease_transitions: Option<i64>,
    pub acquire_time: Option<String>,
    pub renew_time: Option<String>,
}

/// How the lease is to be written next. The bodies are whole objects.
#[derive(Debug, Clone, PartialEq)]
pub enum LeaseAction {
    Create(Value),
    /// Carries the resource version that was read: a writer in between is noticed.
    Put(Value),
}

/// The write that renews a Node's lease at `now`. `node_uid` makes the Node its owner, so that the lease goes with it; without a
/// Node there is no owner yet. A reference to an earlier Node of the same name is replaced: the garbage collector would take the lease.
pub fn plan_node_lease(
    current: Option<&LeaseFacts>,
    node: &str,
    node_uid: Option<&str>,
    now: Timestamp,
) -> LeaseAction {
    let owners: Vec<Value> = node_uid
        .map(|uid| json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}))
        .into_iter()
        .collect();
    let mut body = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node, "namespace": NAMESPACE, "ownerReferences": owners},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": DURATION_S, "renewTime": micro_time(now)},
    });
    match current {
        None => LeaseAction::Create(body),
        Some(current) => {
            body["metadata"]["resourceVersion"] = json!(current.metadata.resource_version);
            LeaseAction::Put(body)
        }
    }
}

/// As `metav1.MicroTime` is written.
pub(crate) fn micro_time(now: Timestamp) -> String {
    format!("{now:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(owner: &str) -> LeaseFacts {
        serde_json::from_value(json!({
            "metadata": {"resourceVersion": "9", "ownerReferences": [{"kind": "Node", "name": "n", "uid": owner}]},
            "spec": {"holderIdentity": "n"},
        }))
        .unwrap()
    }

    #[test]
    fn the_owner_is_the_node_that_is_there_now() {
        let now: Timestamp = "2026-11-21T10:00:00.25Z".parse().unwrap();
        let LeaseAction::Put(body) = plan_node_lease(Some(&lease("old")), "n", Some("new"), now) else {
            panic!("a present lease is put")
        };
        assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "new");
        assert_eq!(body["metadata"]["resourceVersion"], "9");
        assert_eq!(body["spec"]["renewTime"], "2026-11-21T10:00:00.250000Z");
        let LeaseAction::Create(body) = plan_node_lease(None, "n", None, now) else {
            panic!("an absent lease is created")
        };
        assert_eq!(body["metadata"]["ownerReferences"], json!([]));
        assert_eq!(body["spec"]["leaseDurationSeconds"], 40);
    }
}
