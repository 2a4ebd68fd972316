//! Reading pod objects.

use serde_json::Value;

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap()
}

/// Status, reason and message of a condition, of a pod or of a node; empty where there is none.
pub fn condition<'a>(object: &'a Value, kind: &str) -> (&'a str, &'a str, &'a str) {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind);
    let text = |key| {
        found
            .and_then(|condition| condition[key].as_str())
            .unwrap_or_default()
    };
    (text("status"), text("reason"), text("message"))
}

pub fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").0 == "True"
}

/// Of all its containers together.
pub fn restarts(pod: &Value) -> u64 {
    statuses(pod)
        .filter_map(|status| status["restartCount"].as_u64())
        .sum()
}

/// Why its first waiting container waits.
pub fn reason_of_waiting(pod: &Value) -> &str {
    statuses(pod)
        .find_map(|status| status["state"]["waiting"]["reason"].as_str())
        .unwrap_or_default()
}

/// Reason and exit code of every container that has ended, or that ended last before it was started again.
pub fn terminations(pod: &Value) -> Vec<(&str, i64)> {
    let ends = statuses(pod).flat_map(|status| [&status["state"], &status["lastState"]]);
    ends.filter_map(|state| {
        let end = &state["terminated"];
        Some((end["reason"].as_str()?, end["exitCode"].as_i64()?))
    })
    .collect()
}

fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
}
