//! A real kubelet drives a device through CRI: that proves sandbox image, pod network, host ports, routes and cgroups.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use lab::{ControlPlaneOptions, DeviceOptions, LabOptions, until};
use serde_json::json;

use crate::devices::traces;
use crate::{fetch, start};

const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn a_real_kubelet_runs_a_pod_that_the_machine_reaches_by_pod_address_and_host_port() {
    let (directory, lab) = start(|options| LabOptions {
        control_plane: Some(ControlPlaneOptions::default()),
        devices: vec![DeviceOptions::named("worker")],
        ..options
    });
    let (cluster, device) = (lab.control_plane().unwrap(), lab.device("worker").unwrap());
    cluster.start_kubelet(&device).unwrap();

    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": { "containers": [{
            "name": "web",
            "image": lab.registry().unwrap().reference("server", "v2"),
            "ports": [{ "containerPort": 8080, "hostPort": 9090 }],
            "resources": { "limits": { "memory": "32Mi" } },
        }] },
    });
    let file = directory.path().join("pod.json");
    std::fs::write(&file, pod.to_string()).unwrap();
    cluster.kubectl(["apply", "-f", file.to_str().unwrap()]).unwrap();
    cluster
        .kubectl(["wait", "--for=condition=Ready", "pod/web", "--timeout=50s"])
        .unwrap();

    let address = cluster
        .kubectl(["get", "pod", "web", "-o", "jsonpath={.status.podIP}"])
        .unwrap()
        .stdout;
    let address: IpAddr = address.parse().unwrap();
    let answers = |server: SocketAddr| fetch(server).is_some_and(|answer| answer.contains("version v2"));
    until("the pod answers", LIMIT, || {
        Ok(answers(SocketAddr::from((address, 8080))))
    })
    .unwrap();
    until("the host port answers", LIMIT, || {
        Ok(answers(SocketAddr::from((device.address(), 9090))))
    })
    .unwrap();
    assert!(
        cluster
            .kubectl(["logs", "web"])
            .unwrap()
            .stdout
            .contains("listening on port 8080")
    );
    let pods = Path::new("/sys/fs/cgroup/memory")
        .join(device.cgroup_parent().trim_start_matches('/'))
        .join("kubepods");
    assert!(pods.exists() || !Path::new("/sys/fs/cgroup/memory").exists());

    device.purge().unwrap();
    assert_eq!(traces(&device), Vec::<String>::new());
    assert!(fetch(SocketAddr::from((address, 8080))).is_none());
}
