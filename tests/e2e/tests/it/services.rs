//! Devices often have the same private subnet: a Service must never send traffic to a stranger's pod.

use lab::PodSubnet;
use serde_json::{Value, json};
use site::{DeviceNodes, DeviceSpec};

use crate::support::{TestSite, TestSiteOptions, eventually, is_ready, pod, server};

const ADDRESS: &str = "outrigger.io/podIP";
/// Outside of what the site's configuration calls routable.
const PRIVATE: &str = "192.168.77.0/24";

/// The addresses that a Service leads to, ready or not.
fn endpoints(site: &TestSite, service: &str) -> Vec<String> {
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{service}"
    );
    let slices = site.api().list(&path);
    let endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array());
    let addresses = endpoints
        .flatten()
        .filter_map(|each| each["addresses"].as_array());
    let addresses = addresses.flatten().filter_map(Value::as_str);
    addresses.map(str::to_owned).collect()
}

fn shop_on(device: &str) -> Value {
    let mut pod = pod(device, &[], &[server("main", &["http", "--port", "8080"])]);
    pod["metadata"]["labels"] = json!({"app": "shop"});
    pod["spec"]["nodeName"] = json!(device);
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod
}

#[test]
fn a_service_leads_to_no_pod_whose_address_another_device_has_too() {
    let device = |name: &str, pod_subnet| DeviceSpec {
        pod_subnet,
        ..DeviceSpec::new(name, &[("node", "true")])
    };
    let private = || PodSubnet::Private(PRIVATE.to_owned());
    let site = TestSite::with(TestSiteOptions {
        devices: vec![
            device("near-1", PodSubnet::Routed),
            device("far-1", private()),
            device("far-2", private()),
        ],
        device_nodes: DeviceNodes::Tagged,
        ..TestSiteOptions::default()
    });
    let devices = ["near-1", "far-1", "far-2"];
    for device in devices {
        eventually(&format!("{device} is a Ready Node"), || {
            let node = site.api().get(&format!("/api/v1/nodes/{device}"));
            let ready = node.as_ref().is_some_and(is_ready);
            ready.then_some(()).ok_or_else(|| format!("{node:?}"))
        });
    }
    site.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "namespace": "default"},
        "spec": {"selector": {"app": "shop"}, "publishNotReadyAddresses": true, "ports": [{"port": 80, "targetPort": 8080}]},
    }));
    for device in devices {
        site.apply(&shop_on(device));
    }
    let pods = devices.map(|name| {
        eventually(
            &format!("the pod on {name} is Ready and its address known"),
            || {
                let pod = site.pod(name).unwrap_or_default();
                let known =
                    pod["status"]["podIP"].is_string() || pod["metadata"]["annotations"][ADDRESS].is_string();
                (is_ready(&pod) && known)
                    .then(|| pod.clone())
                    .ok_or_else(|| pod.to_string())
            },
        )
    });
    let [near, far, other] = &pods;
    let address = near["status"]["podIP"]
        .as_str()
        .expect("an address that is routable");
    assert!(near["metadata"]["annotations"][ADDRESS].is_null(), "{near}");
    let annotation = |pod: &Value| pod["metadata"]["annotations"][ADDRESS].clone();
    for pod in [far, other] {
        assert!(
            pod["status"]["podIP"].is_null() && pod["status"]["podIPs"].is_null(),
            "{pod}"
        );
        let prefix = PRIVATE.trim_end_matches("0/24");
        assert!(
            annotation(pod)
                .as_str()
                .is_some_and(|address| address.starts_with(prefix)),
            "{pod}"
        );
    }
    // Or the two say nothing of each other.
    assert_eq!(annotation(far), annotation(other));
    eventually("the Service leads to the one pod that can be reached", || {
        let found = endpoints(&site, "shop");
        (found == [address])
            .then_some(())
            .ok_or_else(|| format!("{found:?}"))
    });
    site.nothing_was_forbidden();
}
