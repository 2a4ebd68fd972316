//! What deleting a pod means: everything stops first, unless a device cannot be asked or a person insists.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{TestSite, busybox, condition, eventually, is_ready, pod, server, uid};

const DEVICES: [&str; 3] = ["device-1", "device-2", "device-3"];

fn run(site: &TestSite, pod: &Value) -> Value {
    site.apply(pod);
    let name = pod["metadata"]["name"].as_str().unwrap();
    eventually(&format!("{name} is Ready"), || {
        let pod = site.pod(name).unwrap();
        if is_ready(&pod) {
            Ok(pod)
        } else {
            Err(pod["status"].to_string())
        }
    })
}

fn delete(site: &TestSite, name: &str, grace: u32) {
    site.api().delete(
        &format!("/api/v1/namespaces/default/pods/{name}"),
        &json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": grace}),
    );
}

#[track_caller]
fn gone(site: &TestSite, name: &str) {
    eventually(&format!("{name} is gone"), || match site.pod(name) {
        None => Ok(()),
        Some(pod) => Err(pod["metadata"].to_string()),
    });
}

#[test]
fn grace_is_kept_shortened_and_waived() {
    let site = TestSite::start();
    let stubborn = |name: &str| {
        let mut stubborn = pod(name, &[], &[server("stubborn", &["ignore-term"])]);
        stubborn["spec"]["terminationGracePeriodSeconds"] = json!(600);
        stubborn
    };

    // A second delete shortens the grace of the first.
    let first = run(&site, &stubborn("stubborn"));
    delete(&site, "stubborn", 600);
    site.containers().of_pod(uid(&first)).are_on(&DEVICES, 1).unwrap();
    let begun = Instant::now();
    delete(&site, "stubborn", 2);
    gone(&site, "stubborn");
    assert!(
        begun.elapsed().as_secs() >= 1,
        "the shorter grace is still a grace"
    );
    assert!(site.containers().is_empty(), "all had stopped when the pod went");

    // A finalizer keeps the object, shown terminated, while nothing runs any more.
    let mut kept = pod(
        "kept",
        &[],
        &[busybox(
            "main",
            "trap 'exit 0' TERM; while true; do sleep 1; done",
        )],
    );
    kept["metadata"]["finalizers"] = json!(["example.org/wait"]);
    run(&site, &kept);
    delete(&site, "kept", 5);
    eventually("the kept pod has stopped", || {
        let pod = site.pod("kept").unwrap();
        let ended = pod["status"]["containerStatuses"][0]["state"]["terminated"].is_object();
        if ended && site.containers().is_empty() {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });
    site.api().patch(
        "/api/v1/namespaces/default/pods/kept",
        &json!({"metadata": {"finalizers": null}}),
    );
    gone(&site, "kept");

    // By force the object goes at once, and the containers follow.
    let forced = run(&site, &stubborn("forced"));
    site.kubectl(&["delete", "pod", "forced", "--force", "--grace-period=0"]);
    gone(&site, "forced");
    eventually("its containers follow", || {
        let left = site.containers().of_pod(uid(&forced));
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    eventually("the hub has forgotten all of them", || {
        let left = site.listed(&["deployment", "ls"]);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
}

#[test]
fn an_offline_device_holds_no_pod_and_stops_when_it_is_back() {
    let site = TestSite::start();
    let web = run(
        &site,
        &pod("web", &[], &[server("web", &["http", "--port", "8080"])]),
    );
    let device = site.device("device-1").unwrap();
    device.cut_link().unwrap();
    eventually("the device is offline", || {
        let known = site.listed(&["device", "get", "device-1"]).remove(0);
        if known["online"] == false {
            Ok(())
        } else {
            Err(known.to_string())
        }
    });
    // It is counted no more, and the others' word stands: offline is a state, not a failure (laws 3 and 10).
    eventually("the pod is Ready by the two others", || {
        let pod = site.pod("web").unwrap();
        let (healthy, _, message) = condition(&pod, "outrigger.io/Healthy");
        if is_ready(&pod) && healthy == "True" && message.starts_with("healthy 2, counted 2, targeted 3") {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });
    site.kubectl(&["delete", "pod", "web", "--timeout=60s"]);
    site.containers()
        .of_pod(uid(&web))
        .are_on(&["device-1"], 1)
        .unwrap();
    let listed = site.listed(&["deployment", "ls"]);
    assert_eq!(listed.len(), 1, "its tombstone is listed: {listed:?}");
    assert_eq!(
        site.assigned(uid(&web))
            .iter()
            .map(|(device, _)| device.as_str())
            .collect::<Vec<_>>(),
        ["device-1"]
    );

    device.restore_link().unwrap();
    eventually("it stops the workload when it is back", || {
        let left = site.containers();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    eventually("the tombstone is gone", || {
        let left = site.listed(&["deployment", "ls"]);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
}
