//! What a controller and its pods say about a pod's place being taken elsewhere.

use serde_json::Value;

use crate::deletion::Condition;

/// A controller whose pods may take each other's place. A `DaemonSet`'s pod belongs to its node, a `StatefulSet`'s has an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    Deployment,
    ReplicaSet,
    ReplicationController,
    Job,
}

impl Controller {
    pub fn of_kind(kind: &str) -> Option<Self> {
        match kind {
            "Deployment" => Some(Self::Deployment),
            "ReplicaSet" => Some(Self::ReplicaSet),
            "ReplicationController" => Some(Self::ReplicationController),
            "Job" => Some(Self::Job),
            _ => None,
        }
    }

    /// Where the API server has it.
    pub fn path(self, namespace: &str, name: &str) -> String {
        let (group, resource) = match self {
            Self::Deployment => ("apis/apps/v1", "deployments"),
            Self::ReplicaSet => ("apis/apps/v1", "replicasets"),
            Self::ReplicationController => ("api/v1", "replicationcontrollers"),
            Self::Job => ("apis/batch/v1", "jobs"),
        };
        format!("/{group}/namespaces/{namespace}/{resource}/{name}")
    }
}

/// How many pods a controller wants, and the label selector of them all. `None` when it is unlike any controller, so that nothing may be
/// concluded from it.
pub fn selector(controller: &Value) -> Option<(u32, String)> {
    let spec = controller.get("spec")?;
    let wanted = spec.get("replicas").or_else(|| spec.get("parallelism"));
    let wanted = wanted.map_or(Some(1), |n| u32::try_from(n.as_u64()?).ok())?;
    let selector = spec.get("selector")?.as_object()?;
    let is_structured = selector.contains_key("matchLabels") || selector.contains_key("matchExpressions");
    let labels = if is_structured {
        selector.get("matchLabels").and_then(Value::as_object)
    } else {
        Some(selector)
    };
    let mut terms = Vec::new();
    for (key, value) in labels.into_iter().flatten() {
        terms.push(format!("{key}={}", value.as_str()?));
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        terms.push(term(expression)?);
    }
    (!terms.is_empty()).then(|| (wanted, terms.join(",")))
}

/// As `LabelSelectorAsSelector` of `k8s.io/apimachinery` writes it.
fn term(expression: &Value) -> Option<String> {
    let key = expression.get("key")?.as_str()?;
    let values = expression.get("values").and_then(Value::as_array);
    let values: Option<Vec<&str>> = values.into_iter().flatten().map(Value::as_str).collect();
    let values = values?.join(",");
    match expression.get("operator")?.as_str()? {
        "In" => Some(format!("{key} in ({values})")),
        "NotIn" => Some(format!("{key} notin ({values})")),
        "Exists" => Some(key.to_owned()),
        "DoesNotExist" => Some(format!("!{key}")),
        _ => None,
    }
}

/// Whether a pod is bound to another node than `node`, Ready there, and not on its way out.
pub fn is_ready_elsewhere(pod: &Value, node: &str) -> bool {
    let at = |path: &str| pod.pointer(path).filter(|value| !value.is_null());
    let bound = at("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    let going = at("/metadata/deletionTimestamp").is_some();
    let conditions: Vec<Condition> = at("/status/conditions")
        .and_then(|conditions| serde_json::from_value(conditions.clone()).ok())
        .unwrap_or_default();
    let ready = conditions
        .iter()
        .any(|condition| condition.kind == "Ready" && condition.status == "True");
    !bound.is_empty() && bound != node && !going && ready
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_controllers_pods_are_selected_as_it_selects_them() {
        let check = |spec: Value, expected: Option<(u32, &str)>| {
            let found = selector(&json!({ "spec": spec }));
            assert_eq!(found.as_ref().map(|(n, text)| (*n, text.as_str())), expected);
        };
        check(
            json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "x", "operator": "NotIn", "values": ["c"]},
                {"key": "y", "operator": "Exists"},
                {"key": "z", "operator": "DoesNotExist"},
            ]}}),
            Some((3, "app=web,tier in (a,b),x notin (c),y,!z")),
        );
        check(
            json!({"parallelism": 2, "selector": {"matchLabels": {"job": "u"}}}),
            Some((2, "job=u")),
        );
        check(json!({"selector": {"app": "old"}}), Some((1, "app=old")));
        check(json!({"replicas": 1, "selector": {}}), None);
        check(json!({"replicas": 1}), None);
        check(
            json!({"selector": {"matchExpressions": [{"key": "k", "operator": "Gt", "values": ["1"]}]}}),
            None,
        );
    }

    #[test]
    fn only_a_pod_that_is_ready_on_another_node_counts() {
        let pod = |node: &str, ready: &str| {
            json!({"metadata": {}, "spec": {"nodeName": node},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        assert!(is_ready_elsewhere(&pod("worker", "True"), "outrigger"));
        assert!(!is_ready_elsewhere(&pod("worker", "False"), "outrigger"));
        assert!(!is_ready_elsewhere(&pod("outrigger", "True"), "outrigger"));
        assert!(!is_ready_elsewhere(&pod("", "True"), "outrigger"));
        let mut going = pod("worker", "True");
        going["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
        assert!(!is_ready_elsewhere(&going, "outrigger"));
        assert!(!is_ready_elsewhere(&json!({}), "outrigger"));
    }
}
