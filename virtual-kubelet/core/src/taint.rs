//! Our taints, who acknowledges them, and how a missing one is restored without touching others'.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::tolerations::SILENCE;

/// Every virtual node carries it; a pod comes on by tolerating this key.
pub const PROVIDER_KEY: &str = "virtual-kubelet.io/provider";
pub const PROVIDER_VALUE: &str = "outrigger";
/// On the node while only the hub is away: nothing new comes, what is there stays.
pub const HUB_UNREACHABLE_KEY: &str = "outrigger.io/hub-unreachable";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taint {
    pub key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    pub effect: String,
}

impl Taint {
    pub fn provider() -> Self {
        Self {
            key: PROVIDER_KEY.into(),
            value: PROVIDER_VALUE.into(),
            effect: "NoSchedule".into(),
        }
    }

    pub fn hub_unreachable() -> Self {
        Self {
            key: HUB_UNREACHABLE_KEY.into(),
            value: String::new(),
            effect: "NoSchedule".into(),
        }
    }

    /// As the API server identifies a taint: by key and effect.
    fn is_same(&self, other: &Value) -> bool {
        other.get("key").and_then(Value::as_str) == Some(&self.key)
            && other.get("effect").and_then(Value::as_str) == Some(&self.effect)
    }
}

/// One toleration of a pod, as the API server stores it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    pub key: Option<String>,
    pub operator: Option<String>,
    pub value: Option<String>,
    pub effect: Option<String>,
    pub toleration_seconds: Option<i64>,
}

impl Toleration {
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref().filter(|key| !key.is_empty())
    }

    fn covers_no_schedule(&self) -> bool {
        matches!(self.effect.as_deref(), None | Some("" | "NoSchedule"))
    }

    fn is_exists(&self) -> bool {
        self.operator.as_deref() == Some("Exists")
    }

    /// As `ToleratesTaint` of `k8s.io/component-helpers`, for `Exists` and `Equal`.
    fn covers(&self, taint: &Taint) -> bool {
        let effect = self.effect.as_deref().unwrap_or_default();
        let is_equal = matches!(self.operator.as_deref(), None | Some("" | "Equal"));
        (effect.is_empty() || effect == taint.effect)
            && self.key().is_none_or(|key| key == taint.key)
            && (self.is_exists() || (is_equal && self.value.as_deref().unwrap_or_default() == taint.value))
    }
}

/// Whether a pod may run here: not one that is here only because it tolerates everything without naming our taint, as the
/// `DaemonSets` of kube-proxy, CNI and node-exporter do. A pod with no toleration at all was bound by name, which is explicit.
pub fn acknowledges(tolerations: &[Toleration]) -> bool {
    let by_key = tolerations.iter().any(|toleration| {
        toleration.key() == Some(PROVIDER_KEY)
            && toleration.covers_no_schedule()
            && (toleration.is_exists() || toleration.value.as_deref() == Some(PROVIDER_VALUE))
    });
    let by_everything = tolerations.iter().any(|toleration| {
        toleration.key().is_none() && toleration.is_exists() && toleration.covers_no_schedule()
    });
    by_key || !by_everything
}

/// Whether a taint that is no word of silence drives a pod away from its Node, now or after a while: what the taint manager does then is
/// someone's intent (`GetMatchingTolerations` and `getMinTolerationTime` of `pkg/controller/tainteviction`: the least of the seconds counts).
pub fn drives_away(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    let is_tolerated = |taint: &Taint| {
        let mut matching = tolerations
            .iter()
            .filter(|toleration| toleration.covers(taint))
            .peekable();
        matching.peek().is_some() && matching.all(|toleration| toleration.toleration_seconds.is_none())
    };
    driving(taints).any(|taint| !is_tolerated(taint))
}

/// Whether a taint that is no word of silence would drive a pod away at once: only `NoExecute` counts for a kubelet
/// (`FindMatchingUntoleratedTaint` of k8s.io/component-helpers).
pub(crate) fn stays_untolerated(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    driving(taints).any(|taint| !tolerations.iter().any(|toleration| toleration.covers(taint)))
}

/// What the taint manager acts upon, less the words of silence.
fn driving(taints: &[Taint]) -> impl Iterator<Item = &Taint> {
    let is_silence = |taint: &Taint| SILENCE.contains(&taint.key.as_str());
    taints
        .iter()
        .filter(move |taint| taint.effect == "NoExecute" && !is_silence(taint))
}

/// A JSON patch (RFC 6902) that adds the taint, and that fails if the taints changed in between. `None` when it is there.
pub fn add_taint(taints: &[Value], taint: &Taint, resource_version: &str) -> Option<Value> {
    if taints.iter().any(|present| taint.is_same(present)) {
        return None;
    }
    let added = if taints.is_empty() {
        json!({"op": "add", "path": "/spec/taints", "value": [taint]})
    } else {
        json!({"op": "add", "path": "/spec/taints/-", "value": taint})
    };
    Some(json!([unchanged(taints, resource_version), added]))
}

/// A JSON patch that removes the taint and no other. `None` when it is not there.
pub fn remove_taint(taints: &[Value], taint: &Taint, resource_version: &str) -> Option<Value> {
    let index = taints.iter().position(|present| taint.is_same(present))?;
    let removed = json!({"op": "remove", "path": format!("/spec/taints/{index}")});
    Some(json!([unchanged(taints, resource_version), removed]))
}

/// `test` cannot name a member that is absent, so an empty list is guarded by the object's version instead.
fn unchanged(taints: &[Value], resource_version: &str) -> Value {
    if taints.is_empty() {
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": resource_version})
    } else {
        json!({"op": "test", "path": "/spec/taints", "value": taints})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tolerations: &Value, expected: bool) {
        let parsed: Vec<Toleration> = serde_json::from_value(tolerations.clone()).unwrap();
        assert_eq!(acknowledges(&parsed), expected, "{tolerations}");
    }

    #[track_caller]
    fn check_driven(taint: (&str, &str), tolerations: &Value, expected: bool) {
        let (key, effect) = taint;
        let taint = Taint {
            key: key.to_owned(),
            value: "1".to_owned(),
            effect: effect.to_owned(),
        };
        let parsed: Vec<Toleration> = serde_json::from_value(tolerations.clone()).unwrap();
        assert_eq!(
            drives_away(&[taint], &parsed),
            expected,
            "{key}:{effect} {tolerations}"
        );
    }

    #[test]
    fn a_taint_of_a_persons_drives_away_who_does_not_tolerate_it_for_ever() {
        let mine = ("maintenance", "NoExecute");
        check_driven(mine, &json!([]), true);
        check_driven(("maintenance", "NoSchedule"), &json!([]), false);
        check_driven(("node.kubernetes.io/unreachable", "NoExecute"), &json!([]), false);
        check_driven(("node.kubernetes.io/not-ready", "NoExecute"), &json!([]), false);
        check_driven(mine, &json!([{"operator": "Exists"}]), false);
        check_driven(
            mine,
            &json!([{"key": "maintenance", "operator": "Exists", "effect": "NoExecute"}]),
            false,
        );
        check_driven(mine, &json!([{"key": "maintenance", "value": "1"}]), false);
        check_driven(mine, &json!([{"key": "maintenance", "value": "2"}]), true);
        check_driven(mine, &json!([{"key": "other", "operator": "Exists"}]), true);
        check_driven(
            mine,
            &json!([{"operator": "Exists", "effect": "NoSchedule"}]),
            true,
        );
        check_driven(
            mine,
            &json!([{"operator": "Exists"}, {"key": "maintenance", "operator": "Exists", "tolerationSeconds": 60}]),
            true,
        );
    }

    #[test]
    fn the_taint_is_acknowledged_by_key() {
        check(&json!([]), true);
        check(&json!([{"key": PROVIDER_KEY, "operator": "Exists"}]), true);
        check(
            &json!([{"key": PROVIDER_KEY, "value": "outrigger", "effect": "NoSchedule"}]),
            true,
        );
        check(&json!([{"operator": "Exists"}]), false);
        check(
            &json!([{"key": "", "operator": "Exists", "effect": "NoSchedule"}]),
            false,
        );
        check(&json!([{"operator": "Exists", "effect": "NoExecute"}]), true);
        check(
            &json!([{"operator": "Exists"}, {"key": PROVIDER_KEY, "operator": "Exists"}]),
            true,
        );
        check(
            &json!([{"operator": "Exists"}, {"key": PROVIDER_KEY, "value": "azure"}]),
            false,
        );
        check(
            &json!([{"operator": "Exists"}, {"key": "other", "operator": "Exists"}]),
            false,
        );
    }

    #[test]
    fn a_taint_is_added_and_removed_beside_others() {
        let others = vec![json!({"key": "a", "effect": "NoExecute", "timeAdded": "2026-11-21T00:00:00Z"})];
        let patch = add_taint(&others, &Taint::provider(), "7").unwrap();
        assert_eq!(
            patch[0],
            json!({"op": "test", "path": "/spec/taints", "value": others})
        );
        assert_eq!(patch[1]["path"], "/spec/taints/-");

        let patch = add_taint(&[], &Taint::hub_unreachable(), "7").unwrap();
        assert_eq!(patch[0]["path"], "/metadata/resourceVersion");
        assert_eq!(
            patch[1]["value"][0],
            json!({"key": HUB_UNREACHABLE_KEY, "effect": "NoSchedule"})
        );

        let mut all = others.clone();
        all.push(json!(Taint::provider()));
        assert!(add_taint(&all, &Taint::provider(), "7").is_none());
        let patch = remove_taint(&all, &Taint::provider(), "7").unwrap();
        assert_eq!(patch[1], json!({"op": "remove", "path": "/spec/taints/1"}));
        assert!(remove_taint(&others, &Taint::provider(), "7").is_none());
    }
}
