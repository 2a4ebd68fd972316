//! What this crate reads of a pod's object. Pure.

use serde_json::{Value, json};

use crate::provider::{Pod, PodTarget};

pub(crate) fn target(pod: &Pod) -> PodTarget {
    let metadata = |name: &str| pod["metadata"][name].as_str().unwrap_or_default().to_owned();
    PodTarget {
        namespace: metadata("namespace"),
        name: metadata("name"),
        uid: metadata("uid"),
    }
}

fn all_containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .filter_map(|kind| pod["spec"][kind].as_array())
        .flatten()
}

/// The spec of a container of any kind (`kubecontainer.GetContainerSpec`).
pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    all_containers(pod).find(|container| container["name"] == name)
}

/// Whether the pod declares this port, and not for TCP.
pub(crate) fn declares_only_others(pod: &Value, port: u16) -> Option<String> {
    let mut found = None;
    for declared in all_containers(pod)
        .filter_map(|container| container["ports"].as_array())
        .flatten()
    {
        if declared["containerPort"] == port {
            match declared["protocol"].as_str() {
                None | Some("" | "TCP") => return None,
                Some(protocol) => found = Some(protocol.to_owned()),
            }
        }
    }
    found
}

pub(crate) fn list(pods: &[Pod]) -> Value {
    let items: Vec<&Value> = pods.iter().map(AsRef::as_ref).collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_declared_for_another_protocol_alone_are_told_apart() {
        let pod = json!({"spec": {
            "containers": [
                {"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 80}]},
                {"name": "b", "ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 5060, "protocol": "UDP"}]}],
            "ephemeralContainers": [{"name": "debug"}],
        }});
        let only = |port| declares_only_others(&pod, port);
        assert_eq!((only(53), only(80), only(9)), (None, None, None));
        assert_eq!(only(5060).as_deref(), Some("UDP"));
        assert!(container(&pod, "debug").is_some() && container(&pod, "c").is_none());
    }
}
