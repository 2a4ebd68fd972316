//! Prevention of law 1: our pods tolerate a silent node for ever, so that no controller deletes them.

use serde_json::{Value, json};

use crate::taint::Toleration;

pub(crate) const SILENCE: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// A JSON patch that clears `tolerationSeconds` of the `NotReady` and unreachable tolerations of a live pod; the API allows just
/// that. It fails if the pod is another or its tolerations changed in between. `None` when there is nothing to clear.
///
/// `raw` are the pod's tolerations as stored; a second, unlimited one beside a limited one would not help, since the least counts.
pub fn clear_seconds(raw: &[Value], uid: &str) -> Option<Value> {
    let limited: Vec<usize> = (0..raw.len()).filter(|index| is_limited(&raw[*index])).collect();
    if limited.is_empty() {
        return None;
    }
    let mut patch = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": uid}),
        json!({"op": "test", "path": "/spec/tolerations", "value": raw}),
    ];
    patch.extend(limited.iter().map(
        |index| json!({"op": "remove", "path": format!("/spec/tolerations/{index}/tolerationSeconds")}),
    ));
    Some(Value::Array(patch))
}

fn is_limited(raw: &Value) -> bool {
    let Ok(toleration) = serde_json::from_value::<Toleration>(raw.clone()) else {
        return false;
    };
    toleration.toleration_seconds.is_some() && toleration.key().is_none_or(|key| SILENCE.contains(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_seconds_of_silence_are_cleared() {
        let raw = vec![
            json!({"key": SILENCE[0], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
            json!({"key": "mine", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}),
            json!({"key": SILENCE[1], "operator": "Exists", "effect": "NoExecute"}),
            json!({"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}),
        ];
        let patch = clear_seconds(&raw, "u1").unwrap();
        let paths: Vec<&str> = patch.as_array().unwrap()[2..]
            .iter()
            .map(|op| op["path"].as_str().unwrap())
            .collect();
        assert_eq!(
            paths,
            [
                "/spec/tolerations/0/tolerationSeconds",
                "/spec/tolerations/3/tolerationSeconds"
            ]
        );
        assert_eq!(patch[0]["value"], "u1");
        assert!(clear_seconds(&raw[1..3], "u1").is_none());
    }
}
