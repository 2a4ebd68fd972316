use serde_json::json;

use super::*;

fn node(taints: &Value) -> NodeFacts {
    let labels = json!({"kubernetes.io/os": "linux", "hall": "7", "cores": "4"});
    let node = json!({"metadata": {"name": "press-7", "labels": labels}, "spec": {"taints": taints}});
    NodeFacts::of(&node)
}

#[track_caller]
fn check(spec: &Value, reason: Option<&str>) {
    let judged = judge(&json!({"metadata": {}, "spec": spec}), &node(&json!([])));
    assert_eq!(judged.map(|rejection| rejection.reason), reason, "{spec}");
}

fn affinity(terms: &Value) -> Value {
    let required = json!({"nodeSelectorTerms": terms});
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
}

#[track_caller]
fn check_expression(expression: &Value, holds: bool) {
    let spec = affinity(&json!([{"matchExpressions": [expression]}]));
    check(&spec, (!holds).then_some(NODE_AFFINITY));
}

#[track_caller]
fn check_field(field: &Value, holds: bool) {
    let spec = affinity(&json!([{"matchFields": [field]}]));
    check(&spec, (!holds).then_some(NODE_AFFINITY));
}

#[test]
fn a_node_selector_must_match_whole() {
    check(&json!({}), None);
    check(&json!({"nodeSelector": {}}), None);
    check(&json!({"nodeSelector": {"hall": "7"}}), None);
    check(&json!({"nodeSelector": {"hall": "8"}}), Some(NODE_AFFINITY));
    check(
        &json!({"nodeSelector": {"hall": "7", "line": "1"}}),
        Some(NODE_AFFINITY),
    );
    check(
        &json!({"nodeSelector": {"kubernetes.io/os": "windows"}}),
        Some(NODE_AFFINITY),
    );
}

#[test]
fn each_operator_is_as_the_api_has_it() {
    check_expression(
        &json!({"key": "hall", "operator": "In", "values": ["6", "7"]}),
        true,
    );
    check_expression(&json!({"key": "hall", "operator": "In", "values": ["8"]}), false);
    check_expression(&json!({"key": "line", "operator": "In", "values": ["1"]}), false);
    check_expression(
        &json!({"key": "hall", "operator": "NotIn", "values": ["7"]}),
        false,
    );
    check_expression(
        &json!({"key": "hall", "operator": "NotIn", "values": ["8"]}),
        true,
    );
    check_expression(
        &json!({"key": "line", "operator": "NotIn", "values": ["1"]}),
        true,
    );
    check_expression(&json!({"key": "hall", "operator": "Exists"}), true);
    check_expression(&json!({"key": "line", "operator": "Exists"}), false);
    check_expression(&json!({"key": "line", "operator": "DoesNotExist"}), true);
    check_expression(&json!({"key": "hall", "operator": "DoesNotExist"}), false);
    check_expression(&json!({"key": "cores", "operator": "Gt", "values": ["3"]}), true);
    check_expression(&json!({"key": "cores", "operator": "Gt", "values": ["4"]}), false);
    check_expression(&json!({"key": "cores", "operator": "Lt", "values": ["10"]}), true);
    check_expression(&json!({"key": "cores", "operator": "Lt", "values": ["4"]}), false);
    check_expression(&json!({"key": "line", "operator": "Gt", "values": ["0"]}), false);
    check_expression(
        &json!({"key": "kubernetes.io/os", "operator": "Lt", "values": ["1"]}),
        false,
    );
    check_expression(
        &json!({"key": "hall", "operator": "Near", "values": ["7"]}),
        false,
    );
}

#[test]
fn the_only_field_is_the_nodes_name() {
    check_field(
        &json!({"key": "metadata.name", "operator": "In", "values": ["press-7"]}),
        true,
    );
    check_field(
        &json!({"key": "metadata.name", "operator": "In", "values": ["press-8"]}),
        false,
    );
    check_field(
        &json!({"key": "metadata.name", "operator": "NotIn", "values": ["press-7"]}),
        false,
    );
    check_field(&json!({"key": "hall", "operator": "In", "values": ["7"]}), false);
}

#[test]
fn one_term_is_enough_all_of_it_must_hold_and_an_empty_one_matches_nothing() {
    let is = |hall: &str| json!({"key": "hall", "operator": "In", "values": [hall]});
    let four = json!({"key": "cores", "operator": "In", "values": ["4"]});
    let name = json!({"key": "metadata.name", "operator": "In", "values": ["press-8"]});
    let two = json!([{"matchExpressions": [is("8")]}, {"matchExpressions": [is("7"), four]}]);
    check(&affinity(&two), None);
    let both = json!([{"matchExpressions": [is("8"), four]}]);
    check(&affinity(&both), Some(NODE_AFFINITY));
    let fields_too = json!([{"matchExpressions": [is("7")], "matchFields": [name]}]);
    check(&affinity(&fields_too), Some(NODE_AFFINITY));
    check(&affinity(&json!([{}])), Some(NODE_AFFINITY));
    check(&affinity(&json!([])), Some(NODE_AFFINITY));
    check(&json!({"affinity": {"nodeAffinity": {}}}), None);
    let mut selector_too = affinity(&json!([{"matchExpressions": [is("7")]}]));
    selector_too["nodeSelector"] = json!({"hall": "8"});
    check(&selector_too, Some(NODE_AFFINITY));
    let preferred = json!([{"weight": 1, "preference": {"matchExpressions": [is("8")]}}]);
    let wish = json!({"preferredDuringSchedulingIgnoredDuringExecution": preferred});
    check(&json!({"affinity": {"nodeAffinity": wish}}), None);
}

#[test]
fn only_taints_that_drive_away_count_and_none_of_silence() {
    let check = |taint: &Value, tolerations: &Value, reason: Option<&str>| {
        let pod = json!({"spec": {"tolerations": tolerations}});
        let judged = judge(&pod, &node(&json!([taint]))).map(|rejection| rejection.reason);
        assert_eq!(judged, reason, "{taint} {tolerations}");
    };
    let mine = json!({"key": "maintenance", "value": "1", "effect": "NoExecute"});
    check(&mine, &json!([]), Some(TAINT_TOLERATION));
    check(&mine, &json!([{"operator": "Exists"}]), None);
    // For a while is enough at first.
    let a_while = json!([{"key": "maintenance", "operator": "Exists", "tolerationSeconds": 5}]);
    check(&mine, &a_while, None);
    check(
        &json!({"key": "maintenance", "effect": "NoSchedule"}),
        &json!([]),
        None,
    );
    let silent = json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"});
    check(&silent, &json!([]), None);
}

#[test]
fn the_label_of_the_operating_system_is_the_pods_own() {
    let labelled = |os: &str| json!({"metadata": {"labels": {"kubernetes.io/os": os}}, "spec": {}});
    let facts = node(&json!([]));
    assert_eq!(judge(&labelled("linux"), &facts), None);
    let reason = judge(&labelled("windows"), &facts).map(|rejection| rejection.reason);
    assert_eq!(reason, Some(OS_LABEL));
}

#[test]
fn what_asks_nothing_of_labels_needs_no_node() {
    let asks = |pod: Value| asks_of_labels(&pod);
    assert!(!asks(json!({"metadata": {}, "spec": {"nodeSelector": {}}})));
    assert!(!asks(json!({"spec": {"affinity": {"nodeAffinity": {}}}})));
    assert!(asks(json!({"spec": {"nodeSelector": {"hall": "7"}}})));
    assert!(asks(json!({"spec": affinity(&json!([]))})));
    assert!(asks(
        json!({"metadata": {"labels": {"kubernetes.io/os": "linux"}}})
    ));
}

#[test]
fn every_rejection_is_known_as_one() {
    assert!(
        [NODE_AFFINITY, TAINT_TOLERATION, OS_LABEL]
            .iter()
            .all(|reason| rejects(reason))
    );
    assert!(!rejects("UnsupportedField"));
}
