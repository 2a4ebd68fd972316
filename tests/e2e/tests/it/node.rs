//! The Node object: kept, re-created, shared with others who write to it, and served by one process of several.

use std::time::Duration;

use lab::{Process, Program};
use serde_json::{Value, json};

use crate::support::{TestSite, condition, deployment, eventually, server, uid, within};

const TAINT: &str = "virtual-kubelet.io/provider";
/// The goal; on a slow machine it may take five times as long.
const TAKE_OVER: Duration = Duration::from_secs(15);

fn path(site: &TestSite) -> String {
    format!("/api/v1/nodes/{}", site.node())
}

#[test]
fn the_node_is_what_the_fleet_is() {
    let site = TestSite::start();
    let node = site.node_object(None);
    for kind in [
        "MemoryPressure",
        "DiskPressure",
        "PIDPressure",
        "NetworkUnavailable",
    ] {
        assert_eq!(condition(&node, kind).0, "False", "{kind}");
    }
    assert_eq!(condition(&node, "outrigger.io/HubReachable").0, "True");
    assert_eq!(node["metadata"]["labels"]["type"], "virtual-kubelet");
    assert_eq!(node["spec"]["taints"][0]["key"], TAINT);
    let address = &node["status"]["addresses"][0];
    assert_eq!(address["type"], "InternalIP");
    assert!(!address["address"].as_str().unwrap().starts_with("127."));
    let cpu = |node: &Value| {
        node["status"]["capacity"]["cpu"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .ok()
    };
    let three = eventually("capacity is that of three devices", || {
        cpu(&site.node_object(None))
            .filter(|cpu| *cpu > 0)
            .ok_or_else(|| "none".to_owned())
    });
    site.add_device(&site::DeviceSpec::new("device-4", &[])).unwrap();
    eventually("capacity grows with the fleet", || {
        match cpu(&site.node_object(None)) {
            Some(four) if four * 3 == three * 4 => Ok(()),
            other => Err(format!("{three} then {other:?}")),
        }
    });
    let lease = site
        .api()
        .get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/outrigger")
        .unwrap();
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], uid(&node));
}

#[test]
fn what_others_write_survives_and_what_is_ours_comes_back() {
    let site = TestSite::start();
    site.kubectl(&[
        "taint",
        "node",
        site.node(),
        "example.org/maintenance=yes:NoSchedule",
    ]);
    site.kubectl(&["label", "node", site.node(), "example.org/owner=me"]);
    site.kubectl(&["annotate", "node", site.node(), "example.org/note=hands-off"]);
    site.kubectl(&["taint", "node", site.node(), &format!("{TAINT}-")]);
    site.kubectl(&["label", "node", site.node(), "type-"]);
    let node = eventually("our taint and label are back", || {
        let node = site.node_object(None);
        let ours = node["spec"]["taints"].to_string().contains(TAINT)
            && node["metadata"]["labels"]["type"] == "virtual-kubelet";
        if ours {
            Ok(node)
        } else {
            Err(node["spec"].to_string())
        }
    });
    assert!(
        node["spec"]["taints"]
            .to_string()
            .contains("example.org/maintenance")
    );
    assert_eq!(node["metadata"]["labels"]["example.org/owner"], "me");
    assert_eq!(node["metadata"]["annotations"]["example.org/note"], "hands-off");

    site.apply(&deployment(
        "web",
        &[],
        &[server("web", &["http", "--port", "8080"])],
    ));
    eventually("the maintenance taint keeps it from the node", || {
        let pods = site.pods("web");
        match pods
            .first()
            .map(|pod| condition(pod, "PodScheduled").1.to_owned())
        {
            Some(reason) if reason == "Unschedulable" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    site.kubectl(&["taint", "node", site.node(), "example.org/maintenance-"]);
    let pod = site.ready_pod("web");
    let running = site.containers();

    site.kubectl(&["delete", "node", site.node()]);
    let again = site.node_object(Some(uid(&node)));
    assert!(again["spec"]["taints"].to_string().contains(TAINT));
    eventually("the lease belongs to the new Node", || {
        let lease = site
            .api()
            .get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/outrigger");
        match lease {
            Some(lease) if lease["metadata"]["ownerReferences"][0]["uid"] == uid(&again) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(uid(&site.ready_pod("web")), uid(&pod));
    assert_eq!(site.containers(), running);
    site.nothing_was_forbidden();
}

/// A second kubelet for the same node, with a health port of its own.
fn standby(site: &TestSite) -> Process {
    let directory = site.lab().directory().join("kubelet");
    let config = std::fs::read_to_string(directory.join("kubelet.toml")).unwrap();
    let mut lines: Vec<String> = config.lines().map(str::to_owned).collect();
    let listen = lines
        .iter_mut()
        .find(|line| line.starts_with("listen = "))
        .unwrap();
    *listen = format!("listen = \"{}:0\"", site.lab().address().unwrap());
    let file = directory.join("standby.toml");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let program = Program::new(site.programs().kubelet().unwrap())
        .args(["run", "--config"])
        .arg(file.display().to_string());
    site.lab().spawn("standby", program).unwrap()
}

#[test]
fn a_standby_takes_over() {
    let site = TestSite::start();
    let lease = "/apis/coordination.k8s.io/v1/namespaces/outrigger-system/leases/outrigger-kubelet-outrigger";
    let holder = || site.api().get(lease).unwrap()["spec"]["holderIdentity"].clone();
    let first = holder();
    let second = standby(&site);
    eventually("the second stands by", || {
        let log = std::fs::read_to_string(second.log().unwrap()).unwrap();
        if log.contains("standing by") {
            Ok(())
        } else {
            Err(log)
        }
    });
    site.apply(&deployment(
        "web",
        &[],
        &[server("web", &["http", "--port", "8080"])],
    ));
    let pod = site.ready_pod("web");
    let running = site.containers();
    assert_eq!(holder(), first);

    site.kubelet_process().kill().unwrap();
    within(TAKE_OVER * 5, "the standby leads", || {
        let now = holder();
        if now == first {
            Err(now.to_string())
        } else {
            Ok(())
        }
    });
    // It serves: what the old leader began, the new one ends.
    assert_eq!(uid(&site.ready_pod("web")), uid(&pod));
    assert_eq!(site.containers(), running);
    site.api().patch(
        &path(&site),
        &json!({"metadata": {"labels": {"example.org/after": "takeover"}}}),
    );
    site.kubectl(&["delete", "deployment", "web"]);
    site.no_pod_left("web");
    assert!(site.containers().is_empty());
}
