//! What the goldens do not show of each head of a pod, and what keeps a pod from being translated.

use edge_protocol::v1::object::kind;
use edge_protocol::v1::{DnsPolicy, Manifest, PodField, QosClass, ValueFrom};
use edge_provider_translate::{
    Claim, Context, Found, NodeKind, ObjectKey, Objects, Untranslated, references, translate,
};
use serde_json::{Value, json};

use crate::pods::{self, objects, refused_on};

/// A pod for a device node with more in its spec.
fn device_pod(more: Value) -> Value {
    let mut pod = pods::read("device/plain");
    let Value::Object(more) = more else {
        panic!("fields of a spec, not {more}");
    };
    pod["spec"].as_object_mut().unwrap().extend(more);
    pod
}

#[track_caller]
fn manifest(pod: &Value) -> Manifest {
    pods::translate_on(NodeKind::Device, pod).unwrap().manifest
}

fn refused(pod: &Value) -> Vec<String> {
    refused_on(NodeKind::Device, pod)
}

fn with_objects(pod: &Value, objects: &Objects) -> Result<Manifest, Untranslated> {
    let context = Context {
        kind: NodeKind::Device,
        objects,
        ..Context::default()
    };
    translate(pod, context).map(|translated| translated.manifest)
}

fn waits(pod: &Value, objects: &Objects) -> (String, &'static str) {
    match with_objects(pod, objects) {
        Err(Untranslated::NotYet(waits)) => (waits.to_string(), waits.reason()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn parameters_of_the_kernel_are_written_with_dots() {
    let name = |given: &str| {
        let sysctls = json!({"sysctls": [{"name": given, "value": "1"}]});
        let manifest = manifest(&device_pod(json!({"securityContext": sysctls})));
        let mut names = manifest.workload.security.sysctls.into_keys();
        names.next().unwrap()
    };
    assert_eq!(
        name("net/ipv4/conf/eno2.100/rp_filter"),
        "net.ipv4.conf.eno2/100.rp_filter"
    );
    assert_eq!(
        name("net.ipv4.conf.eno2/100.rp_filter"),
        "net.ipv4.conf.eno2/100.rp_filter"
    );
    assert_eq!(name("kernel/msgmax"), "kernel.msgmax");
}

#[test]
fn what_was_not_looked_for_and_what_is_not_bound_is_waited_for() {
    let pod = pods::read("device/volumes");
    let mut known = objects(&pod, NodeKind::Device);
    assert!(with_objects(&pod, &known).is_ok());
    known.found.remove(&ObjectKey::new(kind::SECRET, "db"));
    assert_eq!(
        waits(&pod, &known),
        ("Secret db: not read yet".to_owned(), "ObjectsNotRead")
    );
    let unbound = Claim::NotYet("the claim is not bound".to_owned());
    known.claims.insert("data-web-0".to_owned(), unbound);
    assert_eq!(
        waits(&pod, &known),
        (
            "PersistentVolumeClaim data-web-0: the claim is not bound; Secret db: not read yet".to_owned(),
            "ClaimNotBound"
        )
    );
    known.claims.clear();
    assert!(
        waits(&pod, &known)
            .0
            .starts_with("PersistentVolumeClaim data-web-0: not looked for yet")
    );

    let mut never = pod.clone();
    never["spec"]["hostUsers"] = json!(false);
    assert!(matches!(
        with_objects(&never, Objects::NONE),
        Err(Untranslated::Refused(_))
    ));
}

#[test]
fn a_claim_on_what_no_device_has_is_refused() {
    let pod = pods::read("device/volumes");
    let mut known = objects(&pod, NodeKind::Device);
    let unsupported = Claim::Unsupported("a claim on a block device".to_owned());
    known.claims.insert("data-web-0".to_owned(), unsupported);
    match with_objects(&pod, &known) {
        Err(Untranslated::Refused(refusals)) => assert_eq!(
            refusals.to_string(),
            "spec.volumes[8].persistentVolumeClaim: a claim on a block device"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_cluster_does_not_have_is_left_out() {
    let pod = device_pod(json!({ "volumes": [], "containers": [{
        "name": "c", "image": "i:1", "args": ["$(WEB_SERVICE_HOST)"],
        "envFrom": [{ "configMapRef": { "name": "settings", "optional": true } }],
    }] }));
    let mut known = objects(&pod, NodeKind::Device);
    for found in known.found.values_mut() {
        *found = Found::Missing;
    }
    let made = with_objects(&pod, &known).unwrap();
    assert_eq!(made.objects, []);
    assert!(
        made.requires.contains(&"env-sources".to_owned()),
        "{:?}",
        made.requires
    );
    assert!(made.workload.containers[0].env_from[0].optional);

    // Variables of services alone, which are not there: the device expands all the same, for it may have them later.
    let mut pod = pod;
    pod["spec"]["containers"][0]["envFrom"] = json!([]);
    let made = with_objects(&pod, &known).unwrap();
    assert!(made.workload.containers[0].expand);
    assert_eq!(made.requires, ["env-sources", "names", "termination-message"]);
}

#[test]
fn a_fleet_pod_that_says_nothing_special_requires_nothing() {
    for name in ["deployment", "everything", "guaranteed", "job"] {
        let made = pods::translate(&pods::read(name)).unwrap().manifest;
        assert_eq!(made.requires, [""; 0], "{name}");
        assert_eq!(made.objects, [], "{name}");
    }
}

#[test]
fn fields_stand_where_the_downward_api_has_them() {
    let variable = |path: &str| {
        device_pod(
            json!({ "volumes": [], "containers": [{ "name": "c", "image": "i:1", "env": [
            { "name": "A", "valueFrom": { "fieldRef": { "fieldPath": path } } },
        ] }] }),
        )
    };
    let file = |path: &str| {
        device_pod(
            json!({ "containers": [{ "name": "c", "image": "i:1" }], "volumes": [
            { "name": "v", "downwardAPI": { "items": [{ "path": "p", "fieldRef": { "fieldPath": path } }] } },
        ] }),
        )
    };
    let variable_path = "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath";
    let file_path = "spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath";
    for (path, as_variable, as_file) in [
        ("metadata.name", true, true),
        ("metadata.labels['a/b']", true, true),
        ("metadata.annotations['x']", true, true),
        ("metadata.labels", false, true),
        ("metadata.annotations", false, true),
        ("status.podIP", true, false),
        ("status.hostIPs", true, false),
        ("spec.nodeName", true, false),
        ("spec.serviceAccountName", true, false),
        ("spec.schedulerName", false, false),
        ("metadata.labels['x", false, false),
        ("status.phase", false, false),
    ] {
        let expect = |fits: bool, path: &str| if fits { Vec::new() } else { vec![path.to_owned()] };
        assert_eq!(
            refused(&variable(path)),
            expect(as_variable, variable_path),
            "{path}"
        );
        assert_eq!(refused(&file(path)), expect(as_file, file_path), "{path}");
    }
    let made = manifest(&variable("metadata.labels['a/b']"));
    let field = PodField::Label("a/b".to_owned());
    assert_eq!(
        made.workload.containers[0].env[0].from,
        Some(ValueFrom::Field { field })
    );
}

#[test]
fn a_divisor_is_in_thousandths_and_never_zero() {
    let divisor = |resource: &str, divisor: Value| {
        let selector = json!({ "resource": resource, "divisor": divisor });
        let made = manifest(&device_pod(
            json!({ "volumes": [], "containers": [{ "name": "c", "image": "i:1", "env": [
            { "name": "A", "valueFrom": { "resourceFieldRef": selector } },
        ] }] }),
        ));
        match &made.workload.containers[0].env[0].from {
            Some(ValueFrom::Resource(field)) => field.divisor_milli,
            other => panic!("{other:?}"),
        }
    };
    for (resource, text, expect) in [
        ("limits.cpu", json!("0"), 1000),
        ("limits.cpu", json!(null), 1000),
        ("limits.cpu", json!("1m"), 1),
        ("requests.memory", json!("1Ki"), 1_024_000),
        ("requests.memory", json!("1m"), 1000),
        ("limits.ephemeral-storage", json!("1E"), u64::MAX),
    ] {
        assert_eq!(divisor(resource, text.clone()), expect, "{resource} {text}");
    }
}

#[test]
fn names_are_a_kubelets() {
    let made = |more: Value| {
        let workload = manifest(&device_pod(more)).workload;
        (workload.hostname, workload.names.fqdn, workload.names.dns.policy)
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        made(json!({})),
        ("plain".to_owned(), None, DnsPolicy::ClusterFirst)
    );
    assert_eq!(
        made(json!({ "subdomain": "s" })),
        (
            "plain".to_owned(),
            text("plain.s.shop.svc.cluster.local"),
            DnsPolicy::ClusterFirst
        )
    );
    assert_eq!(
        made(json!({ "hostnameOverride": "over.example", "subdomain": "s", "hostname": "h" })),
        ("over.example".to_owned(), None, DnsPolicy::ClusterFirst)
    );
    let policy = |policy: &str| made(json!({ "hostNetwork": true, "dnsPolicy": policy })).2;
    assert_eq!(policy("ClusterFirst"), DnsPolicy::Default);
    assert_eq!(policy("ClusterFirstWithHostNet"), DnsPolicy::ClusterFirst);
    let long = json!({ "hostname": "h".repeat(40), "subdomain": "s", "setHostnameAsFQDN": true });
    assert_eq!(refused(&device_pod(long)), ["spec.setHostnameAsFQDN"]);
}

#[test]
fn initial_containers_count_for_the_class() {
    let limits =
        json!({ "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "1", "memory": "1Gi" } });
    let made = |init: Value| {
        let container = json!({ "name": "c", "image": "i:1", "resources": limits });
        let init = json!([{ "name": "i", "image": "i:1", "resources": init }]);
        manifest(&device_pod(
            json!({ "volumes": [], "containers": [container], "initContainers": init }),
        ))
        .workload
        .qos
    };
    assert_eq!(made(limits.clone()), QosClass::Guaranteed);
    assert_eq!(made(json!({})), QosClass::Burstable);
}

#[test]
fn what_is_added_to_a_pod_changes_nothing_else_of_it() {
    let pod = pods::read("device/ephemeral");
    let mut before = pod.clone();
    before["spec"]
        .as_object_mut()
        .unwrap()
        .remove("ephemeralContainers");
    let (mut made, before) = (manifest(&pod), manifest(&before));
    let added = std::mem::take(&mut made.workload.ephemeral_containers);
    let targets: Vec<_> = added.iter().map(|one| one.target.as_deref()).collect();
    assert_eq!(targets, [Some("app"), None]);
    assert_eq!(made.workload, before.workload);
    made.requires.retain(|word| !before.requires.contains(word));
    assert_eq!(made.requires, ["ephemeral-containers", "security", "terminal"]);
    made.objects.retain(|object| !before.objects.contains(object));
    let objects: Vec<_> = made.objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(objects, ["login"]);
}

#[test]
fn what_does_not_fit_together_is_named() {
    for (spec, expect) in [
        (
            json!({ "containers": [
                { "name": "a", "image": "i:1", "ports": [{ "name": "web", "containerPort": 80 }] },
                { "name": "b", "image": "i:1", "readinessProbe": { "tcpSocket": { "port": "web" } } },
            ] }),
            "spec.containers[1].readinessProbe.tcpSocket.port",
        ),
        (
            json!({ "securityContext": { "seccompProfile": { "type": "Localhost" } } }),
            "spec.securityContext.seccompProfile.localhostProfile",
        ),
        (
            json!({ "securityContext": { "supplementalGroups": [1, -1] } }),
            "spec.securityContext.supplementalGroups[1]",
        ),
        (
            json!({ "volumes": [{ "name": "v", "configMap": { "name": "m", "items": [{ "key": "k", "path": "a/../b" }] } }] }),
            "spec.volumes[0].configMap.items[0].path",
        ),
        (
            json!({ "volumes": [{ "name": "v", "secret": { "secretName": "s", "defaultMode": 512 } }] }),
            "spec.volumes[0].secret.defaultMode",
        ),
        (
            json!({ "volumes": [{ "name": "v", "emptyDir": { "medium": "HugePages" } }] }),
            "spec.volumes[0].emptyDir.medium",
        ),
        (
            json!({ "activeDeadlineSeconds": -1 }),
            "spec.activeDeadlineSeconds",
        ),
    ] {
        let mut pod = device_pod(json!({ "volumes": [], "containers": [{ "name": "c", "image": "i:1" }] }));
        let spec = spec.as_object().unwrap().clone();
        pod["spec"].as_object_mut().unwrap().extend(spec);
        assert_eq!(refused(&pod), [expect]);
    }
}

#[test]
fn every_token_of_the_manifest_was_asked_for() {
    let pod = pods::read("device/volumes");
    let asked = references(&pod["spec"], NodeKind::Device).tokens;
    let made = manifest(&pod);
    let given: Vec<_> = made
        .objects
        .iter()
        .filter(|object| object.kind == kind::TOKEN)
        .map(|object| &object.name)
        .collect();
    assert_eq!(given, asked.keys().collect::<Vec<_>>());
    let document = pods::document_on(NodeKind::Device, &pod);
    assert!(
        asked
            .keys()
            .all(|name| document.contains(&format!("\"object\":\"{name}\""))),
        "{document}"
    );
}
