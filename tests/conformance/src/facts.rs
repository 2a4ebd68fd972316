//! What can be seen of a case on one side, as flat facts, with what differs by nature masked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use crate::ConformanceError;
use crate::cluster::Cluster;
use crate::side::Side;

/// Facts by path: `pod.status.phase`, `pod.status.conditions[Ready].status`, `pod.log[main]`, `pod.events`.
pub type Facts = BTreeMap<String, String>;

/// Keys by which a list is a map.
const LIST_KEYS: [&str; 4] = ["type", "name", "ip", "mountPath"];
/// Moments: that one is there counts, which one does not.
const TIMES: [&str; 6] = [
    "startTime",
    "startedAt",
    "finishedAt",
    "lastTransitionTime",
    "lastProbeTime",
    "deletionTimestamp",
];
/// The volume of a pod's token gets a name of this beginning and five letters (`plugin/pkg/admission/serviceaccount` of Kubernetes 1.37).
const TOKEN_VOLUME: &str = "kube-api-access-";
/// Events that tell of the machine or of the way there, not of the pod; and those that a device node adds (`docs/secrets.md`,
/// `docs/kubelet-differences.md`).
const QUIET_EVENTS: [&str; 7] = [
    "Scheduled",
    "FailedScheduling",
    "SecretInEnvironment",
    "MandatoryConfigMapNotFound",
    "MandatorySecretNotFound",
    "OptionalConfigMapNotFound",
    "OptionalSecretNotFound",
];

/// Everything that can be seen now of all pods of a case.
///
/// # Errors
/// The API server refuses.
pub async fn collect(cluster: &Cluster, side: &Side, slug: &str) -> Result<Facts, ConformanceError> {
    let namespace = side.namespace(slug);
    let mut facts = Facts::new();
    for (name, pod, order) in cluster.pods(&namespace) {
        facts.extend(order.facts(&name));
        let mask = Mask::of(&pod, side, slug);
        flatten(&format!("{name}.status"), &lasting(&pod), &mask, &mut facts);
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            facts.insert(format!("{name}.deleting"), "true".to_owned());
        }
        for (container, text) in logs(side, &namespace, &name, &pod) {
            facts.insert(format!("{name}.log[{container}]"), mask.apply(&text));
        }
        let events = cluster.events(&namespace, &name).await?;
        for (what, told) in told(&events) {
            facts.insert(format!("{name}.{what}"), mask.apply(&told));
        }
    }
    Ok(facts)
}

/// The events of a pod: their reasons, who told them, and of which part of the pod. How often they came depends on the moment.
fn told(events: &[Event]) -> [(&'static str, String); 3] {
    let (mut reasons, mut sources, mut parts) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for event in events {
        let (Some(reason), Some(level)) = (&event.reason, &event.type_) else {
            continue;
        };
        if QUIET_EVENTS.contains(&reason.as_str()) {
            continue;
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let source = event.source.clone().unwrap_or_default();
        sources.insert(format!("{} on {}", text(&source.component), text(&source.host)));
        parts.insert((reason.as_str(), text(&event.involved_object.field_path)));
        reasons.insert(format!("{level} {reason}"));
    }
    // A device pulls ahead what a container needs whose turn may never come.
    let is_ahead = |part: &str| !parts.contains(&("Created", part.to_owned()));
    let of_parts = parts
        .iter()
        .filter(|(reason, part)| !matches!(*reason, "Pulling" | "Pulled") || !is_ahead(part))
        .map(|(reason, part)| format!("{reason}: {part}"))
        .collect();
    let joined = |words: BTreeSet<String>| words.into_iter().collect::<Vec<_>>().join(", ");
    [
        ("events", joined(reasons)),
        ("events.source", joined(sources)),
        ("events.parts", joined(of_parts)),
    ]
}

/// A status without what depends on the moment (`convertToAPIPodLevelResourcesStatus` of `pkg/kubelet/kubelet_pods.go`): of a pod that ends, a
/// kubelet reads the resources back from a cgroup that it removes at that very time; and as the limit of a pod whose memory nothing bounds it
/// shows at first the limits that there are together, and from its second look on with cgroup v1 the greatest number that the kernel knows.
fn lasting(pod: &Value) -> Value {
    let mut status = pod["status"].clone();
    if !bounds_memory(&pod["spec"])
        && let Some(limits) = status.pointer_mut("/resources/limits")
        && let Some(limits) = limits.as_object_mut()
    {
        limits.remove("memory");
    }
    if ["Succeeded", "Failed"]
        .iter()
        .any(|phase| status["phase"] == *phase)
        && let Some(fields) = status.as_object_mut()
    {
        fields.remove("resources");
    }
    status
}

/// Whether the pod as a whole has a limit of memory, be it only because all its containers have.
fn bounds_memory(spec: &Value) -> bool {
    let limited = |of: &Value| !of["resources"]["limits"]["memory"].is_null();
    let lists = ["initContainers", "containers"].map(|list| spec[list].as_array());
    limited(spec) || lists.into_iter().flatten().flatten().all(limited)
}

/// The newest log of each container.
pub fn logs(side: &Side, namespace: &str, name: &str, pod: &Value) -> BTreeMap<String, String> {
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    let directory = side.logs.join(format!("{namespace}_{name}_{uid}"));
    let mut found = BTreeMap::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let container = container["name"].as_str().unwrap_or_default();
            if let Some(text) = newest(&directory.join(container)) {
                found.insert(container.to_owned(), text);
            }
        }
    }
    found
}

/// The lines of the log with the greatest number, without the runtime's time, stream and tag.
fn newest(directory: &Path) -> Option<String> {
    let numbers = std::fs::read_dir(directory).ok()?.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.strip_suffix(".log")?.parse::<u32>().ok()
    });
    let text = std::fs::read_to_string(directory.join(format!("{}.log", numbers.max()?))).ok()?;
    let lines = text
        .lines()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default());
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// What a side calls its own, in the words of both.
struct Mask {
    words: Vec<(String, &'static str)>,
    generation: Value,
}

impl Mask {
    fn of(pod: &Value, side: &Side, slug: &str) -> Self {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let mut words = vec![
            (side.scratch(slug).display().to_string(), "<scratch>"),
            (side.namespace(slug), "<namespace>"),
            (text("/metadata/uid").to_owned(), "<uid>"),
            // Before the pod's: one on the host's network has the host's.
            (side.host_ip.clone(), "<host ip>"),
            (text("/status/podIP").to_owned(), "<pod ip>"),
            (side.node.clone(), "<node>"),
            // The API server writes that of its node into a pod.
            (
                text("/metadata/labels/topology.kubernetes.io~1zone").to_owned(),
                "<zone>",
            ),
        ];
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let names = volumes.filter_map(|volume| volume["name"].as_str());
        let drawn = names.filter(|name| name.starts_with(TOKEN_VOLUME));
        words.extend(drawn.map(|name| (name.to_owned(), "<token volume>")));
        // What a pod tolerates for ever is changed on a device node, which makes another generation of it.
        let generation = pod["metadata"]["generation"].clone();
        words.retain(|(word, _)| word.len() > 2);
        // The longer first: one may be the beginning of another.
        words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        Self { words, generation }
    }

    fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (word, name) in &self.words {
            text = text.replace(word, name);
        }
        without_ids(&text)
    }
}

/// A text whose runs of hexadecimal digits that are as long as a container's id are masked.
fn without_ids(text: &str) -> String {
    const ID: usize = 64;
    let mut masked = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(run);
        masked.push_str(if run == ID { "<id>" } else { digits });
        let other = after.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(after.len());
        masked.push_str(&after[..other]);
        rest = &after[other..];
    }
    masked
}

fn flatten(path: &str, value: &Value, mask: &Mask, facts: &mut Facts) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let below = format!("{path}.{name}");
                match name.as_str() {
                    name if TIMES.contains(&name) && !value.is_null() => {
                        facts.insert(below, "<time>".to_owned());
                    }
                    // How an image came to be there decides whether it is called by its own digest or by that of its content.
                    "imageID" => {
                        let known = value.as_str().is_some_and(|id| id.contains("sha256:"));
                        facts.insert(below, if known { "<image id>" } else { "" }.to_owned());
                    }
                    "containerID" => {
                        let scheme = value.as_str().and_then(|id| id.split_once("://"));
                        facts.insert(below, scheme.map_or("", |(scheme, _)| scheme).to_owned());
                    }
                    "observedGeneration" if *value == mask.generation => {
                        facts.insert(below, "<generation>".to_owned());
                    }
                    _ => flatten(&below, value, mask, facts),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let key = LIST_KEYS.iter().find_map(|key| item.get(*key)?.as_str());
                let key = key.map_or_else(|| index.to_string(), |key| mask.apply(key));
                flatten(&format!("{path}[{key}]"), item, mask, facts);
            }
        }
        Value::Null => {}
        Value::String(text) => {
            facts.insert(path.to_owned(), mask.apply(text));
        }
        other => {
            facts.insert(path.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_are_masked_and_other_digits_are_not() {
        let id = "0123456789abcdef".repeat(4);
        let text = format!("é: container \"{id}\" of {id}0 was added");
        let masked = format!("é: container \"<id>\" of {id}0 was added");
        assert_eq!(without_ids(&text), masked);
    }

    #[test]
    fn a_limit_counts_that_bounds_the_pod() {
        let limited = json!({ "resources": { "limits": { "memory": "1Mi" } } });
        let pod = |first: &Value, main: &Value, whole: &Value| {
            json!({
                "spec": { "initContainers": [first], "containers": [limited, main], "resources": whole["resources"] },
                "status": { "resources": { "limits": { "memory": "2Mi" } } },
            })
        };
        let shown = |pod: &Value| lasting(pod)["resources"]["limits"]["memory"].is_string();
        let none = json!({});
        assert!(shown(&pod(&limited, &limited, &none)));
        assert!(!shown(&pod(&limited, &none, &none)));
        assert!(!shown(&pod(&none, &limited, &none)));
        assert!(shown(&pod(&none, &none, &limited)));
    }

    #[test]
    fn an_event_is_told_by_someone_of_some_part_of_a_pod() {
        let event = |reason: &str, component: &str| -> Event {
            let path = match component {
                "ahead" => Some("spec.containers{next}"),
                _ => (reason != "Killing").then_some("spec.containers{main}"),
            };
            let event = json!({
                "metadata": {}, "involvedObject": { "fieldPath": path }, "reason": reason, "type": "Normal", "message": "m",
                "source": { "component": component, "host": "worker" },
            });
            serde_json::from_value(event).unwrap()
        };
        let events = [
            event("Pulled", "kubelet"),
            event("Created", "kubelet"),
            event("Pulled", "ahead"),
            event("Killing", "kubelet"),
            event("Scheduled", "scheduler"),
        ];
        let expect = [
            ("events", "Normal Created, Normal Killing, Normal Pulled"),
            ("events.source", "ahead on worker, kubelet on worker"),
            (
                "events.parts",
                "Created: spec.containers{main}, Killing: , Pulled: spec.containers{main}",
            ),
        ];
        assert_eq!(told(&events), expect.map(|(what, told)| (what, told.to_owned())));
    }

    #[test]
    fn what_differs_by_nature_is_masked_and_nothing_else() {
        let side = Side {
            name: "kubelet",
            node: "worker".into(),
            host_ip: "10.1.0.2".into(),
            logs: "/nowhere".into(),
            scratch: "/scratch".into(),
            registry: "r/".into(),
        };
        let pod = json!({
            "metadata": { "uid": "1234-5678", "labels": { "topology.kubernetes.io/zone": "here" } },
            "spec": { "volumes": [{ "name": "kube-api-access-x2vq9" }, { "name": "kube" }], "containers": [{ "name": "main" }] },
            "status": {
                "phase": "Running", "podIP": "10.88.0.7", "hostIP": "10.1.0.2", "startTime": "2026-11-21T00:00:00Z",
                "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "x" }],
                "containerStatuses": [{ "name": "main", "containerID": "containerd://abc", "restartCount": 0, "message": "on worker in here", "volumeMounts": [{ "name": "kube-api-access-x2vq9" }, { "name": "kube" }] }],
                "resources": { "limits": { "memory": "9007199254740988Ki" } },
            },
        });
        let mut facts = Facts::new();
        flatten("p", &lasting(&pod), &Mask::of(&pod, &side, "case"), &mut facts);
        let expect = [
            ("p.conditions[Ready].lastTransitionTime", "<time>"),
            ("p.conditions[Ready].status", "True"),
            ("p.conditions[Ready].type", "Ready"),
            ("p.containerStatuses[main].containerID", "containerd"),
            ("p.containerStatuses[main].message", "on <node> in <zone>"),
            ("p.containerStatuses[main].name", "main"),
            ("p.containerStatuses[main].restartCount", "0"),
            (
                "p.containerStatuses[main].volumeMounts[<token volume>].name",
                "<token volume>",
            ),
            ("p.containerStatuses[main].volumeMounts[kube].name", "kube"),
            ("p.hostIP", "<host ip>"),
            ("p.phase", "Running"),
            ("p.podIP", "<pod ip>"),
            ("p.startTime", "<time>"),
        ];
        let expect: Facts = expect
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        assert_eq!(facts, expect);
    }
}
