//! What is refused beyond single fields, and that everything is named at once.

use edge_provider_translate::{Context, NodeKind, Untranslated, translate};
use serde_json::{Value, json};

use crate::pods;
use crate::schema::plant;

/// A change of the fixture and the paths it must be refused for; none means that it passes.
#[track_caller]
fn check(name: &str, change: impl FnOnce(&mut Value), expect: &[&str]) {
    let mut pod = pods::read(name);
    change(&mut pod);
    assert_eq!(pods::refused(&pod), expect);
}

#[test]
fn all_paths_are_named_at_once_in_order_with_their_real_indices() {
    let change = |pod: &mut Value| {
        let spec = &mut pod["spec"];
        spec["hostUsers"] = json!(false);
        spec["initContainers"] = json!([{ "name": "i", "image": "i", "livenessProbe": {} }]);
        spec["futureField"] = json!(1);
        let volumes = spec["volumes"].as_array_mut().unwrap();
        volumes.push(json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }));
        volumes.push(json!({ "name": "host", "hostPath": { "path": "/", "type": "Door" } }));
        volumes.push(json!({ "name": "net", "nfs": { "server": "s" } }));
        let side = &mut spec["containers"][1];
        side["livenessProbe"] = json!({ "httpGet": { "port": "web" } });
        side["volumeMounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "name": "nowhere", "mountPath": "/data" }));
        side["env"] =
            json!([{ "name": "A", "value": "a" }, { "name": "B", "valueFrom": { "fieldRef": {} } }]);
        side["resources"]["limits"] = json!({ "nvidia.com/gpu": "1", "cpu": "-1" });
        side["ports"] = json!([{ "containerPort": 0 }, { "containerPort": 70000, "protocol": "ICMP" }]);
        pod["metadata"]["annotations"]["outrigger.io/ready-policy"] = json!("most");
        pod["metadata"]["annotations"]["outrigger.io/update"] = json!("later");
    };
    check(
        "everything",
        change,
        &[
            "metadata.annotations[outrigger.io/ready-policy]",
            "metadata.annotations[outrigger.io/update]",
            "spec.containers[1].env[1].valueFrom.fieldRef.fieldPath",
            "spec.containers[1].livenessProbe.httpGet.port",
            "spec.containers[1].ports[0].containerPort",
            "spec.containers[1].ports[1].containerPort",
            "spec.containers[1].ports[1].protocol",
            "spec.containers[1].resources.limits[cpu]",
            "spec.containers[1].resources.limits[nvidia.com/gpu]",
            "spec.containers[1].volumeMounts[1]",
            "spec.futureField",
            "spec.hostUsers",
            "spec.initContainers[0].livenessProbe",
            "spec.volumes[1].persistentVolumeClaim.claimName",
            "spec.volumes[2].hostPath.type",
            "spec.volumes[3].nfs",
        ],
    );
}

/// On a fleet only that which is left out, with its mounts, passes with a token in it.
#[test]
fn of_tokens_a_fleet_passes_over_those_that_admission_adds() {
    let mounted = "spec.containers[0].volumeMounts[0]";
    let token = "spec.volumes[0].projected.sources[0].serviceAccountToken";
    let [audience, expiry, path] =
        ["audience", "expirationSeconds", "path"].map(|field| format!("{token}.{field}"));
    check("deployment", |_| {}, &[]);
    check(
        "deployment",
        |pod| pod["spec"]["volumes"][0]["name"] = json!("mine"),
        &[mounted, &expiry, &path],
    );
    check(
        "deployment",
        |pod| {
            pod["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["audience"] =
                json!("vault");
        },
        &[&audience, &expiry, &path],
    );
    check(
        "deployment",
        |pod| pod["spec"]["volumes"][0]["projected"]["defaultMode"] = json!(0o600),
        &[&expiry, &path],
    );
    let mount = |field: &'static str, value: Value| {
        move |pod: &mut Value| pod["spec"]["containers"][0]["volumeMounts"][0][field] = value
    };
    check("deployment", mount("mountPath", json!("/token")), &[mounted]);
    check("deployment", mount("readOnly", json!(false)), &[mounted]);
    check("deployment", mount("subPath", json!("token")), &[mounted]);
    check("deployment", mount("name", json!("other")), &[mounted]);
}

#[test]
fn asking_for_the_token_is_refused_and_declining_is_not() {
    let annotate = |value: &'static str| {
        move |pod: &mut Value| {
            pod["metadata"]["annotations"]["outrigger.io/service-account-token"] = json!(value);
        }
    };
    let path = "metadata.annotations[outrigger.io/service-account-token]";
    check("everything", annotate("true"), &[path]);
    check("everything", annotate(""), &[path]);
    check("everything", annotate("false"), &[]);
}

#[test]
fn a_pod_of_a_stateful_set_is_refused_and_of_others_is_not() {
    let owned = |kind: &'static str, version: &'static str| {
        move |pod: &mut Value| {
            let owner = json!({ "kind": "Other", "apiVersion": "v1", "name": "o", "uid": "u" });
            let controller = json!({ "kind": kind, "apiVersion": version, "name": "c", "uid": "v" });
            pod["metadata"]["ownerReferences"] = json!([owner, controller]);
        }
    };
    check(
        "deployment",
        owned("StatefulSet", "apps/v1"),
        &["metadata.ownerReferences[1]"],
    );
    check("deployment", owned("StatefulSet", "example.com/v1"), &[]);
    check("deployment", owned("DaemonSet", "apps/v1"), &[]);
}

#[test]
fn a_resize_in_place_is_refused_and_another_spelling_is_none() {
    let held = pods::translate(&pods::read("everything")).unwrap().manifest;
    let resized = |cpu: &str| {
        let mut pod = pods::read("everything");
        pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!(cpu);
        let context = Context {
            held: Some(&held),
            ..Context::default()
        };
        match translate(&pod, context) {
            Err(Untranslated::Refused(all)) => all.paths().map(str::to_owned).collect::<Vec<_>>(),
            _ => Vec::new(),
        }
    };
    assert_eq!(resized("1.5"), [""; 0]);
    assert_eq!(resized("2"), ["spec.containers[0].resources"]);
}

#[test]
fn what_is_no_pod_is_refused_without_a_panic() {
    for value in [
        json!(null),
        json!(7),
        json!([]),
        json!({}),
        json!({ "metadata": [], "spec": 1 }),
    ] {
        assert!(!pods::refused(&value).is_empty(), "{value}");
    }
    check(
        "guaranteed",
        |pod| pod["spec"]["containers"] = json!([]),
        &["spec.containers"],
    );
    check(
        "guaranteed",
        |pod| pod["spec"]["containers"] = json!({}),
        &["spec", "spec.containers"],
    );
    check(
        "guaranteed",
        |pod| pod["metadata"]["uid"] = json!("../x"),
        &["metadata.uid"],
    );
    check(
        "guaranteed",
        |pod| pod["spec"]["containers"][0]["image"] = json!(""),
        &["spec.containers[0].image"],
    );
}

proptest::proptest! {
    #[test]
    fn any_value_in_any_place_is_translated_or_refused(
        place in 0_usize..400,
        text in ".{0,12}",
        kind in 0_u8..6,
        (node, name) in proptest::sample::select(vec![
            (NodeKind::Fleet, "everything"),
            (NodeKind::Device, "device/environment"),
            (NodeKind::Device, "device/lifecycle"),
            (NodeKind::Device, "device/security"),
            (NodeKind::Device, "device/volumes"),
        ]),
    ) {
        let value = match kind {
            0 => json!(text),
            1 => json!([text]),
            2 => json!({ text: 1 }),
            3 => json!(i64::MIN),
            4 => json!(1.5),
            _ => json!(true),
        };
        let mut pod = pods::read(name);
        let mut pointers = Vec::new();
        collect(&pod, String::new(), &mut pointers);
        let pointer = &pointers[place % pointers.len()];
        *pod.pointer_mut(pointer).unwrap() = value;
        if let Err(refusals) = pods::translate_on(node, &pod) {
            proptest::prop_assert!(refusals.iter().len() > 0);
            proptest::prop_assert!(!refusals.to_string().chars().any(char::is_control));
        }
    }
}

fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            collect(
                value,
                format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                pointers,
            );
        }),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| collect(value, format!("{at}/{index}"), pointers));
        }
        _ => {}
    }
    pointers.push(at);
}

/// The classes themselves are a decision; this pins the part of it that is about safety, whatever the tables say.
#[test]
fn what_no_device_could_honour_is_refused_on_both_kinds() {
    for (path, value) in [
        ("hostUsers", json!(false)),
        ("runtimeClassName", json!("kata")),
        ("resourceClaims", json!([{ "name": "gpu" }])),
        ("securityContext.seLinuxOptions", json!({ "level": "s0" })),
        ("securityContext.windowsOptions", json!({ "hostProcess": true })),
        ("os.name", json!("windows")),
        ("volumes[].csi", json!({ "driver": "d" })),
        ("volumes[].nfs", json!({ "server": "s" })),
        ("volumes[].ephemeral", json!({ "volumeClaimTemplate": {} })),
        (
            "volumes[].projected.sources[].clusterTrustBundle",
            json!({ "path": "p" }),
        ),
        (
            "volumes[].projected.sources[].podCertificate",
            json!({ "keyType": "k" }),
        ),
        ("containers[].resources.limits.hugepages-2Mi", json!("2Mi")),
        ("containers[].resources.limits.nvidia.com/gpu", json!("1")),
        (
            "containers[].volumeDevices",
            json!([{ "name": "v", "devicePath": "/dev/v" }]),
        ),
        (
            "containers[].env[].valueFrom.fileKeyRef",
            json!({ "volumeName": "v", "path": "p", "key": "k" }),
        ),
    ] {
        for kind in pods::KINDS {
            let mut pod = pods::read("guaranteed");
            let name = if path.contains('/') {
                pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = value.clone();
                "spec.containers[0].resources.limits[nvidia.com/gpu]".to_owned()
            } else {
                plant(&mut pod["spec"], path, value.clone())
            };
            assert_eq!(pods::refused_on(kind, &pod), [name], "{kind:?} {path}");
        }
    }
}

/// The other side of it: what the API server, stock admission and a pod's placement bring along must not stand in the way.
#[test]
fn what_only_concerns_the_cluster_passes() {
    for (path, value) in [
        ("enableServiceLinks", json!(true)),
        ("enableServiceLinks", json!(false)),
        ("automountServiceAccountToken", json!(true)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("nodeSelector", json!({ "type": "virtual-kubelet" })),
        ("affinity", json!({ "nodeAffinity": {} })),
        ("topologySpreadConstraints", json!([{ "maxSkew": 1 }])),
        ("schedulerName", json!("mine")),
        ("priorityClassName", json!("system-node-critical")),
        ("priority", json!(2_000_001_000)),
        ("preemptionPolicy", json!("Never")),
        ("securityContext", json!({})),
        ("containers[].securityContext", json!({})),
        ("containers[].securityContext.capabilities", json!({})),
        ("containers[].lifecycle", json!({})),
        (
            "containers[].terminationMessagePath",
            json!("/dev/termination-log"),
        ),
    ] {
        let plain = pods::read("guaranteed");
        let mut pod = plain.clone();
        plant(&mut pod["spec"], path, value);
        assert_eq!(pods::document(&pod), pods::document(&plain), "{path}");
    }
}
