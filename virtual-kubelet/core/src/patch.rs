//! Whether a patch would change an object: compared with the object as the API server has it, never with what was sent last.

use serde_json::{Value, json};

/// Lists of addresses in a pod's status, which a strategic merge joins by `ip` (core/v1 types.go).
const ADDRESSES: [&str; 2] = ["hostIPs", "podIPs"];

/// Whether strategically merging `wanted` onto `current` changes anything.
///
/// Objects merge member by member, lists of conditions by their `type`; other lists replace. An empty text and an absent member
/// are the same, since the API server drops empty texts.
pub fn would_change(current: &Value, wanted: &Value) -> bool {
    match (current, wanted) {
        (_, Value::Object(members)) => members
            .iter()
            .any(|(name, wanted)| would_change(current.get(name).unwrap_or(&Value::Null), wanted)),
        (Value::Array(current), Value::Array(wanted)) if is_keyed(wanted) => wanted.iter().any(|wanted| {
            let same = current.iter().find(|item| item.get("type") == wanted.get("type"));
            same.is_none_or(|current| would_change(current, wanted))
        }),
        (Value::Null, Value::String(text)) => !text.is_empty(),
        (Value::Null, Value::Array(items)) => !items.is_empty(),
        (current, wanted) => current != wanted,
    }
}

/// `wanted` with a `null` for each member of a condition that it no longer has: a strategic merge would keep it, and a reason of
/// yesterday would stand beside the status of today. One that is wanted with an empty status is taken away. Other addresses replace the former ones for the same reason: both together would be refused.
#[must_use]
pub fn completed(current: &Value, mut wanted: Value) -> Value {
    replace_addresses(current, &mut wanted);
    let present = current.get("conditions").and_then(Value::as_array);
    let conditions = wanted.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let same = present
            .into_iter()
            .flatten()
            .find(|item| item.get("type") == condition.get("type"));
        let (Some(Value::Object(same)), Value::Object(condition)) = (same, condition) else {
            continue;
        };
        for member in same.keys().filter(|member| !same[*member].is_null()) {
            condition.entry(member.clone()).or_insert(Value::Null);
        }
    }
    take_away(current, &mut wanted);
    wanted
}

/// A condition that is wanted with no status goes, where it is; a strategic merge would keep what is only left out.
fn take_away(current: &Value, wanted: &mut Value) {
    let present = current.get("conditions").and_then(Value::as_array);
    let Some(conditions) = wanted.get_mut("conditions").and_then(Value::as_array_mut) else {
        return;
    };
    conditions.retain_mut(|condition| {
        if condition.get("status").and_then(Value::as_str) != Some("") {
            return true;
        }
        let name = condition["type"].take();
        let mut present = present.into_iter().flatten();
        let is_there = present.any(|item| item.get("type") == Some(&name));
        *condition = json!({"$patch": "delete", "type": name});
        is_there
    });
}

/// `mergeSliceWithSpecialElements` of strategicpatch/patch.go: what stands beside this directive is the whole list, in its order.
fn replace_addresses(current: &Value, wanted: &mut Value) {
    for name in ADDRESSES {
        let Some(addresses) = wanted.get_mut(name).and_then(Value::as_array_mut) else {
            continue;
        };
        let present = current.get(name).and_then(Value::as_array);
        if present.is_some_and(|present| !present.is_empty() && present != addresses) {
            addresses.insert(0, json!({"$patch": "replace"}));
        }
    }
}

/// `status.conditions` merge by `type`; `status.addresses` also carry a `type` but are written by a replacing patch of their own.
fn is_keyed(items: &[Value]) -> bool {
    !items.is_empty()
        && items
            .iter()
            .all(|item| item.get("type").is_some() && item.get("status").is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(current: &Value, wanted: &Value, expected: bool) {
        assert_eq!(would_change(current, wanted), expected, "{current} <- {wanted}");
    }

    #[test]
    fn only_what_would_change_is_a_change() {
        check(
            &json!({"phase": "Running", "qosClass": "Burstable"}),
            &json!({"phase": "Running"}),
            false,
        );
        check(&json!({"phase": "Pending"}), &json!({"phase": "Running"}), true);
        check(&json!({}), &json!({"message": ""}), false);
        check(&json!({"message": "x"}), &json!({"message": ""}), true);
        check(&json!({}), &json!({"hostIPs": []}), false);
        let conditions =
            json!({"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]});
        check(
            &conditions,
            &json!({"conditions": [{"type": "B", "status": "True"}]}),
            false,
        );
        check(
            &conditions,
            &json!({"conditions": [{"type": "B", "status": "False"}]}),
            true,
        );
        check(
            &conditions,
            &json!({"conditions": [{"type": "C", "status": "False"}]}),
            true,
        );
        let list =
            json!({"containerStatuses": [{"name": "a", "restartCount": 1, "lastState": {"running": {}}}]});
        check(&list, &list, false);
        check(
            &list,
            &json!({"containerStatuses": [{"name": "a", "restartCount": 1}]}),
            true,
        );
    }

    #[test]
    fn other_addresses_replace_those_that_were() {
        let status = |ips: &[&str]| {
            let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
            json!({"podIP": "10.0.0.1", "podIPs": ips})
        };
        let same = completed(&status(&["10.0.0.1"]), status(&["10.0.0.1"]));
        assert_eq!(same, status(&["10.0.0.1"]));
        check(&status(&["10.0.0.1"]), &same, false);
        assert_eq!(
            completed(&json!({}), status(&["10.0.0.2"])),
            status(&["10.0.0.2"])
        );
        let other = completed(
            &status(&["10.0.0.1", "fd00::1"]),
            status(&["10.0.0.2", "fd00::1"]),
        );
        let expected = json!([{"$patch": "replace"}, {"ip": "10.0.0.2"}, {"ip": "fd00::1"}]);
        assert_eq!(other["podIPs"], expected);
        let host = completed(
            &json!({"hostIPs": [{"ip": "192.0.2.1"}]}),
            json!({"hostIPs": [{"ip": "192.0.2.2"}]}),
        );
        assert_eq!(host["hostIPs"][0], json!({"$patch": "replace"}));
    }

    #[test]
    fn a_condition_without_a_status_goes_where_it_is() {
        let current = json!({"conditions": [{"type": "A", "status": "True", "reason": "Why"}, {"type": "B", "status": "True"}]});
        let wanted = |name: &str| json!({"conditions": [{"type": name, "status": ""}, {"type": "B", "status": "True"}]});
        let gone = completed(&current, wanted("A"));
        let expected =
            json!({"conditions": [{"$patch": "delete", "type": "A"}, {"type": "B", "status": "True"}]});
        assert_eq!(gone, expected);
        check(&current, &gone, true);
        let never_there = completed(&current, wanted("C"));
        assert_eq!(
            never_there,
            json!({"conditions": [{"type": "B", "status": "True"}]})
        );
        check(&current, &never_there, false);
    }

    #[test]
    fn a_member_that_a_condition_lost_is_cleared() {
        let current = json!({"conditions": [
            {"type": "A", "status": "False", "reason": "Why", "lastProbeTime": null},
            {"type": "B", "status": "True", "reason": "Theirs"},
        ]});
        let wanted =
            json!({"conditions": [{"type": "A", "status": "True"}, {"type": "C", "status": "True"}]});
        let completed = completed(&current, wanted);
        let expected = json!({"conditions": [{"type": "A", "status": "True", "reason": null}, {"type": "C", "status": "True"}]});
        assert_eq!(completed, expected);
        check(
            &json!({"conditions": [{"type": "A", "status": "True"}]}),
            &json!({"conditions": [expected["conditions"][0]]}),
            false,
        );
        check(
            &current,
            &json!({"conditions": [{"type": "A", "status": "False", "reason": null}]}),
            true,
        );
    }
}
