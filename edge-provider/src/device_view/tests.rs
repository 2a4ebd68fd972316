//! What the Node of a device shows.

use serde_json::json;

use super::*;
use crate::device_nodes::DeviceNodesOptions;

/// A device that is there, with the tag that makes it a node.
pub(crate) fn device(id: &str) -> Device {
    serde_json::from_value(json!({
        "id": id, "enrolment": "e1", "group": "g", "tags": {"node": "true", "site": "hall-7"}, "link": "lan", "state": "active",
        "facts": {
            "os": "linux", "arch": "arm64", "kernel_version": "6.1", "os_image": "Some Linux", "runtime_name": "containerd",
            "runtime_version": "2.1.1", "cpu_milli": 4000, "memory_bytes": 1_u64 << 30, "ephemeral_storage_bytes": 10_u64 << 30, "pods": 110,
        },
        "agent_version": "0.1.0", "connected": true, "online": true, "last_seen_ms": 1_800_000_000_000_i64,
        "generation": {"incarnation": 1, "n": 1},
    }))
    .unwrap()
}

fn spec(options: serde_json::Value) -> DeviceSpec {
    let options: DeviceNodesOptions = serde_json::from_value(options).unwrap();
    DeviceSpec {
        name: "press-7".into(),
        provider_id: "outrigger://hub/press-7".into(),
        zone: "outrigger-site".into(),
        kubelet_version: "v1.37.1-outrigger.1".into(),
        nodes: Arc::new(options.parsed().unwrap()),
    }
}

fn plain() -> DeviceSpec {
    spec(json!({"condition": "tags.node = 'true'"}))
}

fn condition<'v>(view: &'v NodeView, kind: &str) -> &'v NodeCondition {
    view.conditions
        .iter()
        .find(|condition| condition.kind == kind)
        .unwrap()
}

#[test]
fn it_declares_what_its_agent_can_where_that_is_kept() {
    let mut able = device("press-7");
    let declared = |device: &Device, kubernetes| {
        plain()
            .view(device, &HubWord::Answers, kubernetes)
            .declared_features
    };
    assert_eq!(declared(&able, Some((1, 37))), Some(vec![]));
    able.features = vec![edge_protocol::v1::ability::CONTAINER_RESTART.to_owned()];
    assert_eq!(declared(&able, Some((1, 37))).map(|all| all.len()), Some(1));
    assert_eq!(declared(&able, Some((1, 35))), None);
    assert_eq!(declared(&able, None), None);
    let groups = |kubernetes| {
        let view = plain().view(&able, &HubWord::Answers, kubernetes);
        view.strict_groups
    };
    assert_eq!(groups(Some((1, 33))), Some(able.facts.strict_groups));
    assert_eq!(groups(Some((1, 32))), None);
}

#[test]
fn it_shows_the_machine_that_it_is() {
    let view = plain().view(&device("press-7"), &HubWord::Answers, None);
    assert_eq!(view.capacity.unwrap().cpu_milli, 4000);
    assert_eq!(view.allocatable.unwrap().memory_bytes, (1024 - 100) << 20);
    assert_eq!(view.info.container_runtime_version, "containerd://2.1.1");
    assert_eq!(view.info.kernel_version, "6.1");
    assert_eq!(view.labels["kubernetes.io/arch"], "arm64");
    assert_eq!(view.labels["kubernetes.io/hostname"], "press-7");
    assert_eq!(view.labels["topology.kubernetes.io/zone"], "outrigger-site");
    assert_eq!(view.labels["tag.outrigger.io/site"], "hall-7");
    assert_eq!(view.annotations["outrigger.io/agent-version"], "0.1.0");
    assert_eq!(condition(&view, "Ready").status, ConditionStatus::True);
    assert!(view.lives && view.takes_new);
}

#[test]
fn a_tag_that_is_no_label_is_an_annotation() {
    let mut device = device("press-7");
    device.tags.insert("owner".into(), "Ms. Möller".into());
    device.tags.insert("a/b".into(), "x".into());
    let view = plain().view(&device, &HubWord::Answers, None);
    assert_eq!(view.annotations["tag.outrigger.io/owner"], "Ms. Möller");
    assert!(!view.labels.contains_key("tag.outrigger.io/owner"));
    assert_eq!(view.annotations["outrigger.io/tags"], r#"{"a/b":"x"}"#);
}

#[test]
fn labels_come_from_tags_by_the_mapping_and_the_zone_is_always_an_own_one() {
    let labels = json!({
        "topology.kubernetes.io/zone": "site", "node.kubernetes.io/instance-type": "model", "topology.kubernetes.io/region": "none",
    });
    let mut device = device("press-7");
    device.tags.insert("model".into(), "px-30".into());
    let view = spec(json!({"condition": "*", "labels": labels})).view(&device, &HubWord::Answers, None);
    assert_eq!(view.labels["topology.kubernetes.io/zone"], "outrigger-hall-7");
    assert_eq!(view.labels["node.kubernetes.io/instance-type"], "px-30");
    assert!(!view.labels.contains_key("topology.kubernetes.io/region"));
    // So that it goes with its tag. The zone stays without one, and what begins like a tag is told by that.
    assert_eq!(
        view.annotations["outrigger.io/set-by-tags"],
        "node.kubernetes.io/instance-type"
    );
    assert_eq!(view.owned.unwrap().list, "outrigger.io/set-by-tags");
}

#[test]
fn past_its_deadline_all_is_unknown_since_its_last_word() {
    let mut device = device("press-7");
    (device.online, device.connected) = (false, false);
    let view = plain().view(&device, &HubWord::Answers, None);
    assert!(!view.lives, "the lease is not renewed");
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let condition = condition(&view, kind);
        assert_eq!(condition.status, ConditionStatus::Unknown, "{kind}");
        assert_eq!(condition.known_at, last_word(&device));
        assert!(
            condition.message.contains("2027-01-15T08:00:00Z"),
            "{}",
            condition.message
        );
    }
    assert_eq!(condition(&view, CONNECTED).status, ConditionStatus::False);
}

#[test]
fn while_only_the_hub_is_away_the_node_stays_ready_and_takes_nothing_new() {
    let hub = HubWord::Silent {
        message: "no answer".into(),
    };
    let view = plain().view(&device("press-7"), &hub, None);
    assert_eq!(condition(&view, "Ready").status, ConditionStatus::True);
    assert_eq!(
        condition(&view, "outrigger.io/HubReachable").status,
        ConditionStatus::False
    );
    assert!(view.lives && !view.takes_new);
}

#[test]
fn what_the_device_lacks_is_a_condition_in_the_kubelets_words() {
    let mut pressed = device("press-7");
    pressed.facts.pressures.disk = true;
    let view = plain().view(&pressed, &HubWord::Answers, None);
    let disk = condition(&view, "DiskPressure");
    assert_eq!(
        (disk.status, disk.reason),
        (ConditionStatus::True, "KubeletHasDiskPressure")
    );
    assert_eq!(condition(&view, "MemoryPressure").status, ConditionStatus::False);
}

#[test]
fn its_address_is_shown_only_where_it_can_be_reached() {
    let mut device = device("press-7");
    device.facts.addresses = vec!["10.127.0.9".into(), "fd00::9".into()];
    let kinds = |spec: &DeviceSpec| -> Vec<&'static str> {
        let view = spec.view(&device, &HubWord::Answers, None);
        view.addresses.iter().map(|address| address.kind).collect()
    };
    assert_eq!(kinds(&plain()), ["Hostname"]);
    let near = spec(json!({"condition": "tags.node = 'true'", "routable": ["10.127.0.0/16"]}));
    assert_eq!(kinds(&near), ["InternalIP", "Hostname"]);
    let routable = ["10.127.0.0/16", "fd00::/8"];
    let both = spec(json!({"condition": "tags.node = 'true'", "routable": routable}));
    assert_eq!(kinds(&both), ["InternalIP", "InternalIP", "Hostname"]);
}
