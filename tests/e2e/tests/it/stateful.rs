//! Acceptance 2 of the issue: a StatefulSet's claim is bound to a disk of the device, and what it wrote there outlives pods, agents and boots.

use lab::Device;
use serde_json::{Value, json};
use site::{DeviceNodes, DeviceSpec};

use crate::support::{Instance, TestSite, TestSiteOptions, busybox, eventually, is_ready, restarts, uid};

const DEVICE: &str = "press-1";
const POD: &str = "store-0";
/// A line for each start of the container.
const STARTS: &str = "/data/starts";
const KEY: &str = "/etc/key/pin";

fn class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "device-disk"},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

/// A directory of the device's own disk, as an administrator offers it.
fn disk(device: &Device) -> Value {
    let path = device.directory().join("disk");
    std::fs::create_dir_all(&path).unwrap();
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [DEVICE]});
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "press-1-disk"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "device-disk",
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    })
}

fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"pin": "4711"}})
}

/// The volume alone says where it runs.
fn store() -> Value {
    let script = format!("echo $POD_UID >> {STARTS}; exec sleep 3600");
    let mut main = busybox("main", &script);
    main["env"] = json!([{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]);
    main["volumeMounts"] = json!([
        {"name": "data", "mountPath": "/data"},
        {"name": "key", "mountPath": "/etc/key"},
    ]);
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "store"},
        "spec": {
            "serviceName": "store",
            "replicas": 1,
            "selector": {"matchLabels": {"app": "store"}},
            "template": {
                "metadata": {"labels": {"app": "store"}},
                "spec": {
                    "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
                    "terminationGracePeriodSeconds": 1,
                    "containers": [main],
                    "volumes": [{"name": "key", "secret": {"secretName": "key"}}],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "device-disk",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }],
        },
    })
}

/// The pod's container, once it has been started this often by the word of its own data; and by which pods.
#[track_caller]
fn started(site: &TestSite, times: usize) -> (Instance, Vec<String>) {
    eventually(&format!("{POD} was started {times} times and is Ready"), || {
        let pod = site.pod(POD).filter(is_ready).ok_or("not Ready")?;
        let containers = site.containers().of_pod(uid(&pod));
        let container = containers.0.into_iter().next().ok_or("no container")?;
        let starts: Vec<String> = container.file(STARTS).lines().map(ToOwned::to_owned).collect();
        if starts.len() == times && container.file(KEY) == "4711" {
            Ok((container, starts))
        } else {
            Err(format!("{starts:?}"))
        }
    })
}

/// What is mounted below the device's directory.
fn mounts(device: &Device) -> Vec<String> {
    let below = device.directory().display().to_string();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let lines = mounts.lines().filter(|line| line.contains(&below));
    lines.map(ToOwned::to_owned).collect()
}

#[test]
fn a_stateful_set_keeps_its_data_over_pods_agents_and_boots() {
    let site = TestSite::with(TestSiteOptions {
        devices: vec![
            DeviceSpec::new(DEVICE, &[("node", "true")]),
            DeviceSpec::new("press-2", &[("node", "true")]),
        ],
        device_nodes: DeviceNodes::Tagged,
        ..TestSiteOptions::default()
    });
    let device = site.device(DEVICE).unwrap();
    for object in [class(), disk(&device), secret(), store()] {
        site.apply(&object);
    }
    let (first, starts) = started(&site, 1);
    assert_eq!((first.device.as_str(), starts), (DEVICE, vec![first.uid.clone()]));

    site.kubectl(&["delete", "pod", POD]);
    let (second, starts) = started(&site, 2);
    assert_eq!(starts, [first.uid.as_str(), &second.uid]);
    assert_ne!(first.uid, second.uid, "the controller made another");
    assert_eq!(second.device, DEVICE);

    let agent = site.agent_process(DEVICE).unwrap();
    agent.kill().unwrap();
    agent.start().unwrap();
    let (third, starts) = started(&site, 2);
    assert_eq!(
        (&third, starts.len()),
        (&second, 2),
        "nothing restarts with the agent"
    );

    let boot = std::fs::read_to_string(device.boot_id_file()).unwrap();
    let tmpfs = |line: &String| line.starts_with("tmpfs ") || line.starts_with("outrigger ");
    assert!(mounts(&device).iter().any(tmpfs), "{:?}", mounts(&device));
    device.power_cut().unwrap();
    assert_eq!(mounts(&device), [""; 0], "a reboot leaves no mount");
    assert_ne!(std::fs::read_to_string(device.boot_id_file()).unwrap(), boot);
    device.start().unwrap();
    agent.start().unwrap();
    let (fourth, starts) = started(&site, 3);
    assert_eq!(starts, [first.uid.as_str(), &second.uid, &second.uid]);
    assert_eq!(fourth.uid, second.uid, "the same pod goes on");
    eventually("its restart is told", || {
        match restarts(&site.pod(POD).unwrap()) {
            1 => Ok(()),
            other => Err(format!("{other}")),
        }
    });
}
