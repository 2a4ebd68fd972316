//! Whether a pod may be on its Node at all, whoever bound it: judged once, when it is new.
//!
//! Sources in Kubernetes 1.37: `Admit` of `pkg/kubelet/lifecycle/predicate.go`, `GetRequiredNodeAffinity` and `NewNodeSelector` of
//! k8s.io/component-helpers/scheduling/corev1/nodeaffinity, `Requirement.Matches` of k8s.io/apimachinery/pkg/labels.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::taint::{Taint, Toleration, stays_untolerated};

const OS: &str = "kubernetes.io/os";
pub const NODE_AFFINITY: &str = "NodeAffinity";
pub const TAINT_TOLERATION: &str = "TaintToleration";
pub const OS_LABEL: &str = "PodOSSelectorNodeLabelDoesNotMatch";

/// The Node as the API server has it, as far as it decides who may be on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    name: String,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
}

impl NodeFacts {
    /// Reads a whole Node. What is absent is empty.
    pub fn of(node: &Value) -> Self {
        let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            name: node.pointer("/metadata/name").and_then(text).unwrap_or_default(),
            labels: labels
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
                .collect(),
            taints: read(node.pointer("/spec/taints")),
        }
    }
}

/// Why a pod may not be on its Node: the reason of its phase and of its event, and the event's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub reason: &'static str,
    pub message: &'static str,
}

/// Whether this is the reason of a [`Rejection`]: a pod fails by it, for good.
pub fn rejects(reason: &str) -> bool {
    [NODE_AFFINITY, TAINT_TOLERATION, OS_LABEL].contains(&reason)
}

/// Whether the Node's labels have a say in it.
pub fn asks_of_labels(pod: &Value) -> bool {
    let has_some = |path: &str| {
        pod.pointer(path)
            .is_some_and(|value| value.as_object().is_some_and(|map| !map.is_empty()))
    };
    has_some("/spec/nodeSelector") || has_some(REQUIRED) || os_label(pod).is_some()
}

/// The first thing that stands against the pod, if any, in the kubelet's order. Taints that only say that the Node is silent do not count.
pub fn judge(pod: &Value, node: &NodeFacts) -> Option<Rejection> {
    let labels = &node.labels;
    if os_label(pod).is_some_and(|os| labels.get(OS).map(String::as_str) != Some(os)) {
        return Some(Rejection {
            reason: OS_LABEL,
            message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        });
    }
    if !is_wanted(pod, node) {
        return Some(Rejection {
            reason: NODE_AFFINITY,
            message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        });
    }
    let tolerations: Vec<Toleration> = read(pod.pointer("/spec/tolerations"));
    stays_untolerated(&node.taints, &tolerations).then_some(Rejection {
        reason: TAINT_TOLERATION,
        message: "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
    })
}

/// A label of the pod itself and not of its selector, as the kubelet reads it.
fn os_label(pod: &Value) -> Option<&str> {
    pod.get("metadata")?.get("labels")?.get(OS)?.as_str()
}

const REQUIRED: &str = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";

fn is_wanted(pod: &Value, node: &NodeFacts) -> bool {
    let selector = pod.pointer("/spec/nodeSelector").and_then(Value::as_object);
    let mut pairs = selector.into_iter().flatten();
    if !pairs.all(|(key, value)| node.labels.get(key).map(String::as_str) == value.as_str()) {
        return false;
    }
    let Some(required) = pod.pointer(REQUIRED).filter(|required| !required.is_null()) else {
        return true;
    };
    let terms: Vec<Term> = read(required.get("nodeSelectorTerms"));
    terms.iter().any(|term| term.matches(node))
}

/// One of which is enough; all of its requirements must hold, and one without any matches nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Term {
    match_expressions: Vec<Requirement>,
    match_fields: Vec<Requirement>,
}

#[derive(Debug, Deserialize)]
struct Requirement {
    key: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
}

impl Term {
    fn matches(&self, node: &NodeFacts) -> bool {
        let is_empty = self.match_expressions.is_empty() && self.match_fields.is_empty();
        let labels = |key: &str| node.labels.get(key).map(String::as_str);
        // The only field that there is (`ValidateNodeSelectorTerm` of pkg/apis/core/validation).
        let fields = |key: &str| (key == "metadata.name").then_some(node.name.as_str());
        !is_empty
            && self.match_expressions.iter().all(|it| it.holds(labels(&it.key)))
            && self.match_fields.iter().all(|it| it.holds(fields(&it.key)))
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let is_listed = value.is_some_and(|value| self.values.iter().any(|listed| listed == value));
        match self.operator.as_str() {
            "In" => is_listed,
            "NotIn" => !is_listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => self.compares(value, |value, bound| value > bound),
            "Lt" => self.compares(value, |value, bound| value < bound),
            _ => false,
        }
    }

    fn compares(&self, value: Option<&str>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = self.values.first().filter(|_| self.values.len() == 1);
        match (value.and_then(number), bound.and_then(|bound| number(bound))) {
            (Some(value), Some(bound)) => holds(value, bound),
            _ => false,
        }
    }
}

/// The elements that can be read: of the others the API server lets none pass.
fn read<T: for<'de> Deserialize<'de>>(list: Option<&Value>) -> Vec<T> {
    let elements = list.and_then(Value::as_array).into_iter().flatten();
    elements
        .filter_map(|element| T::deserialize(element).ok())
        .collect()
}

#[cfg(test)]
mod tests;
