//! Acceptance 4 of device nodes: what Kubernetes' scheduler and controllers, and people who maintain nodes, do with three of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use site::{DeviceNodes, DeviceSpec};

use crate::support::{
    Change, TestSite, TestSiteOptions, busybox, deployment, eventually, is_ready, name, server, throughout,
    uid,
};

const PRESSES: [&str; 3] = ["press-1", "press-2", "press-3"];
/// Long enough for a controller that wants to, to put something on a node.
const WATCHED: Duration = Duration::from_secs(10);

/// Three devices, each a Node, all of them Ready.
fn site() -> TestSite {
    let own = |name: &&str| DeviceSpec::new(*name, &[("node", "true")]);
    let site = TestSite::with(TestSiteOptions {
        devices: PRESSES.iter().map(own).collect(),
        device_nodes: DeviceNodes::Tagged,
        ..TestSiteOptions::default()
    });
    eventually("all three are Ready Nodes", || {
        let nodes = site.api().list("/api/v1/nodes");
        let ready: Vec<&str> = nodes.iter().filter(|node| is_ready(node)).map(name).collect();
        if PRESSES.iter().all(|press| ready.contains(press)) {
            Ok(())
        } else {
            Err(format!("{ready:?}"))
        }
    });
    site
}

/// For devices only, not for the node that stands for the fleet: that one has the same taint.
fn on_devices(mut workload: Value) -> Value {
    workload["spec"]["template"]["spec"]["nodeSelector"] = json!({"tag.outrigger.io/node": "true"});
    workload
}

fn daemon_set(name: &str, container: &Value) -> Value {
    let mut set = on_devices(deployment(name, &[], std::slice::from_ref(container)));
    set["kind"] = json!("DaemonSet");
    let spec = set["spec"].as_object_mut().unwrap();
    spec.remove("replicas");
    spec.insert(
        "updateStrategy".to_owned(),
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}),
    );
    set
}

/// Evenly over the nodes that take pods.
fn spread(name: &str, replicas: u32, container: &Value) -> Value {
    let mut workload = on_devices(deployment(name, &[], std::slice::from_ref(container)));
    workload["spec"]["replicas"] = json!(replicas);
    workload["spec"]["template"]["spec"]["topologySpreadConstraints"] = json!([{
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": {"app": name}},
    }]);
    workload
}

fn stateful_set(name: &str, replicas: u32, container: &Value) -> Value {
    let mut set = spread(name, replicas, container);
    set["kind"] = json!("StatefulSet");
    set["spec"]["serviceName"] = json!(name);
    set
}

/// Ends 4 s after it is told to, and leaves a mark then.
fn takes_its_time(marks: &Path) -> (Value, Value) {
    let script = "trap 'sleep 4; touch /marks/$(hostname); exit 0' TERM; while true; do sleep 0.2; done";
    let mut container = busybox("main", script);
    container["volumeMounts"] = json!([{"name": "marks", "mountPath": "/marks"}]);
    let volume = json!({"name": "marks", "hostPath": {"path": marks.display().to_string()}});
    (container, volume)
}

fn marks(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Pods by the node that they are on.
fn by_node(pods: &[Value]) -> BTreeMap<&str, Vec<&Value>> {
    let mut nodes: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for pod in pods {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        nodes.entry(node).or_default().push(pod);
    }
    nodes
}

/// Waits until these nodes, and no others, have this many pods of an app each, all Ready.
#[track_caller]
fn ready_on(site: &TestSite, app: &str, expected: &[(&str, usize)]) -> Vec<Value> {
    let expected: BTreeMap<&str, usize> = expected.iter().copied().collect();
    eventually(&format!("{app} is Ready on {expected:?}"), || {
        let pods = site.pods(app);
        let counts = by_node(&pods).into_iter().map(|(node, pods)| (node, pods.len()));
        let counts: BTreeMap<&str, usize> = counts.collect();
        let settled = |pod: &Value| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null();
        if counts == expected && pods.iter().all(settled) {
            Ok(pods)
        } else {
            Err(format!(
                "{counts:?}, {:?}",
                pods.iter()
                    .map(|pod| (name(pod), &pod["status"]))
                    .collect::<Vec<_>>()
            ))
        }
    })
}

fn uids(pods: &[Value]) -> BTreeSet<String> {
    pods.iter().map(|pod| uid(pod).to_owned()).collect()
}

/// Who does not tolerate what a person tainted goes, and not only from the API.
fn taint_drives_away(site: &TestSite) {
    site.kubectl(&["taint", "node", "press-3", "maintenance=now:NoExecute"]);
    eventually("nothing of the shop runs on press-3", || {
        let running = site.containers().of_app("shop").on("press-3");
        let pods = site.pods("shop");
        if running.is_empty() && !by_node(&pods).contains_key("press-3") {
            Ok(())
        } else {
            Err(format!("{running:?} {:?}", by_node(&pods).get("press-3")))
        }
    });
}

#[test]
fn workloads_are_placed_and_nodes_are_maintained_as_on_any_cluster() {
    let site = site();
    let scratch = tempfile::tempdir().unwrap();
    let web = server("web", &["http", "--port", "8080"]);
    site.apply(&daemon_set("probe", &web));
    let mut greedy = daemon_set("greedy", &web);
    greedy["spec"]["template"]["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    site.apply(&greedy);
    site.apply(&stateful_set("store", 2, &web));
    let (container, volume) = takes_its_time(scratch.path());
    let mut shop = spread("shop", 3, &container);
    let template = &mut shop["spec"]["template"]["spec"];
    template["volumes"] = json!([volume]);
    template["terminationGracePeriodSeconds"] = json!(30);
    site.apply(&shop);

    let probes = ready_on(&site, "probe", &PRESSES.map(|press| (press, 1)));
    let shops = ready_on(&site, "shop", &PRESSES.map(|press| (press, 1)));
    let stores = eventually("both of the store are Ready", || {
        let pods = site.pods("store");
        let ready: Vec<&str> = pods.iter().filter(|pod| is_ready(pod)).map(name).collect();
        if ready == ["store-0", "store-1"] {
            Ok(pods)
        } else {
            Err(format!("{ready:?}"))
        }
    });
    assert_eq!(by_node(&stores).len(), 2, "spread, as they ask to be");

    // Those that tolerate everything are bound by their controller, and refused by name.
    eventually("the greedy ones are refused on each", || {
        let pods = site.pods("greedy");
        let refused = |pod: &&Value| pod["status"]["reason"] == "TaintNotAcknowledged";
        match pods.iter().filter(refused).count() {
            3 => Ok(()),
            _ => Err(format!("{pods:?}")),
        }
    });
    assert!(site.containers().of_app("greedy").is_empty());
    site.kubectl(&["delete", "daemonset", "greedy"]);
    site.no_pod_left("greedy");

    // Drained: its own stays, the others move, and each has the time that it was promised.
    let before = site.containers();
    let drained: Vec<&Value> = shops
        .iter()
        .filter(|pod| pod["spec"]["nodeName"] == "press-1")
        .collect();
    assert!(marks(scratch.path()).is_empty());
    site.kubectl(&["drain", "press-1", "--ignore-daemonsets", "--timeout=50s"]);
    let expected: BTreeSet<String> = drained.iter().map(|pod| name(pod).to_owned()).collect();
    assert_eq!(
        marks(scratch.path()),
        expected,
        "it ended by itself, in its own time"
    );
    let moved = eventually("three of the shop are Ready, none on press-1", || {
        let pods = site.pods("shop");
        let settled = pods.iter().filter(|pod| is_ready(pod)).count() == 3 && pods.len() == 3;
        if settled && !by_node(&pods).contains_key("press-1") {
            Ok(pods)
        } else {
            Err(format!("{:?}", by_node(&pods)))
        }
    });
    let stay = uids(&shops).intersection(&uids(&moved)).count();
    assert_eq!(stay, 2, "those on other nodes were not touched");
    ready_on(&site, "store", &[("press-2", 1), ("press-3", 1)]);
    let kept = ready_on(&site, "probe", &PRESSES.map(|press| (press, 1)));
    assert_eq!(uids(&kept), uids(&probes));
    let after = site.containers();
    assert_eq!(
        after.of_app("probe"),
        before.of_app("probe"),
        "not even restarted"
    );
    assert_eq!(after.on("press-1"), before.of_app("probe").on("press-1"));

    // Cordoned: nothing new, and what is there stays.
    site.kubectl(&["cordon", "press-2"]);
    let before = site.containers().on("press-2");
    site.kubectl(&["scale", "deployment", "shop", "--replicas", "5"]);
    let more = eventually("five of the shop are Ready", || {
        let pods = site.pods("shop");
        match pods.iter().filter(|pod| is_ready(pod)).count() {
            5 => Ok(pods),
            _ => Err(format!("{:?}", by_node(&pods))),
        }
    });
    let new = more.iter().filter(|pod| !uids(&moved).contains(uid(pod)));
    let places: BTreeSet<&str> = new.filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    assert_eq!(places, BTreeSet::from(["press-3"]));
    throughout(WATCHED, "it is cordoned", &before, || {
        site.containers().on("press-2")
    });

    // Uncordoned, they take pods again: an even spread needs them.
    site.kubectl(&["uncordon", "press-1", "press-2"]);
    site.kubectl(&["scale", "deployment", "shop", "--replicas", "6"]);
    eventually("press-1 has one of the shop", || {
        let pods = site.pods("shop");
        let back = by_node(&pods).remove("press-1").unwrap_or_default();
        match back.as_slice() {
            [pod] if is_ready(pod) => Ok(()),
            _ => Err(format!("{back:?}")),
        }
    });

    taint_drives_away(&site);
    site.nothing_was_forbidden();
}

#[test]
fn a_daemon_set_is_updated_one_node_at_a_time() {
    let site = site();
    let container = |version: &str| {
        let mut web = server("web", &["http", "--port", "8080"]);
        web["env"] = json!([{"name": "VERSION", "value": version}]);
        web["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1});
        web
    };
    site.apply(&daemon_set("probe", &container("1")));
    let first = ready_on(&site, "probe", &PRESSES.map(|press| (press, 1)));

    let recording = site
        .api()
        .record("/api/v1/namespaces/default/pods?labelSelector=app%3Dprobe");
    eventually("the watch has begun", || match recording.changes().len() {
        3.. => Ok(()),
        seen => Err(seen.to_string()),
    });
    site.apply(&daemon_set("probe", &container("2")));
    site.kubectl(&["rollout", "status", "daemonset/probe", "--timeout=55s"]);
    let last = ready_on(&site, "probe", &PRESSES.map(|press| (press, 1)));
    assert!(uids(&first).is_disjoint(&uids(&last)));
    assert!(
        last.iter()
            .all(|pod| pod["spec"]["containers"][0]["env"][0]["value"] == "2")
    );

    let states = ready_nodes(&recording.changes()[..]);
    let fewest = states.iter().skip(3).map(BTreeSet::len).min().unwrap();
    assert_eq!(fewest, 2, "one at a time, and one there was: {states:?}");
    let running = site.containers();
    assert!(first.iter().all(|pod| running.of_pod(uid(pod)).is_empty()));
    running.of_app("probe").are_on(&PRESSES, 1).unwrap();
    site.nothing_was_forbidden();
}

/// After each change, the nodes with a pod that is Ready and not being deleted.
fn ready_nodes(changes: &[Change]) -> Vec<BTreeSet<String>> {
    let mut ready: BTreeMap<String, String> = BTreeMap::new();
    changes
        .iter()
        .map(|change| {
            match change {
                Change::Is(pod) if is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null() => {
                    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
                    ready.insert(uid(pod).to_owned(), node.to_owned());
                }
                Change::Is(pod) | Change::Gone(pod) => drop(ready.remove(uid(pod))),
            }
            ready.values().cloned().collect()
        })
        .collect()
}
