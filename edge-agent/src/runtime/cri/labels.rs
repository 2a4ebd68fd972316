//! The labels and annotations by which the agent knows its own, and reads back what it wrote.

use std::collections::BTreeMap;

use edge_protocol::v1::ContainerSpec;
use edge_protocol::{DeviceId, Digest, PodUid};

/// Label: the id of the agent that a sandbox or container belongs to. Every list and every action goes by it, because
/// several agents, and strangers, may share one runtime.
const AGENT: &str = "outrigger.io/agent";
/// Annotation: the digest that decides whether a running container must be restarted.
const RESTART_DIGEST: &str = "outrigger.io/restart-digest";

// The kubelet's own keys (pkg/kubelet/types/labels.go), so that crictl and log collectors find their way.
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation: how often the container was restarted, for those who read it there; we read the attempt itself.
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const FALL_BACK_TO_LOG: &str = "FallbackToLogsOnError";

pub(super) type Map = BTreeMap<String, String>;

/// The selector of everything that is this agent's.
pub(super) fn ours(agent: &DeviceId) -> Map {
    Map::from([(AGENT.to_owned(), agent.to_string())])
}

/// The selector of everything of one workload.
pub(super) fn of_workload(agent: &DeviceId, uid: &PodUid) -> Map {
    let mut labels = ours(agent);
    labels.insert(POD_UID.to_owned(), uid.to_string());
    labels
}

/// The selector of all attempts of one container.
pub(super) fn of_container(agent: &DeviceId, uid: &PodUid, name: &str) -> Map {
    let mut labels = of_workload(agent, uid);
    labels.insert(CONTAINER_NAME.to_owned(), name.to_owned());
    labels
}

/// The labels that sandboxes and containers of a workload have in common.
pub(super) fn identity(agent: &DeviceId, uid: &PodUid, namespace: &str, name: &str) -> Map {
    let mut labels = of_workload(agent, uid);
    labels.insert(POD_NAME.to_owned(), name.to_owned());
    labels.insert(POD_NAMESPACE.to_owned(), namespace.to_owned());
    labels
}

/// Adds what only containers have.
pub(super) fn container(mut labels: Map, name: &str) -> Map {
    labels.insert(CONTAINER_NAME.to_owned(), name.to_owned());
    labels
}

pub(super) fn container_annotations(container: &ContainerSpec, attempt: u32) -> Map {
    let mut annotations = Map::from([
        (RESTART_DIGEST.to_owned(), container.restart_digest.to_string()),
        (RESTART_COUNT.to_owned(), attempt.to_string()),
    ]);
    if let Some(message) = &container.termination_message {
        let policy = if message.fall_back_to_log {
            FALL_BACK_TO_LOG
        } else {
            "File"
        };
        annotations.insert(MESSAGE_PATH.to_owned(), message.path.clone());
        annotations.insert(MESSAGE_POLICY.to_owned(), policy.to_owned());
    }
    annotations
}

/// Whether a container has a file for its last words, and then whether its log counts in their stead.
pub(super) fn last_words(annotations: &Map) -> Option<bool> {
    let policy = annotations.get(MESSAGE_POLICY)?;
    Some(policy == FALL_BACK_TO_LOG)
}

pub(super) fn is_ours(labels: &Map, agent: &DeviceId) -> bool {
    labels.get(AGENT).is_some_and(|value| value == agent.as_str())
}

/// The workload that something belongs to; `None` when the label is not one that we wrote.
pub(super) fn uid(labels: &Map) -> Option<PodUid> {
    labels.get(POD_UID)?.parse().ok()
}

pub(super) fn container_name(labels: &Map) -> Option<&str> {
    labels.get(CONTAINER_NAME).map(String::as_str)
}

/// Namespace and name of the workload that something belongs to.
pub(super) fn pod(labels: &Map) -> Option<(&str, &str)> {
    Some((labels.get(POD_NAMESPACE)?, labels.get(POD_NAME)?))
}

/// How people know a container.
pub(super) struct Described {
    /// `name_namespace(uid)`, as the kubelet writes a pod.
    pub(super) pod: String,
    pub(super) container: String,
}

pub(super) fn described(labels: &Map) -> Described {
    let of = |key: &str| labels.get(key).map_or("", String::as_str);
    Described {
        pod: format!("{}_{}({})", of(POD_NAME), of(POD_NAMESPACE), of(POD_UID)),
        container: of(CONTAINER_NAME).to_owned(),
    }
}

pub(super) fn restart_digest(annotations: &Map) -> Option<Digest> {
    annotations.get(RESTART_DIGEST)?.parse().ok()
}
