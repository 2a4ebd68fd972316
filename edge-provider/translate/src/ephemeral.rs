//! Containers that are added to a pod which runs, as containers.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, PodSpec};

/// The pod's ephemeral containers in its order, each as the container that it is apart from its target (`v1.Container(EphemeralContainerCommon)` in
/// `pkg/kubelet/kubelet_pods.go`).
pub(crate) fn containers(spec: &PodSpec) -> Vec<Container> {
    let added = spec.ephemeral_containers.iter().flatten();
    added.map(container).collect()
}

/// Without what the API server lets no such container have (`allowedEphemeralContainerFields` of
/// `pkg/apis/core/validation/validation.go`) and the tables refuse.
pub(crate) fn container(added: &EphemeralContainer) -> Container {
    let added = added.clone();
    Container {
        args: added.args,
        command: added.command,
        env: added.env,
        env_from: added.env_from,
        image: added.image,
        image_pull_policy: added.image_pull_policy,
        name: added.name,
        security_context: added.security_context,
        stdin: added.stdin,
        stdin_once: added.stdin_once,
        termination_message_path: added.termination_message_path,
        termination_message_policy: added.termination_message_policy,
        tty: added.tty,
        volume_devices: added.volume_devices,
        volume_mounts: added.volume_mounts,
        working_dir: added.working_dir,
        ..Container::default()
    }
}
