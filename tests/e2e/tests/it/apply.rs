//! Acceptance 1: from `kubectl apply` to containers on three containerds, and back to nothing.

use serde_json::{Value, json};

use crate::support::{TestSite, busybox, condition, deployment, eventually, name, server, uid};

const DEVICES: [&str; 3] = ["device-1", "device-2", "device-3"];

#[test]
fn a_deployment_runs_on_three_devices_and_leaves_nothing_behind() {
    let site = TestSite::start();
    let before: Vec<_> = DEVICES.iter().map(|device| site.leftovers(device)).collect();
    let containers = [
        server("web", &["http", "--port", "8080"]),
        busybox("clock", "trap 'exit 0' TERM; while true; do date; sleep 1; done"),
    ];
    site.apply(&deployment("hello", &[], &containers));

    let pod = site.ready_pod("hello");
    assert_eq!(pod["spec"]["nodeName"], site.node());
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(
        condition(&pod, "PodScheduled").0,
        "True",
        "kube-scheduler bound it"
    );
    for (kind, counts) in [
        ("outrigger.io/Targeted", "targeted 3"),
        ("outrigger.io/Applied", "applied 3, counted 3, targeted 3"),
        ("outrigger.io/Healthy", "healthy 3, counted 3, targeted 3"),
    ] {
        let (status, _, message) = condition(&pod, kind);
        assert!(
            status == "True" && message.contains(counts),
            "{kind} {status} {message}"
        );
    }
    let running = site.containers();
    running.of_pod(uid(&pod)).are_on(&DEVICES, 2).unwrap();
    let healthy: Vec<_> = DEVICES
        .iter()
        .map(|device| ((*device).to_owned(), "healthy".to_owned()))
        .collect();
    assert_eq!(site.assigned(uid(&pod)), healthy);
    site.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"]);

    site.kubectl(&["delete", "deployment", "hello"]);
    site.no_pod_left("hello");
    assert_nothing_is_left(&site, uid(&pod), &before);
    site.nothing_was_forbidden();
}

/// When the pod object is gone the containers are too; a hub's tombstones follow.
fn assert_nothing_is_left(site: &TestSite, uid: &str, before: &[Vec<String>]) {
    assert!(
        site.containers().is_empty(),
        "containers stop before the pod goes"
    );
    for (device, before) in DEVICES.iter().zip(before) {
        eventually(&format!("{device} is clean"), || match site.leftovers(device) {
            left if left == *before => Ok(()),
            left => Err(format!("{left:#?}")),
        });
    }
    eventually("the hub has no deployment", || {
        match site.listed(&["deployment", "ls"]) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    });
    assert!(site.try_outrigger(&["deployment", "assignments", uid]).is_err());
    let audit = site.listed(&["audit"]);
    for action in ["put-deployment", "delete-deployment"] {
        let kept = audit
            .iter()
            .any(|entry| entry["action"] == action && entry["subject"] == uid);
        assert!(kept, "{action} of {uid} is in the audit: {audit:?}");
    }
}

#[test]
fn what_kubectl_creates_needs_only_a_toleration() {
    let site = TestSite::start();
    let tolerant = |kind: &[&str]| -> Value {
        let dry = [
            &["create"],
            kind,
            &[
                "--image=images.outrigger.local/server:v1",
                "--dry-run=client",
                "-o",
                "json",
            ],
        ]
        .concat();
        let mut object: Value = serde_json::from_str(&site.kubectl(&dry)).unwrap();
        object["spec"]["template"]["spec"]["tolerations"] =
            json!([{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]);
        object
    };
    site.apply(&tolerant(&["deployment", "bare"]));
    let mut job = tolerant(&["job", "once"]);
    job["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["exit", "--code", "0"]);
    site.apply(&job);

    let pod = site.ready_pod("bare");
    site.containers().of_pod(uid(&pod)).are_on(&DEVICES, 1).unwrap();
    eventually("the job has succeeded", || {
        let job = site
            .api()
            .get("/apis/batch/v1/namespaces/default/jobs/once")
            .unwrap();
        if job["status"]["succeeded"] == 1 && condition(&job, "Complete").0 == "True" {
            Ok(())
        } else {
            Err(job["status"].to_string())
        }
    });
    let withheld = site.events(uid(&pod), "TokenWithheld");
    assert!(
        !withheld.is_empty(),
        "{} says that its token stays at home",
        name(&pod)
    );
}
