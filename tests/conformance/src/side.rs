//! Where a case is played: a Node, and where its containers' logs are on the machine.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::case::Header;

/// The taint of our nodes is tolerated by key on both sides, so that both get the same pod.
const TAINT: &str = "virtual-kubelet.io/provider";

/// A real kubelet, or a device node.
#[derive(Debug, Clone)]
pub struct Side {
    /// In tables and namespaces: `kubelet` or `device`.
    pub name: &'static str,
    pub node: String,
    /// As the node's containers see the machine.
    pub host_ip: String,
    /// The directory of `<namespace>_<pod>_<uid>/<container>/<attempt>.log`.
    pub logs: PathBuf,
    /// For what cases put on the machine.
    pub scratch: PathBuf,
    /// `host:port/` of the lab's registry.
    pub registry: String,
}

impl Side {
    pub fn namespace(&self, slug: &str) -> String {
        format!("{slug}-{}", self.name)
    }

    pub fn scratch(&self, slug: &str) -> PathBuf {
        self.scratch.join(self.namespace(slug))
    }

    pub(crate) fn fill(&self, text: &str, slug: &str) -> String {
        let text = text
            .replace("${namespace}", &self.namespace(slug))
            .replace("${node}", &self.node)
            .replace("${side}", self.name)
            .replace("${scratch}", &self.scratch(slug).display().to_string());
        shares_of_cpus(&text)
    }

    /// Sends the pods of an object to this side's node.
    pub(crate) fn place(&self, object: &mut Value, header: &Header) {
        let Some(spec) = pod_spec(object) else { return };
        if header.bound {
            spec.insert("nodeName".to_owned(), self.node.clone().into());
        } else {
            spec.insert(
                "nodeSelector".to_owned(),
                json!({ "kubernetes.io/hostname": self.node }),
            );
        }
        let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
        if let Some(list) = tolerations.as_array_mut() {
            list.push(json!({ "key": TAINT, "operator": "Exists" }));
        }
        if !header.token && !spec.contains_key("automountServiceAccountToken") {
            spec.insert("automountServiceAccountToken".to_owned(), false.into());
        }
    }

    /// Images without a registry are the lab's.
    pub(crate) fn name_images(&self, object: &mut Value) {
        let Some(spec) = pod_spec(object) else { return };
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                if let Some(image) = container.get("image").and_then(Value::as_str)
                    && !image.contains('/')
                {
                    container["image"] = format!("{}{image}", self.registry).into();
                }
            }
        }
    }
}

/// `${cpu:60}` as 60 hundredths of what both nodes have: they are the same machine. What is no number stays as it is.
fn shares_of_cpus(text: &str) -> String {
    const BEGIN: &str = "${cpu:";
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parts = text.split(BEGIN);
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let share = part.split_once('}');
        match share.and_then(|(share, after)| Some((share.parse::<usize>().ok()?, after))) {
            Some((share, after)) => filled.extend([&format!("{}m", cpus * share * 10), after]),
            None => filled.extend([BEGIN, part]),
        }
    }
    filled
}

fn pod_spec(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let pointer = match object["kind"].as_str()? {
        "Pod" => "/spec",
        "StatefulSet" | "Deployment" | "DaemonSet" | "Job" => "/spec/template/spec",
        _ => return None,
    };
    object.pointer_mut(pointer)?.as_object_mut()
}
