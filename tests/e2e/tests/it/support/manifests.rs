//! Kubernetes objects as people write them.

use serde_json::{Value, json};

/// A container of the test server, in one of its modes.
pub fn server(name: &str, arguments: &[&str]) -> Value {
    json!({
        "name": name,
        "image": "images.outrigger.local/server:v1",
        "args": arguments,
        "resources": {"limits": {"memory": "64Mi"}},
    })
}

/// A shell that runs a script.
pub fn busybox(name: &str, script: &str) -> Value {
    json!({
        "name": name,
        "image": "images.outrigger.local/busybox:v1",
        "command": ["sh", "-c", script],
    })
}

/// A Deployment of one replica with the label `app=<name>`; the annotations are those of its pods.
pub fn deployment(name: &str, annotations: &[(&str, &str)], containers: &[Value]) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, annotations, containers),
        },
    })
}

pub fn pod(name: &str, annotations: &[(&str, &str)], containers: &[Value]) -> Value {
    let mut pod = template(name, annotations, containers);
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(name);
    pod
}

pub fn job(name: &str, backoff_limit: u32, containers: &[Value]) -> Value {
    let mut template = template(name, &[], containers);
    template["spec"]["restartPolicy"] = json!("Never");
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": backoff_limit, "template": template},
    })
}

/// Tolerated by key, and selected, so that kube-scheduler has only our node to choose.
fn template(name: &str, annotations: &[(&str, &str)], containers: &[Value]) -> Value {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(key, value)| (format!("outrigger.io/{key}"), json!(value)))
        .collect();
    json!({
        "metadata": {"labels": {"app": name}, "annotations": annotations},
        "spec": {
            "nodeSelector": {"type": "virtual-kubelet"},
            "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
            "terminationGracePeriodSeconds": 5,
            "containers": containers,
        },
    })
}
