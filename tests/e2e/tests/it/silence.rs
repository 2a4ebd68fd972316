//! Acceptance 4, second half: Kubernetes reacts to silence within seconds, and nothing of the edge stops for it (laws 1 and 2).

use std::time::Duration;

use lab::Times;
use serde_json::{Value, json};

use crate::support::{
    Instances, TestSite, TestSiteOptions, Timeline, condition, deployment, eventually, is_ready, name, pod,
    restarts, server, throughout, uid,
};

const DEVICES: [&str; 3] = ["device-1", "device-2", "device-3"];
const AWAY: Duration = Duration::from_mins(1);
/// Longer than the bridge waits between two looks at other nodes.
const LOOKED_AT: Duration = Duration::from_secs(35);

fn start() -> (TestSite, Value, Instances) {
    let site = TestSite::with(TestSiteOptions {
        times: Times::Short,
        ..TestSiteOptions::default()
    });
    site.apply(&deployment(
        "steady",
        &[],
        &[server("web", &["http", "--port", "8080"])],
    ));
    let pod = site.ready_pod("steady");
    let running = site.containers();
    running.are_on(&DEVICES, 1).unwrap();
    (site, pod, running)
}

#[track_caller]
fn the_same_pod_is_ready(site: &TestSite, before: &Value) {
    let pod = site.ready_pod("steady");
    assert_eq!((uid(&pod), restarts(&pod)), (uid(before), 0));
}

#[test]
fn a_minute_of_silence_stops_nothing() {
    let (site, pod, running) = start();
    let limited = |pod: &Value| {
        let tolerations = pod["spec"]["tolerations"].as_array().unwrap();
        tolerations
            .iter()
            .filter(|toleration| toleration.get("tolerationSeconds").is_some())
            .count()
    };
    eventually("no toleration of silence is limited", || {
        match limited(&site.pods("steady")[0]) {
            0 => Ok(()),
            count => Err(format!("{count} are")),
        }
    });

    // The control: a pod whose author wants Kubernetes' reaction gets it, so the reaction is real.
    let web = server("web", &["http", "--port", "8080"]);
    site.apply(&deployment("flighty", &[("disconnect", "replace")], &[web]));
    let flighty = site.ready_pod("flighty");
    let both = site.containers();
    both.of_app("flighty").are_on(&DEVICES, 1).unwrap();

    let kubelet = site.kubelet_process();
    kubelet.kill().unwrap();
    throughout(AWAY, "the bridge is away", &both, || site.containers());
    let node = site.api().get(&format!("/api/v1/nodes/{}", site.node())).unwrap();
    assert_eq!(condition(&node, "Ready").0, "Unknown", "Kubernetes did notice");
    let taints = node["spec"]["taints"].to_string();
    assert!(taints.contains("NoExecute"), "and would have evicted: {taints}");
    let evicted = site.pod(name(&flighty)).unwrap();
    assert!(
        evicted["metadata"]["deletionTimestamp"].is_string(),
        "and did: {evicted}"
    );
    kubelet.start().unwrap();
    site.node_object(None);
    the_same_pod_is_ready(&site, &pod);
    eventually("the flighty pod is replaced", || {
        let now = site.ready_pod("flighty");
        let old = site.containers().of_pod(uid(&flighty));
        if uid(&now) != uid(&flighty) && old.is_empty() {
            Ok(())
        } else {
            Err(format!("{old:?}"))
        }
    });
    assert_eq!(site.containers().of_pod(uid(&pod)), running);
    site.kubectl(&["delete", "deployment", "flighty"]);
    site.no_pod_left("flighty");

    let hub = site.hub_process();
    hub.kill().unwrap();
    throughout(AWAY, "the hub is away", &running, || site.containers());
    let node = site.node_object(None);
    assert_eq!(condition(&node, "outrigger.io/HubReachable").0, "False");
    assert!(is_ready(&node), "the Node stays Ready while only the hub is away");
    assert!(node["spec"]["taints"].to_string().contains("NoSchedule"));
    hub.start().unwrap();
    the_same_pod_is_ready(&site, &pod);

    let device = site.device("device-1").unwrap();
    device.cut_link().unwrap();
    throughout(AWAY, "a device is away", &running, || site.containers());
    device.restore_link().unwrap();
    eventually("the device is back", || {
        let known = site.listed(&["device", "get", "device-1"]).remove(0);
        if known["connected"] == true {
            Ok(())
        } else {
            Err(known.to_string())
        }
    });
    the_same_pod_is_ready(&site, &pod);
    assert_eq!(site.containers(), running);
}

#[test]
fn a_deleted_node_leaves_orphans_and_the_successor_takes_over() {
    let (site, old, _) = start();
    site.apply(&pod(
        "lonely",
        &[("target-condition", "deviceId = 'device-1'")],
        &[server("web", &["ignore-term"])],
    ));
    let lonely = eventually("the lonely pod is Ready", || {
        site.pod("lonely")
            .filter(is_ready)
            .ok_or_else(|| "not yet".to_owned())
    });
    let running = site.containers();
    let timelines =
        DEVICES.map(|device| Timeline::record(&site.device(device).unwrap(), &running.of_pod(uid(&old))));
    let node = site.node_object(None);

    site.kubelet_process().kill().unwrap();
    site.kubectl(&["delete", "node", site.node()]);
    let replacement = eventually("Kubernetes gives the pods up and makes another", || {
        let pods = site.pods("steady");
        let gone = pods.iter().all(|pod| uid(pod) != uid(&old)) && site.pod("lonely").is_none();
        match pods.first() {
            Some(new) if gone => Ok(new.clone()),
            _ => Err(format!(
                "{} pods, lonely {:?}",
                pods.len(),
                site.pod("lonely").is_some()
            )),
        }
    });
    assert_eq!(site.containers(), running, "the devices do not mind");

    site.kubelet_process().start().unwrap();
    site.node_object(Some(uid(&node)));
    let now = site.ready_pod("steady");
    assert_eq!(uid(&now), uid(&replacement));
    let after = eventually("the successor has taken over", || {
        let after = site.containers();
        after.of_pod(uid(&now)).are_on(&DEVICES, 1)?;
        if after.of_pod(uid(&old)).is_empty() {
            Ok(after)
        } else {
            Err(format!("{after:?}"))
        }
    });
    for (device, timeline) in DEVICES.iter().zip(timelines) {
        assert_eq!(timeline.starts_beside_another("/server:"), [false], "{device}");
    }
    assert_eq!(
        after.of_app("lonely"),
        running.of_app("lonely"),
        "nobody succeeds the lonely one"
    );

    let orphans = eventually("the lonely one is listed", || {
        let orphans = site.listed(&["orphan", "ls"]);
        if orphans.len() == 1 {
            Ok(orphans)
        } else {
            Err(format!("{orphans:?}"))
        }
    });
    assert_eq!(orphans[0]["spec"]["uid"], json!(uid(&lonely)));
    site.outrigger(&["orphan", "rm", "default/lonely", "--grace-period", "1"]);
    eventually("the orphan is stopped", || {
        let left = site.containers().of_app("lonely");
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    eventually("no orphan is left", || {
        let orphans = site.listed(&["orphan", "ls"]);
        if orphans.is_empty() {
            Ok(())
        } else {
            Err(format!("{orphans:?}"))
        }
    });
    assert_eq!(site.containers().of_app("steady"), after.of_app("steady"));
    site.nothing_was_forbidden();
}

#[test]
fn an_orphan_stops_after_its_authors_time() {
    const TIME: Duration = Duration::from_secs(20);
    let (site, _, _) = start();
    site.apply(&pod(
        "brief",
        &[
            ("target-condition", "deviceId = 'device-1'"),
            ("disconnect", "stop-after=20s"),
        ],
        &[server("web", &["http", "--port", "8081"])],
    ));
    let brief = eventually("the brief pod is Ready", || {
        site.pod("brief")
            .filter(is_ready)
            .ok_or_else(|| "not yet".to_owned())
    });
    let running = site.containers().of_pod(uid(&brief));

    site.kubelet_process().kill().unwrap();
    site.kubectl(&["delete", "node", site.node()]);
    eventually("Kubernetes gives the brief pod up", || match site.pod("brief") {
        None => Ok(()),
        Some(pod) => Err(pod["metadata"].to_string()),
    });
    throughout(TIME + TIME, "nobody has released it", &running, || {
        site.containers().of_pod(uid(&brief))
    });
    site.kubelet_process().start().unwrap();
    let orphan = eventually("the brief one is an orphan", || {
        let orphans = site.listed(&["orphan", "ls"]);
        let found = orphans
            .iter()
            .find(|orphan| orphan["spec"]["uid"] == json!(uid(&brief)));
        found.cloned().ok_or_else(|| format!("{orphans:?}"))
    });
    assert_eq!(site.containers().of_pod(uid(&brief)), running, "{orphan}");
    site.kubelet_process().kill().unwrap();
    site.kubelet_process().start().unwrap();
    eventually("its time is over", || {
        let left = site.containers().of_pod(uid(&brief));
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    let steady = site.ready_pod("steady");
    site.containers()
        .of_pod(uid(&steady))
        .are_on(&DEVICES, 1)
        .unwrap();
    site.nothing_was_forbidden();
}

#[test]
fn an_orphan_stops_once_its_successor_is_ready_on_another_node() {
    let (site, steady, _) = start();
    let mut mover = deployment(
        "mover",
        &[("target-condition", "deviceId = 'device-1'")],
        &[server("web", &["http", "--port", "8081"])],
    );
    mover["spec"]["strategy"] = json!({"type": "Recreate"});
    site.apply(&mover);
    let old = site.ready_pod("mover");
    let running = site.containers();

    site.kubelet_process().kill().unwrap();
    site.kubectl(&["delete", "node", site.node()]);
    eventually("Kubernetes gives the old pod up", || match site.pod(name(&old)) {
        None => Ok(()),
        Some(pod) => Err(pod["metadata"].to_string()),
    });
    let other = site
        .api()
        .list("/api/v1/nodes?labelSelector=lab%3Dalways-ready")
        .remove(0);
    let template = &mut mover["spec"]["template"]["spec"];
    // It has no room that a scheduler would see.
    template["nodeSelector"] = json!({});
    template["nodeName"] = json!(name(&other));
    site.apply(&mover);
    let new = eventually("the only pod is bound to another node", || {
        let mut pods = site.pods("mover");
        match pods.as_slice() {
            [pod] if pod["spec"]["nodeName"].is_string() => Ok(pods.remove(0)),
            pods => Err(format!("{pods:?}")),
        }
    });
    assert_ne!(new["spec"]["nodeName"], site.node());

    site.kubelet_process().start().unwrap();
    eventually("the old one is an orphan", || {
        let orphans = site.listed(&["orphan", "ls"]);
        let is_old = |orphan: &Value| orphan["spec"]["uid"] == json!(uid(&old));
        if orphans.iter().any(is_old) {
            Ok(())
        } else {
            Err(format!("{orphans:?}"))
        }
    });
    throughout(
        LOOKED_AT,
        "its successor is not Ready",
        &running.of_pod(uid(&old)),
        || site.containers().of_pod(uid(&old)),
    );
    // That node has no kubelet; this is all that one would say.
    site.api().patch(
        &format!("/api/v1/namespaces/default/pods/{}/status", name(&new)),
        &json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    eventually("the orphan is stopped", || {
        let left = site.containers().of_pod(uid(&old));
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    let after = site.ready_pod("steady");
    assert_ne!(uid(&after), uid(&steady), "its Node was deleted too");
    site.containers().of_pod(uid(&after)).are_on(&DEVICES, 1).unwrap();
    site.nothing_was_forbidden();
}
