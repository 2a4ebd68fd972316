//! What a device tells of an event, in the words of a kubelet.

use edge_protocol::v1::{DeviceEvent, Reason};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::Serialize;

/// `podResourceSummary` of `pkg/kubelet/events/resize.go`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Allocated<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Allocated<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Serialize)]
struct Allocated<'a> {
    name: &'a str,
    resources: ResourceRequirements,
}

/// The message of an event, with what a kubelet adds to it from the pod as it is now: of a resize, all its resources (`podResizeMessage`). Without the
/// pod, or of another event, it is what the device said.
pub fn message(event: &DeviceEvent, pod: Option<&Pod>) -> String {
    let said = event.message.as_str();
    let found = match event.reason {
        Reason::ResizeStarted => Some(("Pod resize started".to_owned(), "")),
        Reason::ResizeCompleted => Some(("Pod resize completed".to_owned(), "")),
        Reason::ResizeError => Some(("Pod resize error".to_owned(), said)),
        Reason::ResizeDeferred => event.cause.map(|cause| (format!("Pod resize {cause}"), said)),
        _ => None,
    };
    found
        .zip(pod)
        .and_then(|((prefix, error), pod)| Some(format!("{prefix}: {}", summary(pod, error)?)))
        .unwrap_or_else(|| said.to_owned())
}

/// Which part of the pod an event of this container is about: `fieldPath` of `pkg/kubelet/container/ref.go`. `None` without the pod, or when it has
/// no such container.
pub fn field_path(container: Option<&str>, pod: Option<&Pod>) -> Option<String> {
    let (name, spec) = (container?, pod?.spec.as_ref()?);
    let named = |list: &[Container]| list.iter().any(|container| container.name == name);
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let list = if named(&spec.containers) {
        "containers"
    } else if named(spec.init_containers.as_deref().unwrap_or_default()) {
        "initContainers"
    } else if ephemeral.into_iter().any(|container| container.name == name) {
        "ephemeralContainers"
    } else {
        return None;
    };
    Some(format!("spec.{list}{{{name}}}"))
}

fn summary(pod: &Pod, error: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let summary = Summary {
        init_containers: spec.init_containers.iter().flatten().map(allocated).collect(),
        containers: spec.containers.iter().map(allocated).collect(),
        generation: pod.metadata.generation.unwrap_or_default(),
        error,
    };
    serde_json::to_string(&summary).ok()
}

fn allocated(container: &Container) -> Allocated<'_> {
    Allocated {
        name: &container.name,
        resources: container.resources.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use edge_protocol::BootId;
    use edge_protocol::DeviceTime;
    use edge_protocol::v1::EventLevel;
    use serde::Deserialize as _;
    use serde_json::json;

    use super::*;

    fn event(reason: Reason, message: &str) -> DeviceEvent {
        DeviceEvent {
            seq: 1,
            at: DeviceTime {
                boot_id: serde_json::from_value::<BootId>(json!("00000000-0000-4000-8000-000000000000"))
                    .unwrap(),
                mono_ms: 0,
                wall_ms: 0,
                wall_trusted: true,
            },
            uid: "u1".parse().unwrap(),
            container: None,
            level: EventLevel::Normal,
            reason,
            cause: (reason == Reason::ResizeDeferred).then_some(Reason::OutOfcpu),
            message: message.to_owned(),
        }
    }

    /// The messages are those of `allocation_manager_test.go` and `resize_test.go` of Kubernetes 1.37.
    #[test]
    fn a_resize_is_told_with_all_its_resources() {
        let pod = Pod::deserialize(json!({
            "metadata": { "generation": 2 },
            "spec": { "containers": [{ "name": "c1", "resources": { "requests": { "memory": "4500Mi", "cpu": "5" } } }] },
        }))
        .unwrap();
        let no_room = "Node didn't have enough resource: cpu, requested: 5000, used: 0, capacity: 4000";
        let asked = r#"{"containers":[{"name":"c1","resources":{"requests":{"cpu":"5","memory":"4500Mi"}}}],"generation":2"#;
        for (event, expect) in [
            (
                event(Reason::ResizeDeferred, no_room),
                format!(r#"Pod resize OutOfcpu: {asked},"error":"{no_room}"}}"#),
            ),
            (
                event(Reason::ResizeStarted, "…"),
                format!("Pod resize started: {asked}}}"),
            ),
            (
                event(Reason::ResizeCompleted, "…"),
                format!("Pod resize completed: {asked}}}"),
            ),
            (
                event(Reason::ResizeError, "busy"),
                format!(r#"Pod resize error: {asked},"error":"busy"}}"#),
            ),
            (event(Reason::Killing, "Stopping"), "Stopping".to_owned()),
        ] {
            assert_eq!(message(&event, Some(&pod)), expect);
            assert_eq!(message(&event, None), event.message);
        }
    }

    #[test]
    fn containers_without_resources_are_named_and_initial_ones_apart() {
        let pod = Pod::deserialize(json!({
            "metadata": {},
            "spec": {
                "initContainers": [{ "name": "i1", "resources": { "limits": { "cpu": "1" }, "requests": { "cpu": "1" } } }],
                "containers": [{ "name": "c1" }],
            },
        }))
        .unwrap();
        assert_eq!(
            message(&event(Reason::ResizeStarted, ""), Some(&pod)),
            r#"Pod resize started: {"initContainers":[{"name":"i1","resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}}}],"containers":[{"name":"c1","resources":{}}],"generation":0}"#
        );
    }

    #[test]
    fn an_event_of_a_container_says_in_which_list_it_is() {
        let pod = Pod::deserialize(json!({
            "metadata": {},
            "spec": {
                "containers": [{ "name": "c1" }], "initContainers": [{ "name": "i1" }], "ephemeralContainers": [{ "name": "e1" }],
            },
        }))
        .unwrap();
        for (name, expect) in [
            (Some("c1"), Some("spec.containers{c1}")),
            (Some("i1"), Some("spec.initContainers{i1}")),
            (Some("e1"), Some("spec.ephemeralContainers{e1}")),
            (Some("x1"), None),
            (None, None),
        ] {
            assert_eq!(field_path(name, Some(&pod)).as_deref(), expect);
            assert_eq!(field_path(name, None), None);
        }
    }
}
