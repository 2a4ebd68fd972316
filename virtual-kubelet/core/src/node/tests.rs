//! What is written for which state of the Node.

use super::view::canonical_binary;
use super::*;
use crate::serving::{SERVING_CERTIFICATE, ServingWord};
use crate::taint::{HUB_UNREACHABLE_KEY, PROVIDER_KEY};

fn spec() -> FleetSpec {
    FleetSpec {
        name: "outrigger".into(),
        internal_ip: "192.0.2.7".into(),
        provider_id: "outrigger://hub/outrigger".into(),
        zone: "outrigger-site".into(),
        os: "linux".into(),
        arch: "amd64".into(),
        kubelet_version: "v1.37.0-outrigger.1".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

fn state(hub_reachable: bool) -> FleetState {
    FleetState {
        capacity: Some(Capacity {
            cpu_milli: 12_500,
            memory_bytes: 6 << 30,
            pods: 110,
            ..Capacity::default()
        }),
        hub: if hub_reachable {
            HubWord::Answers
        } else {
            HubWord::Silent {
                message: "no answer".into(),
            }
        },
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// The Node that the API server would have after our creation, with something of others beside it.
fn created() -> Value {
    let Some(NodeAction::Create(mut node)) = plan_node(None, &spec().view(&state(true)), at(0)).pop() else {
        panic!("a missing Node is created")
    };
    node["metadata"]["uid"] = json!("u1");
    node["metadata"]["resourceVersion"] = json!("5");
    node["metadata"]["labels"]["theirs"] = json!("x");
    node["spec"]["taints"]
        .as_array_mut()
        .unwrap()
        .push(json!({"key": "theirs", "effect": "NoExecute"}));
    node["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "Theirs", "status": "True"}));
    node
}

fn plan(node: &Value, state: &FleetState, now: Timestamp) -> Vec<NodeAction> {
    plan_node(
        Some(&serde_json::from_value(node.clone()).unwrap()),
        &spec().view(state),
        now,
    )
}

#[test]
fn a_new_node_says_who_it_is() {
    let node = created();
    assert_eq!(node["spec"]["providerID"], "outrigger://hub/outrigger");
    assert_eq!(node["spec"]["taints"][0]["key"], PROVIDER_KEY);
    assert_eq!(
        node["status"]["capacity"],
        json!({"cpu": "12500m", "memory": "6Gi", "pods": "110"})
    );
    assert_eq!(node["status"]["allocatable"], node["status"]["capacity"]);
    let kinds: Vec<_> = node["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].as_str().unwrap())
        .collect();
    for kind in [
        "Ready",
        "MemoryPressure",
        "DiskPressure",
        "PIDPressure",
        "NetworkUnavailable",
        HUB_REACHABLE,
    ] {
        assert!(kinds.contains(&kind), "{kind}");
    }
}

#[test]
fn a_node_as_it_should_be_is_left_alone() {
    assert_eq!(plan(&created(), &state(true), at(299)), []);
}

#[test]
fn only_heartbeats_are_renewed_after_five_minutes() {
    let actions = plan(&created(), &state(true), at(300));
    let [NodeAction::ApplyStatus(apply)] = &actions[..] else {
        panic!("{actions:?}")
    };
    let ready = &apply["status"]["conditions"][0];
    assert_eq!(
        ready["lastTransitionTime"],
        created()["status"]["conditions"][0]["lastTransitionTime"]
    );
    assert_ne!(ready["lastHeartbeatTime"], ready["lastTransitionTime"]);
    assert!(
        apply["status"].get("addresses").is_none(),
        "addresses are not applied"
    );
}

#[test]
fn what_the_node_controller_wrote_in_a_silence_is_taken_back() {
    let mut node = created();
    node["status"]["conditions"][0]["status"] = json!("Unknown");
    assert!(matches!(
        plan(&node, &state(true), at(10))[..],
        [NodeAction::ApplyStatus(_)]
    ));
}

#[test]
fn a_silent_hub_leaves_the_node_ready_and_taints_it() {
    let actions = plan(&created(), &state(false), at(10));
    let [NodeAction::PatchTaints(patch), NodeAction::ApplyStatus(apply)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(patch[1]["value"]["key"], HUB_UNREACHABLE_KEY);
    let conditions = apply["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions[0]["status"], "True");
    assert_eq!(conditions[5]["status"], "False");

    let mut node = created();
    node["spec"]["taints"]
        .as_array_mut()
        .unwrap()
        .push(json!(Taint::hub_unreachable()));
    let actions = plan(&node, &state(true), at(10));
    assert!(matches!(&actions[..], [NodeAction::PatchTaints(patch)] if patch[1]["path"] == "/spec/taints/2"));
}

#[test]
fn a_missing_own_taint_and_a_lost_label_come_back() {
    let mut node = created();
    node["spec"]["taints"].as_array_mut().unwrap().remove(0);
    node["metadata"]["labels"].as_object_mut().unwrap().remove("type");
    let actions = plan(&node, &state(true), at(10));
    let [NodeAction::Apply(apply), NodeAction::PatchTaints(patch)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(apply["metadata"]["labels"]["type"], "virtual-kubelet");
    assert!(
        apply["metadata"]["labels"].get("theirs").is_none(),
        "we never own others' labels"
    );
    assert!(apply.get("spec").is_none());
    assert_eq!(patch[0]["value"], node["spec"]["taints"]);
}

#[test]
fn addresses_replace_the_list() {
    let mut node = created();
    node["status"]["addresses"] = json!([{"type": "InternalIP", "address": "192.0.2.1"}]);
    let actions = plan(&node, &state(true), at(10));
    assert!(
        matches!(&actions[..], [NodeAction::ReplaceAddresses(patch)] if patch["status"]["addresses"][0]["address"] == "192.0.2.7")
    );
}

#[test]
fn a_node_that_is_going_is_waited_for() {
    let mut node = created();
    node["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    node["status"] = json!({});
    assert_eq!(plan(&node, &state(true), at(10)), []);
}

#[test]
fn capacity_is_bounded_and_canonical() {
    let bound = Capacity {
        cpu_milli: 4000,
        memory_bytes: 1 << 40,
        pods: 50,
        ..Capacity::default()
    };
    let bounded = state(true).capacity.unwrap().at_most(bound);
    assert_eq!(
        bounded.quantities(),
        json!({"cpu": "4", "memory": "6Gi", "pods": "50"})
    );
    assert_eq!(canonical_binary(0), "0");
    assert_eq!(canonical_binary(1025), "1025");
    assert_eq!(canonical_binary(3 << 20), "3Mi");
}

#[test]
fn while_the_fleet_is_unknown_the_figures_stay() {
    let unknown = FleetState {
        capacity: None,
        ..state(true)
    };
    assert_eq!(plan(&created(), &unknown, at(10)), []);
    let Some(NodeAction::Create(node)) = plan_node(None, &spec().view(&unknown), at(0)).pop() else {
        panic!("a missing Node is created")
    };
    assert_eq!(node["status"]["capacity"]["pods"], "0");
}

#[test]
fn the_kubelet_api_is_seen_where_it_answers_and_stays_until_that_is_known() {
    let endpoint = |port| Endpoint {
        address: "192.0.2.10".parse().unwrap(),
        port,
        serving: Some(ServingWord::Issued { renewal: None }),
    };
    let view = |port| spec().view(&state(true)).with_endpoint(&endpoint(port));
    let mut node = created();
    assert_eq!(kubelet_port(Some(&node["status"])), None);
    let observed = serde_json::from_value(node.clone()).unwrap();
    let actions = plan_node(Some(&observed), &view(KubeletPort::At(10_250)), at(10));
    let [
        NodeAction::ApplyStatus(apply),
        NodeAction::ReplaceAddresses(addresses),
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    let condition = find_condition(Some(&apply["status"]), SERVING_CERTIFICATE).unwrap();
    assert_eq!(condition["status"], "True");
    let addresses = addresses["status"]["addresses"].as_array().unwrap();
    let ips: Vec<_> = addresses
        .iter()
        .map(|address| address["address"].as_str().unwrap())
        .collect();
    assert_eq!(
        ips,
        ["192.0.2.10", "192.0.2.7", "outrigger"],
        "the API server takes the first"
    );

    let shown = |port, current: &Value| kubelet_port(Some(&view(port).status_json(Some(current), at(0))));
    node["status"]["daemonEndpoints"] = apply["status"]["daemonEndpoints"].clone();
    let status = &node["status"];
    assert_eq!(shown(KubeletPort::At(10_251), status), Some(10_251));
    assert_eq!(shown(KubeletPort::Kept, status), Some(10_250));
    assert_eq!(
        shown(KubeletPort::Nothing, status),
        Some(0),
        "nothing answers any more"
    );
    let nowhere = json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}});
    assert_eq!(shown(KubeletPort::Nothing, &nowhere), None);
    assert_eq!(shown(KubeletPort::Kept, &nowhere), None);
}

#[test]
fn declared_features_stay_until_it_is_known_what_they_are() {
    let mut view = spec().view(&state(true));
    assert!(view.status_json(None, at(0)).get("declaredFeatures").is_none());
    let endpoint = Endpoint {
        address: "192.0.2.10".parse().unwrap(),
        port: KubeletPort::At(10_250),
        serving: None,
    };
    let fleets = view.clone().with_endpoint(&endpoint);
    assert_eq!(fleets.declared_features, None, "a fleet's declares nothing");
    view.declared_features = Some(vec!["A", "Z"]);
    let served = view.clone().with_endpoint(&endpoint).with_endpoint(&endpoint);
    assert_eq!(
        served.declared_features,
        Some(vec!["A", "ExtendWebSocketsToKubelet", "Z"])
    );
    view.declared_features = Some(vec!["A", "B"]);
    view.strict_groups = Some(true);
    let shown = view.status_json(None, at(0));
    assert_eq!(shown["declaredFeatures"], json!(["A", "B"]));
    assert_eq!(shown["features"], json!({"supplementalGroupsPolicy": true}));
    (view.declared_features, view.strict_groups) = (None, None);
    let kept = view.status_json(Some(&shown), at(0));
    assert_eq!(kept["declaredFeatures"], json!(["A", "B"]));
    assert_eq!(kept["features"], shown["features"]);
    view.declared_features = Some(vec![]);
    let less = view.status_json(Some(&shown), at(0));
    assert_eq!(less["declaredFeatures"], json!([]));
    assert!(would_change(&shown, &less));
    // The API server keeps no empty list.
    assert!(!would_change(
        &json!({}),
        &json!({"declaredFeatures": less["declaredFeatures"]})
    ));
}

#[test]
fn what_is_ours_goes_when_it_is_no_longer_so() {
    let mut node = created();
    node["metadata"]["labels"]["tag.example/site"] = json!("7");
    node["metadata"]["labels"]["tag.example/old"] = json!("x");
    node["metadata"]["annotations"]["tag.example/older"] = json!("y");
    node["metadata"]["annotations"]["example/listed"] = json!("example/type,example/region");
    node["metadata"]["labels"]["example/type"] = json!("large");
    node["metadata"]["labels"]["example/region"] = json!("north");
    node["metadata"]["labels"]["example/of-a-person"] = json!("kept");
    let mut view = spec().view(&state(true));
    view.owned = Some(Owned {
        prefix: "tag.example/",
        list: "example/listed",
    });
    view.labels.insert("tag.example/site".into(), "7".into());
    view.labels.insert("example/type".into(), "large".into());
    view.annotations
        .insert("example/listed".into(), "example/type".into());
    let observed = serde_json::from_value(node).unwrap();
    let actions = plan_node(Some(&observed), &view, at(10));
    // What is listed goes before the list is shortened.
    let [NodeAction::DropStale(patch), NodeAction::Apply(_)] = &actions[..] else {
        panic!("{actions:?}")
    };
    let gone = json!({
        "labels": {"tag.example/old": null, "example/region": null},
        "annotations": {"tag.example/older": null},
    });
    assert_eq!(patch["metadata"], gone);
}

#[test]
fn a_dark_node_keeps_the_heartbeat_of_its_last_word() {
    let mut view = spec().view(&state(true));
    view.lives = false;
    view.conditions[0].status = ConditionStatus::Unknown;
    view.conditions[0].known_at = Some(at(-60));
    let node: ObservedNode = serde_json::from_value(created()).unwrap();
    let actions = plan_node(Some(&node), &view, at(10));
    let [NodeAction::ApplyStatus(apply)] = &actions[..] else {
        panic!("{actions:?}")
    };
    let ready = &apply["status"]["conditions"][0];
    assert_eq!(ready["lastHeartbeatTime"], json!(format!("{:.0}", at(-60))));
    assert_eq!(ready["lastTransitionTime"], json!(format!("{:.0}", at(10))));
    let node = ObservedNode {
        status: apply["status"].clone(),
        ..node
    };
    let mut dark = node;
    dark.status["addresses"] = created()["status"]["addresses"].clone();
    assert_eq!(
        plan_node(Some(&dark), &view, at(10_000)),
        [],
        "no sign of life, no heartbeat"
    );
}

#[test]
fn a_node_that_should_not_be_is_deleted_by_its_uid_once() {
    let mut node = created();
    let aim = NodeAim::Absent;
    let observed = serde_json::from_value(node.clone()).unwrap();
    let actions = super::plan(Some(&observed), &aim, at(0));
    assert!(matches!(&actions[..], [NodeAction::Delete(options)] if options["preconditions"]["uid"] == "u1"));
    node["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    let going = serde_json::from_value(node).unwrap();
    assert_eq!(super::plan(Some(&going), &aim, at(0)), []);
    assert_eq!(super::plan(None, &aim, at(0)), []);
}

#[test]
fn a_node_that_is_there_shows_that_the_hub_does_not_answer_and_nothing_else_changes() {
    let aim = NodeAim::Kept(state(false).hub);
    let observed = |node: &Value| -> ObservedNode { serde_json::from_value(node.clone()).unwrap() };
    let mut node = created();
    let actions = super::plan(Some(&observed(&node)), &aim, at(20));
    let [NodeAction::PatchTaints(taints), NodeAction::PatchCondition(patch)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert!(taints.to_string().contains(HUB_UNREACHABLE_KEY), "{taints}");
    let conditions = patch["status"]["conditions"].as_array().unwrap();
    assert_eq!(
        (patch["status"].as_object().unwrap().len(), conditions.len()),
        (1, 1)
    );
    assert_eq!(conditions[0]["type"], HUB_REACHABLE);
    assert_eq!(conditions[0]["status"], "False");
    assert_eq!(conditions[0]["lastTransitionTime"], at(20).to_string());
    // As the API server merges it: by type.
    let shown = node["status"]["conditions"].as_array_mut().unwrap();
    for condition in shown {
        if condition["type"] == HUB_REACHABLE {
            *condition = conditions[0].clone();
        }
    }
    let taints = node["spec"]["taints"].as_array_mut().unwrap();
    taints.push(serde_json::to_value(Taint::hub_unreachable()).unwrap());
    assert_eq!(super::plan(Some(&observed(&node)), &aim, at(600)), []);
    assert_eq!(
        super::plan(None, &aim, at(20)),
        [],
        "nothing is known of what it would show"
    );
    node["metadata"]["deletionTimestamp"] = json!("2026-11-22T00:00:00Z");
    assert_eq!(super::plan(Some(&observed(&node)), &aim, at(20)), []);
}
