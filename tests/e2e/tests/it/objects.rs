//! What pods refer to: it reaches the devices that run them, follows its changes there, and nothing else leaves the cluster.

use std::path::PathBuf;

use serde_json::{Value, json};
use site::{DeviceNodes, DeviceSpec};

use crate::support::{
    Instance, TestSite, TestSiteOptions, busybox, condition, eventually, is_ready, pod, reason_of_waiting,
    uid,
};

/// A device with a Node of its own, and one of the fleet.
fn site() -> TestSite {
    TestSite::with(TestSiteOptions {
        devices: vec![
            DeviceSpec::new("press-1", &[("node", "true")]),
            DeviceSpec::new("plain-1", &[]),
        ],
        device_nodes: DeviceNodes::Tagged,
        ..TestSiteOptions::default()
    })
}

/// On this node, with `COLOR` and `/etc/settings` of a config map.
fn reader(name: &str, node: &str, map: &str) -> Value {
    let mut main = busybox("main", "sleep 3600");
    main["env"] = json!([{"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": map, "key": "color"}}}]);
    main["volumeMounts"] = json!([{"name": "settings", "mountPath": "/etc/settings"}]);
    let mut pod = pod(name, &[], &[main]);
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod["spec"]["volumes"] = json!([{"name": "settings", "configMap": {"name": map}}]);
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod
}

fn map(name: &str, color: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"color": color}})
}

/// The one container of a pod, once the pod is Ready.
#[track_caller]
fn running(site: &TestSite, name: &str) -> Instance {
    let pod = eventually(&format!("{name} is Ready"), || {
        let pod = site.pod(name).unwrap();
        if is_ready(&pod) {
            Ok(pod)
        } else {
            Err(pod["status"].to_string())
        }
    });
    let containers = site.containers().of_pod(uid(&pod));
    assert_eq!(containers.0.len(), 1, "{containers:?}");
    containers.0.into_iter().next().unwrap()
}

fn file(container: &Instance) -> String {
    let path = PathBuf::from(format!("/proc/{}/root/etc/settings/color", container.pid));
    std::fs::read_to_string(path).unwrap_or_default()
}

fn variable(container: &Instance) -> String {
    let environment = std::fs::read(format!("/proc/{}/environ", container.pid)).unwrap();
    let text = String::from_utf8_lossy(&environment).into_owned();
    let mut found = text.split('\0').filter_map(|line| line.strip_prefix("COLOR="));
    found.next().unwrap_or_default().to_owned()
}

#[test]
fn a_config_map_reaches_the_devices_that_need_it_and_so_does_its_change() {
    let site = site();
    site.apply(&map("settings", "blue"));
    let nodes = ["press-1", "outrigger"];
    for node in nodes {
        site.apply(&reader(node, node, "settings"));
    }
    let containers = nodes.map(|node| running(&site, node));
    for container in &containers {
        assert_eq!(variable(container), "blue");
        assert_eq!(file(container), "blue");
    }
    site.apply(&map("settings", "green"));
    for (node, container) in nodes.iter().zip(&containers) {
        eventually(&format!("{node} has the change"), || {
            match file(container).as_str() {
                "green" => Ok(()),
                other => Err(other.to_owned()),
            }
        });
        assert_eq!(running(&site, node), *container, "nothing restarted");
        assert_eq!(
            variable(container),
            "blue",
            "a variable is of its container's start"
        );
    }

    site.apply(&reader("early", "press-1", "later"));
    eventually("it waits for what is missing", || {
        let early = site.pod("early").unwrap();
        match reason_of_waiting(&early) {
            "CreateContainerConfigError" | "ContainerCreating"
                if site.containers().of_pod(uid(&early)).is_empty() =>
            {
                Ok(())
            }
            other => Err(format!("{other}: {}", early["status"])),
        }
    });
    site.apply(&map("later", "red"));
    assert_eq!(variable(&running(&site, "early")), "red");
}

#[test]
fn a_secret_never_leaves_in_clear() {
    let site = site();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"pin": "4711"}});
    site.apply(&secret);
    let mut main = busybox("main", "sleep 3600");
    main["envFrom"] = json!([{"secretRef": {"name": "key"}}]);
    let mut keeper = pod("keeper", &[], &[main]);
    keeper["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "press-1"});
    keeper["spec"]["automountServiceAccountToken"] = json!(false);
    site.apply(&keeper);
    eventually("it says what it waits for", || {
        let keeper = site.pod("keeper").unwrap();
        match condition(&keeper, "Ready") {
            ("False", "SecretNotSealed", message) if message.contains("Secret key") => Ok(()),
            _ => Err(keeper["status"].to_string()),
        }
    });
    assert!(site.containers().is_empty());
}
