//! Which devices are Nodes, and what of them pods may use.

use serde_json::json;

use super::*;
use crate::device_view::tests::device;

fn nodes(options: &serde_json::Value) -> DeviceNodes {
    let options: DeviceNodesOptions = serde_json::from_value(options.clone()).unwrap();
    options.validate().unwrap();
    options.parsed().unwrap()
}

#[test]
fn a_device_is_a_node_by_what_the_hub_knows_and_not_by_its_claims() {
    let by_tag = nodes(&json!({"condition": "tags.node = 'true'"}));
    let mut press = device("press-7");
    assert!(by_tag.is_node(&press) && by_tag.is_outside_fleet(&press));
    press.tags.insert("node".into(), "false".into());
    assert!(!by_tag.is_node(&press));
    let by_claim = nodes(&json!({"condition": "facts.arch = 'arm64'"}));
    assert!(!by_claim.is_node(&device("press-7")), "a claim");
    let mut gone = device("press-7");
    gone.state = DeviceState::Decommissioned;
    assert!(!by_tag.is_node(&gone));
    let mut disabled = device("press-7");
    disabled.state = DeviceState::Disabled;
    assert!(by_tag.is_node(&disabled), "it keeps what it runs");
}

#[test]
fn fleet_scope_leaves_them_out_unless_the_configuration_says_so() {
    let apart = nodes(&json!({"condition": "tags.node = 'true' OR tags.node = 'yes'"}));
    assert_eq!(
        apart.fleet_scope("*"),
        "NOT (tags.node = 'true' OR tags.node = 'yes')"
    );
    let narrow = apart.fleet_scope("group = 'a' OR group = 'b'");
    assert_eq!(
        narrow,
        "(group = 'a' OR group = 'b') AND NOT (tags.node = 'true' OR tags.node = 'yes')"
    );
    assert!(narrow.parse::<Condition>().is_ok());
    let both = nodes(&json!({"condition": "tags.node = 'true'", "in_fleet": true}));
    assert_eq!(both.fleet_scope("*"), "*");
    assert!(!both.is_outside_fleet(&device("press-7")));
}

#[test]
fn only_an_address_in_a_declared_range_is_routable() {
    let none = nodes(&json!({"condition": "*"}));
    let some = nodes(&json!({"condition": "*", "routable": ["10.64.0.0/10", "fd00::/8"]}));
    for (address, routable) in [("10.65.0.9", true), ("10.0.0.9", false), ("fd00::9", true)] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(some.is_routable(address), routable, "{address}");
        assert!(!none.is_routable(address));
    }
}

#[test]
fn what_is_reserved_and_what_eviction_keeps_is_not_allocatable() {
    let reserved = Reserved {
        cpu_milli: 500,
        memory_mib: 156,
        ephemeral_storage_mib: 0,
    };
    let capacity = Capacity {
        cpu_milli: 4000,
        memory_bytes: 1 << 30,
        ephemeral_storage_bytes: Some(1000),
        pods: 110,
    };
    let allocatable = reserved.allocatable(capacity);
    assert_eq!(allocatable.cpu_milli, 3500);
    assert_eq!(allocatable.memory_bytes, (1024 - 256) << 20);
    assert_eq!(allocatable.ephemeral_storage_bytes, Some(900));
    let small = Capacity {
        memory_bytes: 1,
        ..capacity
    };
    assert_eq!(reserved.allocatable(small).memory_bytes, 0);
}

#[test]
fn a_wrong_option_is_named_by_its_key() {
    for (wrong, key) in [
        (json!({"condition": "tags."}), "device_nodes.condition"),
        (
            json!({"condition": "*", "labels": {"a b": "site"}}),
            "device_nodes.labels",
        ),
    ] {
        let options: DeviceNodesOptions = serde_json::from_value(wrong).unwrap();
        let error = format!("{:?}", options.validate().unwrap_err());
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn labels_are_told_from_what_cannot_be_one() {
    for good in [
        "a",
        "tag.outrigger.io/site",
        "topology.kubernetes.io/zone",
        "A_b.c-9",
    ] {
        assert!(is_label_key(good), "{good}");
    }
    for bad in [
        "",
        "/a",
        "x/",
        "a/b/c ",
        "-a",
        "Up.io/a b",
        "tag.outrigger.io/a/b c",
    ] {
        assert!(!is_label_key(bad), "{bad}");
    }
    assert!(
        is_label_value("") && is_label_value("hall-7") && !is_label_value("hall 7") && !is_label_value("7-")
    );
}
