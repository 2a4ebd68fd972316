//! Devices that are Nodes of their own: what they show, what runs there, and what their going and coming means.

use std::time::Duration;

use serde_json::{Value, json};
use site::{DeviceNodes, DeviceSpec};

use crate::support::{
    TestSite, TestSiteOptions, condition, eventually, is_ready, pod, server, throughout, uid, within,
};

/// The deadline of a `lan` link is 45 s.
const DARK: Duration = Duration::from_mins(4);
/// `nodeMonitorGracePeriod` is 50 s.
const LEASE_GRACE: Duration = Duration::from_mins(1);
/// Longer than a graceful deletion of these pods takes.
const HELD: Duration = Duration::from_secs(15);

/// Two devices with nodes of their own, and one without.
fn site() -> TestSite {
    let own = |name: &str| DeviceSpec::new(name, &[("node", "true"), ("site", "hall-7")]);
    TestSite::with(TestSiteOptions {
        devices: vec![own("press-1"), own("press-2"), DeviceSpec::new("plain-1", &[])],
        device_nodes: DeviceNodes::Tagged,
        ..TestSiteOptions::default()
    })
}

fn node(site: &TestSite, name: &str) -> Option<Value> {
    site.api().get(&format!("/api/v1/nodes/{name}"))
}

#[track_caller]
fn ready_node(site: &TestSite, name: &str, before: Option<&str>) -> Value {
    eventually(&format!("{name} is a Ready Node"), || {
        let node = node(site, name).filter(|node| Some(uid(node)) != before);
        node.filter(is_ready)
            .ok_or_else(|| format!("{:?}", self::node(site, name)))
    })
}

/// A pod for one device.
fn pod_for(name: &str, device: &str) -> Value {
    let mut pod = pod(name, &[], &[server("main", &["http", "--port", "8080"])]);
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": device});
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod
}

#[track_caller]
fn ready_pod(site: &TestSite, name: &str) -> Value {
    eventually(&format!("{name} is Ready"), || {
        let pod = site.pod(name).unwrap();
        if is_ready(&pod) {
            Ok(pod)
        } else {
            Err(pod["status"].to_string())
        }
    })
}

#[test]
fn a_device_is_a_node_with_pods_of_its_own() {
    let site = site();
    let press = ready_node(&site, "press-1", None);
    ready_node(&site, "press-2", None);
    assert!(node(&site, "plain-1").is_none(), "it does not meet the condition");
    let capacity = &press["status"]["capacity"];
    for resource in ["cpu", "memory", "ephemeral-storage", "pods"] {
        assert!(
            capacity[resource].as_str().is_some_and(|value| value != "0"),
            "{capacity}"
        );
    }
    assert_ne!(press["status"]["allocatable"]["memory"], capacity["memory"]);
    let info = &press["status"]["nodeInfo"];
    assert!(
        info["containerRuntimeVersion"]
            .as_str()
            .unwrap()
            .starts_with("containerd://"),
        "{info}"
    );
    assert_eq!(press["metadata"]["labels"]["tag.outrigger.io/site"], "hall-7");
    eventually("the device's images are on its Node", || {
        let press = node(&site, "press-1").unwrap();
        let image = &press["status"]["images"][0];
        let is_told = image["names"][0].is_string() && image["sizeBytes"].as_u64() > Some(0);
        is_told.then_some(()).ok_or_else(|| press["status"].to_string())
    });
    assert_eq!(condition(&press, "outrigger.io/Connected").0, "True");
    let fleet = site.node_object(None);
    assert_eq!(
        fleet["status"]["capacity"]["pods"], capacity["pods"],
        "only plain-1 is the fleet's"
    );

    // By the scheduler, and by name.
    site.apply(&pod_for("chosen", "press-1"));
    let mut named = pod_for("named", "press-2");
    named["spec"]["nodeName"] = json!("press-2");
    site.apply(&named);
    let chosen = ready_pod(&site, "chosen");
    assert_eq!(chosen["spec"]["nodeName"], "press-1");
    let named = ready_pod(&site, "named");
    let containers = site.containers();
    containers.of_pod(uid(&chosen)).are_on(&["press-1"], 1).unwrap();
    containers.of_pod(uid(&named)).are_on(&["press-2"], 1).unwrap();
    // A fleet pod leaves them alone.
    let mut fleet_pod = pod("fleet", &[], &[server("main", &["http", "--port", "8080"])]);
    fleet_pod["spec"]["nodeName"] = json!(site.node());
    site.apply(&fleet_pod);
    let fleet_pod = ready_pod(&site, "fleet");
    site.containers()
        .of_pod(uid(&fleet_pod))
        .are_on(&["plain-1"], 1)
        .unwrap();

    // A Node that is deleted is made again, and nothing stops.
    site.kubectl(&["delete", "node", "press-1", "--wait=false"]);
    ready_node(&site, "press-1", Some(uid(&press)));
    site.containers()
        .of_pod(uid(&chosen))
        .are_on(&["press-1"], 1)
        .unwrap();

    // A device that is decommissioned has no Node; another's stays.
    site.outrigger(&["device", "decommission", "press-2", "--yes"]);
    eventually("press-2 is a Node no longer", || match node(&site, "press-2") {
        None => Ok(()),
        Some(node) => Err(node["metadata"].to_string()),
    });
    assert!(is_ready(&node(&site, "press-1").unwrap()));
    eventually("Kubernetes gives the pod of the missing Node up", || {
        match site.pod("named") {
            None => Ok(()),
            Some(pod) => Err(pod["metadata"].to_string()),
        }
    });
    let running = site.containers();
    assert_eq!(
        running.of_pod(uid(&named)),
        containers.of_pod(uid(&named)),
        "that stops nothing either"
    );
    assert_eq!(running.of_pod(uid(&chosen)), containers.of_pod(uid(&chosen)));
    site.nothing_was_forbidden();
}

#[test]
fn a_device_that_is_silent_past_its_deadline_is_unknown_and_no_other_is_touched() {
    let site = site();
    let before = ready_node(&site, "press-1", None);
    let other = ready_node(&site, "press-2", None);
    site.apply(&pod_for("own", "press-1"));
    let own = ready_pod(&site, "own");
    let device = site.device("press-1").unwrap();
    device.cut_link().unwrap();
    within(DARK, "press-1 is Unknown", || {
        let node = node(&site, "press-1").unwrap();
        match condition(&node, "Ready") {
            ("Unknown", "NodeStatusUnknown", message) if message.contains("last heard at") => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    });
    eventually("its pod is not Ready", || {
        let pod = site.pod("own").unwrap();
        match condition(&pod, "Ready") {
            ("False", _, _) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    });
    let still = node(&site, "press-2").unwrap();
    let since = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array().unwrap();
        let ready = conditions
            .iter()
            .find(|condition| condition["type"] == "Ready")
            .unwrap();
        ready["lastTransitionTime"].clone()
    };
    assert!(is_ready(&still));
    assert_eq!(since(&still), since(&other), "it was Ready all the time");
    device.restore_link().unwrap();
    let after = ready_node(&site, "press-1", None);
    assert_eq!(uid(&after), uid(&before));
    let after = ready_pod(&site, "own");
    assert_eq!(uid(&after), uid(&own), "the same pod is Ready again");
    site.nothing_was_forbidden();
}

#[test]
fn a_pod_on_a_dark_device_is_deleted_by_the_devices_word_or_by_force() {
    let site = site();
    ready_node(&site, "press-1", None);
    let names = ["patient", "forced"];
    for name in names {
        site.apply(&pod_for(name, "press-1"));
    }
    let [patient, forced] = names.map(|name| ready_pod(&site, name));
    let running = site.containers();
    let device = site.device("press-1").unwrap();
    device.cut_link().unwrap();
    within(DARK, "press-1 is dark", || {
        let known = site.listed(&["device", "get", "press-1"]).remove(0);
        if known["online"] == false {
            Ok(())
        } else {
            Err(known.to_string())
        }
    });
    site.kubectl(&["delete", "pod", "patient", "--wait=false"]);
    site.kubectl(&["delete", "pod", "forced", "--force", "--grace-period=0"]);
    eventually("the forced one is gone", || match site.pod("forced") {
        None => Ok(()),
        Some(pod) => Err(pod["metadata"].to_string()),
    });
    let terminating = || {
        let pod = site.pod("patient");
        pod.is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_string())
    };
    throughout(HELD, "nobody has heard the device", &true, terminating);
    assert_eq!(site.containers(), running, "nor has the device heard anybody");
    let deleted: Vec<String> = site
        .listed(&["deployment", "ls"])
        .iter()
        .map(|deployment| deployment["spec"]["uid"].as_str().unwrap_or_default().to_owned())
        .collect();
    for pod in [&patient, &forced] {
        assert!(
            deleted.contains(&uid(pod).to_owned()),
            "its tombstone waits: {deleted:?}"
        );
    }

    device.restore_link().unwrap();
    eventually("the patient one is gone", || match site.pod("patient") {
        None => Ok(()),
        Some(pod) => Err(pod["metadata"].to_string()),
    });
    assert!(
        site.containers().of_pod(uid(&patient)).is_empty(),
        "it had stopped before"
    );
    eventually("the forced one has stopped", || {
        let left = site.containers();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    eventually("no tombstone is left", || {
        let left = site.listed(&["deployment", "ls"]);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    ready_node(&site, "press-1", None);
    site.nothing_was_forbidden();
}

#[test]
fn a_bridge_that_starts_while_the_hub_is_away_leaves_device_nodes_ready() {
    let site = site();
    let before = ready_node(&site, "press-1", None);
    let renewed = || {
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/press-1";
        let lease = site.api().get(lease)?;
        lease["spec"]["renewTime"].as_str().map(str::to_owned)
    };
    let first = eventually("it is leased", || renewed().ok_or_else(|| "no lease".to_owned()));
    let (hub, kubelet) = (site.hub_process(), site.kubelet_process());
    hub.kill().unwrap();
    kubelet.kill().unwrap();
    kubelet.start().unwrap();
    eventually("its lease is renewed", || match renewed() {
        Some(now) if now != first => Ok(()),
        now => Err(format!("{now:?}")),
    });
    let hub_shows = |expected: &str| {
        eventually(&format!("HubReachable is {expected}"), || {
            match condition(&node(&site, "press-1").unwrap(), "outrigger.io/HubReachable") {
                (status, ..) if status == expected => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    };
    hub_shows("False");
    throughout(LEASE_GRACE, "only the hub is away", &true, || {
        is_ready(&node(&site, "press-1").unwrap())
    });
    let away = node(&site, "press-1").unwrap();
    assert!(
        away["spec"]["taints"]
            .to_string()
            .contains("outrigger.io/hub-unreachable"),
        "{away}"
    );
    assert_eq!(away["status"]["capacity"], before["status"]["capacity"]);
    hub.start().unwrap();
    hub_shows("True");
    let after = ready_node(&site, "press-1", None);
    assert_eq!(uid(&after), uid(&before));
    site.nothing_was_forbidden();
}

#[test]
fn a_device_that_is_a_node_no_longer_is_forgotten_and_may_be_one_again() {
    let site = site();
    let before = ready_node(&site, "press-1", None);
    site.apply(&pod_for("own", "press-1"));
    ready_pod(&site, "own");
    let evidence = || {
        let lease =
            "/apis/coordination.k8s.io/v1/namespaces/outrigger-system/leases/outrigger-kubelet-outrigger";
        let lease = site.api().get(lease).unwrap();
        lease["metadata"]["annotations"]["evidence.outrigger.io/press-1"].is_string()
    };
    assert!(evidence());
    site.kubectl(&["delete", "pod", "own"]);
    site.outrigger(&["device", "tag", "press-1", "node-"]);
    eventually("press-1 is a Node no longer", || match node(&site, "press-1") {
        None => Ok(()),
        Some(node) => Err(node["metadata"].to_string()),
    });
    eventually("nothing is remembered of it", || {
        if evidence() {
            Err("it is".to_owned())
        } else {
            Ok(())
        }
    });
    site.outrigger(&["device", "tag", "press-1", "node=true"]);
    ready_node(&site, "press-1", Some(uid(&before)));
    site.apply(&pod_for("own", "press-1"));
    ready_pod(&site, "own");
    site.nothing_was_forbidden();
}
