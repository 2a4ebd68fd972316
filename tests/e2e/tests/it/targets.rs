//! Acceptance 2: which devices, now and later; and who may say so (law 12).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use site::{DeviceSpec, NamespaceRule};

use crate::support::{
    Instances, TestSite, TestSiteOptions, condition, deployment, eventually, is_ready, pod, server, uid,
};

const HALL_1: &str = "tags.site = 'hall-1'";

fn web() -> Value {
    server("web", &["http", "--port", "8080"])
}

/// Waits until the app runs on exactly these devices.
fn runs_on(site: &TestSite, app: &str, devices: &[&str]) -> Instances {
    eventually(&format!("{app} runs on {devices:?}"), || {
        let running = site.containers().of_app(app);
        running.are_on(devices, 1).map(|()| running)
    })
}

#[test]
fn workloads_follow_tags_and_late_devices() {
    let site = TestSite::start();
    site.apply(&deployment("hall", &[("target-condition", HALL_1)], &[web()]));
    let first = site.ready_pod("hall");
    let before = runs_on(&site, "hall", &["device-1", "device-2"]);

    site.outrigger(&["device", "tag", "device-2", "site=hall-2"]);
    site.outrigger(&["device", "tag", "device-3", "site=hall-1"]);
    let moved = runs_on(&site, "hall", &["device-1", "device-3"]);
    assert_eq!(
        moved.on("device-1"),
        before.on("device-1"),
        "who still matches is left alone"
    );

    for device in ["device-1", "device-3"] {
        site.outrigger(&["device", "tag", device, "site-"]);
    }
    runs_on(&site, "hall", &[]);
    let alone = eventually("the pod says that it has no device", || {
        let pod = site.pods("hall").remove(0);
        let (status, reason, _) = condition(&pod, "outrigger.io/Targeted");
        if (status, reason) == ("False", "NoDevicesTargeted") && !is_ready(&pod) {
            Ok(pod)
        } else {
            Err(pod["status"].to_string())
        }
    });
    assert_eq!(uid(&alone), uid(&first), "a pod without devices is the same pod");

    site.add_device(&DeviceSpec::new("device-4", &[("site", "hall-1")]))
        .unwrap();
    runs_on(&site, "hall", &["device-4"]);
    assert_eq!(uid(&site.ready_pod("hall")), uid(&first));
}

#[test]
fn a_pod_that_never_had_a_device_is_pending() {
    let site = TestSite::start();
    site.apply(&deployment(
        "nowhere",
        &[("target-condition", "tags.site = 'hall-9'")],
        &[web()],
    ));
    eventually("the pod is Pending for want of devices", || {
        let pods = site.pods("nowhere");
        let status = pods.first().map_or(&Value::Null, |pod| &pod["status"]);
        if status["phase"] == "Pending" && status["reason"] == "NoDevicesTargeted" {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    for (name, given, at) in [
        ("malformed", "tags.site = 'hall-1' AND", "character 25"),
        ("unknown", "weather = 'fine'", "character 1"),
    ] {
        site.apply(&pod(name, &[("target-condition", given)], &[web()]));
        let refused = eventually(&format!("{given:?} is refused"), || {
            let pod = site.pod(name).unwrap();
            let (status, reason, message) = condition(&pod, "outrigger.io/Targeted");
            if status == "False" && reason != "AwaitingHub" && !message.is_empty() {
                Ok(pod)
            } else {
                Err(pod["status"].to_string())
            }
        });
        let (_, reason, message) = condition(&refused, "outrigger.io/Targeted");
        assert_eq!(reason, "BadCondition", "{message}");
        assert!(message.contains(at), "where the error is: {message}");
        assert_eq!(refused["status"]["phase"], "Pending");
    }
    assert!(site.containers().is_empty());
}

/// `plant` may use hall 1 and names no default; no other namespace may use anything.
fn restricted() -> TestSite {
    let rule = NamespaceRule {
        selector: BTreeMap::from([("tier".to_owned(), "plant".to_owned())]),
        scope: HALL_1.to_owned(),
        default_condition: None,
        all_rights: false,
    };
    let site = TestSite::with(TestSiteOptions {
        namespaces: vec![rule],
        ..TestSiteOptions::default()
    });
    for (name, labels) in [
        ("plant", json!({"tier": "plant"})),
        ("outsiders", json!({"tier": "other"})),
    ] {
        site.api().create(
            "/api/v1/namespaces",
            &json!({"metadata": {"name": name, "labels": labels}}),
        );
    }
    site
}

/// Creates a pod, once its namespace has its service account.
fn create(site: &TestSite, namespace: &str, pod: &Value) {
    eventually("the namespace is usable", || {
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        site.api()
            .get(&account)
            .map(drop)
            .ok_or_else(|| "no service account".to_owned())
    });
    site.api()
        .create(&format!("/api/v1/namespaces/{namespace}/pods"), pod);
}

/// Waits until the pod shows this reason, and returns the message beside it.
fn refused(site: &TestSite, namespace: &str, name: &str, reason: &str) -> String {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    eventually(&format!("{namespace}/{name} is refused: {reason}"), || {
        let status = site.api().get(&path).unwrap()["status"].take();
        if status["phase"] == "Pending" && status["reason"] == reason {
            Ok(status["message"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(status.to_string())
        }
    })
}

#[test]
fn a_namespace_without_rights_reaches_no_device() {
    let site = restricted();
    let by_condition = pod("by-condition", &[("target-condition", "*")], &[web()]);
    let mut by_name = pod("by-name", &[("target-condition", "*")], &[web()]);
    by_name["spec"]["nodeName"] = json!(site.node());
    let by_group = pod(
        "by-group",
        &[
            ("target-condition", "*"),
            ("priority", "100"),
            ("exclusive-group", "g"),
        ],
        &[web()],
    );
    for pod in [&by_condition, &by_name, &by_group] {
        create(&site, "outsiders", pod);
        let name = pod["metadata"]["name"].as_str().unwrap();
        refused(&site, "outsiders", name, "TargetNotAllowed");
    }
    // Labels and annotations of the pod itself are anybody's to write.
    site.api().patch(
        "/api/v1/namespaces/outsiders/pods/by-condition",
        &json!({"metadata": {
            "labels": {"tier": "plant", "kubernetes.io/metadata.name": "plant"},
            "annotations": {"outrigger.io/target-condition": HALL_1},
        }}),
    );

    // Who has rights has them in scope only, whatever the condition says.
    create(
        &site,
        "plant",
        &pod(
            "wide",
            &[(
                "target-condition",
                "deviceId = 'device-1' OR tags.site = 'hall-2'",
            )],
            &[web()],
        ),
    );
    create(
        &site,
        "plant",
        &pod(
            "outside",
            &[("target-condition", "tags.site = 'hall-2'")],
            &[web()],
        ),
    );
    create(&site, "plant", &pod("undecided", &[], &[web()]));
    refused(&site, "plant", "undecided", "NoTarget");
    refused(&site, "plant", "outside", "NoDevicesTargeted");
    runs_on(&site, "wide", &["device-1"]);

    refused(&site, "outsiders", "by-condition", "TargetNotAllowed");
    site.containers().are_on(&["device-1"], 1).unwrap();
    let known = site.listed(&["deployment", "ls"]);
    let is_outsider = |deployment: &&Value| deployment["spec"]["namespace"] == "outsiders";
    assert_eq!(
        known.iter().filter(is_outsider).count(),
        0,
        "nothing of it reached the hub"
    );
    // A refused pod goes at once.
    site.kubectl(&["delete", "pod", "-n", "outsiders", "--all", "--timeout=30s"]);
}
