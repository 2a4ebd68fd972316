//! What pods refer to: it reaches the devices that run them, follows its changes there, and nothing else leaves the cluster.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use site::{DeviceNodes, DeviceSpec};

use crate::support::{TestSite, TestSiteOptions, busybox, eventually, pod, reason_of_waiting, uid};

/// Of a [`reader`].
const SETTING: &str = "/etc/settings/color";

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

#[test]
fn a_config_map_reaches_the_devices_that_need_it_and_so_does_its_change() {
    let site = site();
    site.apply(&map("settings", "blue"));
    let nodes = ["press-1", "outrigger"];
    for node in nodes {
        site.apply(&reader(node, node, "settings"));
    }
    let containers = nodes.map(|node| site.running(node));
    for container in &containers {
        assert_eq!(container.variable("COLOR"), "blue");
        assert_eq!(container.file(SETTING), "blue");
    }
    site.apply(&map("settings", "green"));
    for (node, container) in nodes.iter().zip(&containers) {
        eventually(&format!("{node} has the change"), || {
            match container.file(SETTING).as_str() {
                "green" => Ok(()),
                other => Err(other.to_owned()),
            }
        });
        assert_eq!(site.running(node), *container, "nothing restarted");
        assert_eq!(
            container.variable("COLOR"),
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
    assert_eq!(site.running("early").variable("COLOR"), "red");
}

/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Too odd to be anywhere by chance.
const PIN: &str = "swordfish-4711-mellow";
/// The same in base64.
const PIN_ENCODED: &str = "c3dvcmRmaXNoLTQ3MTEtbWVsbG93";
const NEXT_PIN: &str = "stickleback-1174-merry";
const OPEN: &str = "herring-0815-plain";

fn secret(pin: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"pin": pin}})
}

/// A pod with the secret in a variable and in a file, and beside it something that is no secret.
fn keeper(node: &str) -> Value {
    let mut main = busybox("main", "sleep 3600");
    main["env"] = json!([{"name": "PIN", "valueFrom": {"secretKeyRef": {"name": "key", "key": "pin"}}}]);
    main["envFrom"] = json!([{"configMapRef": {"name": "open"}}]);
    main["volumeMounts"] = json!([{"name": "key", "mountPath": "/etc/key"}]);
    let mut pod = pod(&format!("keeper-{node}"), &[], &[main]);
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod["spec"]["volumes"] = json!([{"name": "key", "secret": {"secretName": "key"}}]);
    pod
}

/// Whether any of the files of which a database consists holds the text.
fn holds(database: &Path, text: &str) -> bool {
    let name = database.file_name().unwrap().to_str().unwrap();
    let files = std::fs::read_dir(database.parent().unwrap()).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let files: Vec<PathBuf> = files
        .filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with(name))
        .collect();
    assert!(!files.is_empty(), "{}", database.display());
    files.iter().any(|file| {
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn a_secret_never_leaves_in_clear() {
    let site = site();
    site.apply(&secret(PIN));
    site.apply(
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "open"}, "data": {"OPEN": OPEN}}),
    );
    let nodes = ["press-1", "outrigger"];
    for node in nodes {
        site.apply(&keeper(node));
    }
    let containers = nodes.map(|node| site.running(&format!("keeper-{node}")));
    for container in &containers {
        assert_eq!(container.variable("PIN"), PIN);
        assert_eq!(container.file("/etc/key/pin"), PIN);
    }
    site.apply(&secret(NEXT_PIN));
    for (node, container) in nodes.iter().zip(&containers) {
        eventually(&format!("{node} has the change"), || {
            match container.file("/etc/key/pin").as_str() {
                NEXT_PIN => Ok(()),
                other => Err(other.to_owned()),
            }
        });
        let after = site.running(&format!("keeper-{node}"));
        assert_eq!(after, *container, "nothing restarted");
    }

    let token = containers[0].file(&format!("{ACCOUNT}/token"));
    assert_eq!(token.split('.').count(), 3, "a token of the pod's own: {token:?}");
    assert!(
        containers[0]
            .file(&format!("{ACCOUNT}/ca.crt"))
            .contains("BEGIN CERTIFICATE")
    );
    assert_eq!(containers[0].file(&format!("{ACCOUNT}/namespace")), "default");
    // The end of it: a database may split what is long.
    let token = &token[token.len() - 64..];

    let hub = site.lab().directory().join("hub/state/hub.db");
    let agents = ["press-1", "plain-1"].map(|name| {
        let device = site.device(name).unwrap();
        device.directory().join("agent/state/agent.db")
    });
    for database in [&hub].into_iter().chain(&agents) {
        assert!(
            holds(database, OPEN),
            "what is no secret is found: {}",
            database.display()
        );
        for secret in [PIN, PIN_ENCODED, NEXT_PIN, token] {
            assert!(!holds(database, secret), "{secret:?} in {}", database.display());
        }
    }
}
