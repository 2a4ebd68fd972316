//! Which pods are wanted as what, and which are refused by which name.

use std::collections::BTreeMap;

use edge_protocol::v1::object;
use edge_provider_translate::objects::SERVICES;
use edge_provider_translate::{Found, ObjectKey};
use serde_json::json;
use virtual_kubelet::PodOwner;
use virtual_kubelet::core::{NamespaceEntry, Rights, Selector};

use super::*;

fn pod(annotations: &Value, spec: &Value) -> ObservedPod {
    ObservedPod {
        uid: "u1".into(),
        namespace: "shop".into(),
        name: "web".into(),
        raw: json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "annotations": annotations},
            "spec": spec,
        }),
        owner: None,
        namespace_labels: BTreeMap::from([("team".to_owned(), "press".to_owned())]),
        driven_away: false,
    }
}

fn spec() -> Value {
    json!({"containers": [{"name": "main", "image": "shop/web:1"}], "nodeName": "outrigger"})
}

fn map() -> Placing {
    fleet(NamespaceMap(vec![NamespaceEntry {
        selector: Selector {
            match_labels: BTreeMap::from([("team".to_owned(), "press".to_owned())]),
        },
        scope: "tags.hall = '7'".into(),
        default_condition: Some("*".into()),
        rights: Rights::default(),
    }]))
}

/// No reference is looked for, and there are no services.
fn nothing() -> Gathered {
    let mut gathered = Gathered::default();
    let services = ObjectKey::new(object::kind::SERVICES, SERVICES);
    gathered.objects.found.insert(services, Found::Missing);
    gathered
}

fn fleet(namespaces: NamespaceMap) -> Placing {
    Placing {
        namespaces,
        to: To::Fleet(None),
        cluster_domain: "plant.example".into(),
    }
}

#[track_caller]
fn refused(observed: &ObservedPod, map: &Placing, reason: &str, words: &[&str]) {
    let refusal = wanted(observed, map, None, || Ok(()), nothing)
        .unwrap()
        .pod
        .plan
        .unwrap_err();
    assert_eq!(refusal.reason, reason, "{refusal:?}");
    for word in words {
        assert!(refusal.message.contains(word), "{word} in {refusal:?}");
    }
}

#[test]
fn a_plain_pod_goes_where_its_namespace_may() {
    let wanted = wanted(&pod(&json!({}), &spec()), &map(), None, || Ok(()), nothing).unwrap();
    let plan = wanted.pod.plan.unwrap();
    assert_eq!(plan.target.condition, "*");
    assert_eq!(plan.target.scope, "tags.hall = '7'");
    assert_eq!(plan.manifest.workload.containers.len(), 1);
    assert_eq!(wanted.pod.disconnect, Disconnect::Run);
}

#[test]
fn the_annotation_narrows_and_the_scope_stays() {
    let annotations = json!({TARGET_CONDITION: "deviceId = 'a'", DISCONNECT_ANNOTATION: "replace"});
    let wanted = wanted(&pod(&annotations, &spec()), &map(), None, || Ok(()), nothing).unwrap();
    let plan = wanted.pod.plan.unwrap();
    assert_eq!(plan.target.condition, "deviceId = 'a'");
    assert_eq!(plan.target.scope, "tags.hall = '7'");
    assert_eq!(wanted.pod.disconnect, Disconnect::Replace);
}

#[test]
fn every_refusal_has_its_name() {
    let nowhere = fleet(NamespaceMap::default());
    refused(
        &pod(&json!({}), &spec()),
        &nowhere,
        "TargetNotAllowed",
        &["namespace map"],
    );

    let mut without_default = map();
    without_default.namespaces.0[0].default_condition = None;
    refused(
        &pod(&json!({}), &spec()),
        &without_default,
        "NoTarget",
        &[TARGET_CONDITION],
    );

    let mut everything = spec();
    everything["tolerations"] = json!([{"operator": "Exists"}]);
    refused(&pod(&json!({}), &everything), &map(), TAINT_NOT_ACKNOWLEDGED, &[]);
}

#[test]
fn power_over_a_device_takes_a_right_of_the_namespace() {
    let power = |context: Value| {
        let mut wants = spec();
        wants["containers"][0]["securityContext"] = context;
        pod(&json!({}), &wants)
    };
    let words = ["the namespace may not use privileged"];
    for context in [
        json!({"privileged": true}),
        json!({"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}}),
        json!({"capabilities": {"add": ["ALL"]}}),
    ] {
        refused(&power(context.clone()), &map(), "TargetNotAllowed", &words);
        let mut trusted = map();
        trusted.namespaces.0[0].rights.privileged = true;
        let plan = wanted(&power(context), &trusted, None, || Ok(()), nothing)
            .unwrap()
            .pod
            .plan;
        assert!(plan.is_ok(), "{plan:?}");
    }
    let ordinary = json!({"capabilities": {"add": ["CAP_CHOWN", "NET_BIND_SERVICE"], "drop": ["ALL"]}});
    let plan = wanted(&power(ordinary), &map(), None, || Ok(()), nothing)
        .unwrap()
        .pod
        .plan;
    assert!(plan.is_ok(), "{plan:?}");
}

#[test]
fn all_unsupported_paths_are_named_at_once() {
    let mut odd = spec();
    odd["runtimeClassName"] = json!("x");
    odd["hostUsers"] = json!(false);
    odd["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    odd["containers"][0]["livenessProbe"] = json!({"grpc": {"port": 80, "mode": "TLS"}});
    let annotations =
        json!({"outrigger.io/priority": "7", DISCONNECT_ANNOTATION: "stop-after=soon", "theirs": "x"});
    refused(
        &pod(&annotations, &odd),
        &map(),
        "UnsupportedField",
        &[
            "outrigger.io/priority",
            DISCONNECT_ANNOTATION,
            "spec.hostUsers",
            "spec.volumes[0].persistentVolumeClaim",
            "spec.runtimeClassName",
            "spec.containers[0].livenessProbe.grpc.mode",
        ],
    );
}

#[test]
fn an_author_may_bound_an_orphans_life() {
    let annotations = json!({DISCONNECT_ANNOTATION: "stop-after=1h30m"});
    let wanted = wanted(&pod(&annotations, &spec()), &map(), None, || Ok(()), nothing).unwrap();
    assert!(wanted.pod.plan.is_ok());
    assert_eq!(wanted.pod.disconnect, Disconnect::StopAfter { ms: 5_400_000 });
}

/// `[device_nodes]` with this condition.
fn device_nodes(in_fleet: bool) -> Arc<DeviceNodes> {
    let options = json!({"condition": "tags.node = 'true'", "in_fleet": in_fleet});
    let options: crate::device_nodes::DeviceNodesOptions = serde_json::from_value(options).unwrap();
    Arc::new(options.parsed().unwrap())
}

#[test]
fn a_pod_of_a_devices_node_is_for_that_device_within_its_namespaces_scope() {
    let placing = Placing {
        to: To::Device("press-7".into(), Amounts::default()),
        ..map()
    };
    let plan = wanted(&pod(&json!({}), &spec()), &placing, None, || Ok(()), nothing)
        .unwrap()
        .pod
        .plan
        .unwrap();
    assert_eq!(plan.target.condition, "deviceId = 'press-7'");
    assert_eq!(plan.target.scope, "tags.hall = '7'");
    assert_eq!(plan.manifest.workload.reserved, Some(Amounts::default()));
    let annotations = json!({TARGET_CONDITION: "*", POD_IP: "10.0.0.7"});
    let words = [TARGET_CONDITION, "is for that device"];
    refused(&pod(&annotations, &spec()), &placing, "UnsupportedField", &words);
}

/// A person named the Node; nobody names one of those of a fleet, and a controller is no person.
#[test]
fn a_pod_that_looks_into_a_devices_node_need_not_name_the_taint() {
    let device = Placing {
        to: To::Device("press-7".into(), Amounts::default()),
        ..map()
    };
    let mut everything = spec();
    everything["tolerations"] = json!([{"operator": "Exists"}]);
    let mut debugger = pod(&json!({}), &everything);
    refused(&debugger, &device, TAINT_NOT_ACKNOWLEDGED, &[]);
    debugger.raw["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "kubectl-debug"});
    let taken = wanted(&debugger, &device, None, || Ok(()), nothing).unwrap();
    assert!(taken.pod.plan.is_ok());
    refused(&debugger, &map(), TAINT_NOT_ACKNOWLEDGED, &[]);
    debugger.raw["spec"]["hostPID"] = json!(true);
    refused(&debugger, &device, "TargetNotAllowed", &["host namespaces"]);
    debugger.owner = Some(PodOwner {
        kind: "DaemonSet".into(),
        name: "net".into(),
        uid: "o".into(),
    });
    refused(&debugger, &device, TAINT_NOT_ACKNOWLEDGED, &[]);
}

#[test]
fn a_pod_has_its_name_in_the_clusters_domain() {
    let mut spec = spec();
    spec["subdomain"] = json!("web");
    let wanted = wanted(&pod(&json!({}), &spec), &map(), None, || Ok(()), nothing).unwrap();
    let names = wanted.pod.plan.unwrap().manifest.workload.names;
    assert!(
        names.fqdn.as_ref().unwrap().ends_with(".svc.plant.example"),
        "{names:?}"
    );
}

#[test]
fn fleet_pods_leave_devices_alone_that_are_nodes_of_their_own() {
    let scope = |in_fleet| {
        let placing = Placing {
            to: To::Fleet(Some(device_nodes(in_fleet))),
            ..map()
        };
        let wanted = wanted(&pod(&json!({}), &spec()), &placing, None, || Ok(()), nothing).unwrap();
        wanted.pod.plan.unwrap().target.scope
    };
    assert_eq!(scope(false), "(tags.hall = '7') AND NOT (tags.node = 'true')");
    assert_eq!(scope(true), "tags.hall = '7'");
}

#[test]
fn a_pod_that_may_not_be_on_its_node_is_refused_before_its_objects_are_read() {
    let rejected = || {
        Err(PodRefusal {
            reason: "NodeAffinity",
            message: "no".into(),
        })
    };
    let unread = || unreachable!("nothing is read for it");
    let wanted = wanted(&pod(&json!({}), &spec()), &map(), None, rejected, unread).unwrap();
    assert_eq!(wanted.pod.plan.unwrap_err().reason, "NodeAffinity");
}
