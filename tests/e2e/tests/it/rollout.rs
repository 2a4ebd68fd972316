//! Acceptance 3: an image changes, and a bad one does no harm.

use serde_json::Value;

use crate::support::{
    Instances, TestSite, Timeline, deployment, eventually, name, reason_of_waiting, server, uid,
};

const DEVICES: [&str; 3] = ["device-1", "device-2", "device-3"];

fn start(app: &str, update: &str) -> (TestSite, Value, Instances) {
    let site = TestSite::start();
    let web = server("web", &["http", "--port", "8080"]);
    site.apply(&deployment(app, &[("update", update)], &[web]));
    let pod = site.ready_pod(app);
    let running = site.containers();
    running.are_on(&DEVICES, 1).unwrap();
    (site, pod, running)
}

fn set_image(site: &TestSite, app: &str, tag: &str) {
    let image = format!("web=images.outrigger.local/server:{tag}");
    site.kubectl(&["set", "image", &format!("deployment/{app}"), &image]);
}

/// Waits until only the new version is there, Ready, on all devices.
fn rolled(site: &TestSite, app: &str, before: &Value) -> (Value, Instances) {
    let pod = eventually("the new pod has taken over", || {
        let pod = site.ready_pod(app);
        if uid(&pod) == uid(before) {
            Err("the old one".to_owned())
        } else {
            Ok(pod)
        }
    });
    let running = eventually("only the new one runs", || {
        let all = site.containers();
        let new = all.of_pod(uid(&pod));
        new.are_on(&DEVICES, 1)?;
        if new == all {
            Ok(new)
        } else {
            Err(format!("{all:?}"))
        }
    });
    assert_eq!(
        pod["spec"]["containers"][0]["image"],
        "images.outrigger.local/server:v2"
    );
    (pod, running)
}

/// A new pod fails to pull while the old one runs on; then it is undone.
fn bad_image_and_back(site: &TestSite, app: &str, old: &Value, running: &Instances) {
    set_image(site, app, "missing");
    let bad = eventually("the new pod cannot pull", || {
        let pods = site.pods(app);
        let bad = pods
            .iter()
            .find(|pod| reason_of_waiting(pod) == "ImagePullBackOff");
        bad.cloned().ok_or_else(|| {
            format!(
                "{:?}",
                pods.iter()
                    .map(|pod| pod["status"].to_string())
                    .collect::<Vec<_>>()
            )
        })
    });
    let mut notes = Vec::new();
    eventually("events name every device", || {
        notes = ["ImagePullBackOff", "ErrImagePull", "BackOff", "Failed"]
            .iter()
            .flat_map(|reason| site.events(uid(&bad), reason))
            .collect();
        let all = DEVICES
            .iter()
            .all(|device| notes.iter().any(|note| note.contains(device)));
        if all { Ok(()) } else { Err(format!("{notes:?}")) }
    });
    assert_eq!(site.containers(), *running, "the old workload runs on, untouched");
    assert_eq!(
        site.pod(name(old)).map(|pod| uid(&pod).to_owned()).as_deref(),
        Some(uid(old))
    );

    site.kubectl(&["rollout", "undo", &format!("deployment/{app}")]);
    let after = site.ready_pod(app);
    assert_eq!(uid(&after), uid(old));
    site.kubectl(&["rollout", "status", &format!("deployment/{app}"), "--timeout=60s"]);
    assert_eq!(site.containers(), *running, "undone without a restart");
}

#[test]
fn surge_runs_the_new_beside_the_old_until_it_is_ready() {
    let (site, old, running) = start("web", "surge");
    let timelines = DEVICES.map(|device| Timeline::record(&site.device(device).unwrap(), &running));
    bad_image_and_back(&site, "web", &old, &running);
    set_image(&site, "web", "v2");
    rolled(&site, "web", &old);
    for (device, timeline) in DEVICES.iter().zip(timelines) {
        assert_eq!(timeline.starts_beside_another("/server:"), [true], "{device}");
    }
}

#[test]
fn replace_never_runs_two_on_a_device() {
    let (site, old, running) = start("press", "replace");
    let timelines = DEVICES.map(|device| Timeline::record(&site.device(device).unwrap(), &running));
    bad_image_and_back(&site, "press", &old, &running);
    set_image(&site, "press", "v2");
    rolled(&site, "press", &old);
    for (device, timeline) in DEVICES.iter().zip(timelines) {
        assert_eq!(timeline.starts_beside_another("/server:"), [false], "{device}");
    }
}
