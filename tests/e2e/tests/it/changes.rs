//! A pod that is changed in place: what it costs is what the change means, on a device as under a kubelet.

use serde_json::{Value, json};

use crate::support::{TestSite, condition, eventually, is_ready, pod, restarts, server, terminations, uid};

const DEVICES: [&str; 3] = ["device-1", "device-2", "device-3"];
const POD: &str = "/api/v1/namespaces/default/pods/web";

fn ready(site: &TestSite, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || {
        let pod = site.pod("web").unwrap();
        if is_ready(&pod) && holds(&pod) {
            Ok(pod)
        } else {
            Err(pod["status"].to_string())
        }
    })
}

#[test]
fn labels_cost_nothing_a_target_moves_and_an_image_restarts_one_container() {
    let site = TestSite::start();
    let containers = [
        server("web", &["http", "--port", "8080"]),
        server("other", &["ignore-term"]),
    ];
    site.apply(&pod(
        "web",
        &[("target-condition", "tags.site = 'hall-1'")],
        &containers,
    ));
    let first = ready(&site, "the pod is Ready", |_| true);
    let running = site.containers();
    running.are_on(&["device-1", "device-2"], 2).unwrap();

    // Wider: the third device joins, the others do not notice.
    let wider = json!({"metadata": {
        "labels": {"colour": "green"},
        "annotations": {"outrigger.io/target-condition": "*", "example.org/note": "hello"},
    }});
    site.api().patch(POD, &wider);
    ready(&site, "the third device has joined", |pod| {
        condition(pod, "outrigger.io/Healthy").2.starts_with("healthy 3")
    });
    let all = site.containers();
    all.are_on(&DEVICES, 2).unwrap();
    for device in ["device-1", "device-2"] {
        assert_eq!(all.on(device), running.on(device), "{device} is left alone");
    }

    // Another image: this container is started anew in its pod, the other one goes on.
    site.kubectl(&["set", "image", "pod/web", "web=images.outrigger.local/server:v2"]);
    let changed = ready(&site, "the new image runs everywhere", |pod| restarts(pod) == 1);
    assert_eq!(uid(&changed), uid(&first));
    assert!(
        terminations(&changed).contains(&("Completed", 0)),
        "{}",
        changed["status"]
    );
    let after = site.containers();
    after.are_on(&DEVICES, 2).unwrap();
    for instance in &after.0 {
        let before = all.0.contains(instance);
        assert_eq!(before, instance.container == "other", "{instance:?}");
    }
    // An image that does not exist is fetched before anything stops (law 6).
    site.kubectl(&[
        "set",
        "image",
        "pod/web",
        "web=images.outrigger.local/server:missing",
    ]);
    eventually("a device says that it cannot pull", || {
        let told = site.events(uid(&first), "Failed");
        if told
            .iter()
            .any(|note| note.contains("device-") && note.contains("missing"))
        {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    });
    assert_eq!(
        site.containers(),
        after,
        "nothing stops for an image that is not there"
    );
}
