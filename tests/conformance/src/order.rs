//! In which order the phases and conditions of a pod came.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a fact of order begins with, behind the pod's name.
const FACT: &str = ".order[";

/// When each phase was shown first, and each condition first as True.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    uid: String,
    changes: usize,
    first: BTreeMap<String, usize>,
}

impl Order {
    /// Takes the pod's next state. A pod of another UID begins anew.
    pub fn see(&mut self, pod: &Value) {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        if self.uid != uid {
            *self = Self {
                uid: uid.to_owned(),
                ..Self::default()
            };
        }
        self.changes += 1;
        let status = &pod["status"];
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let held = conditions.filter(|condition| condition["status"] == "True");
        let shown = held.map(|condition| &condition["type"]).chain([&status["phase"]]);
        for what in shown.filter_map(Value::as_str) {
            self.first.entry(what.to_owned()).or_insert(self.changes);
        }
    }

    /// Of every two that did not come with the same change the one that came first: `web.order[Initialized, Ready]` is `Initialized`.
    pub fn facts(&self, pod: &str) -> Vec<(String, String)> {
        let mut facts = Vec::new();
        for (index, (one, at)) in self.first.iter().enumerate() {
            let others = self.first.iter().skip(index + 1);
            for (other, then) in others.filter(|(_, then)| *then != at) {
                let first = if at < then { one } else { other };
                facts.push((format!("{pod}{FACT}{one}, {other}]"), first.clone()));
            }
        }
        facts
    }
}

/// A side may show at once what the other shows one after another: only what both show in an order can be in a wrong one.
pub fn is_of_both_or_none(fact: &str) -> bool {
    fact.contains(FACT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_came_first_is_told_of_all_that_did_not_come_at_once() {
        let pod = |uid: &str, phase: &str, held: &[&str]| {
            let condition = |kind: &&str| json!({"type": kind, "status": "True"});
            let conditions: Vec<Value> = held.iter().map(condition).collect();
            json!({"metadata": {"uid": uid}, "status": {"phase": phase, "conditions": conditions}})
        };
        let mut order = Order::default();
        order.see(&pod("u0", "Failed", &["Ready"]));
        order.see(&pod("u1", "Pending", &[]));
        order.see(&pod("u1", "Pending", &["Initialized"]));
        order.see(&pod("u1", "Running", &["ContainersReady", "Initialized"]));
        order.see(&pod("u1", "Pending", &[]));
        let facts = order.facts("web");
        let told = |fact: &str| {
            let mut facts = facts.iter();
            let found = facts.find(|(name, _)| name == &format!("web.order[{fact}]"));
            found.map(|(_, first)| first.as_str())
        };
        assert_eq!(told("ContainersReady, Initialized"), Some("Initialized"));
        assert_eq!(told("Pending, Running"), Some("Pending"));
        assert_eq!(told("ContainersReady, Running"), None);
        assert!(facts.iter().all(|(name, _)| !name.contains("Failed")));
    }
}
