//! A pod as the API server shows it → what the bridge should want, or every reason why it cannot be honoured.

use std::sync::Arc;

use edge_protocol::PodUid;
use edge_protocol::v1::{Amounts, Manifest, Owner, TargetSpec, is_baseline_capability};
use edge_provider_core::disconnect::DISCONNECT_ANNOTATION;
use edge_provider_core::{
    Deletion, DeletionCause, Disconnect, PodPlan, PodRefusal, UpdateStrategy, WantedPod,
};
use edge_provider_translate::{Context, NodeKind, Note, Untranslated, Update, translate};
use serde_json::Value;
use virtual_kubelet::ObservedPod;
use virtual_kubelet::core::deletion::Cause;
use virtual_kubelet::core::{Asks, NamespaceMap, Target, TargetRefusal, Toleration, acknowledges};

use crate::device_nodes::{DeviceNodes, condition_of};
use crate::reading::Gathered;

pub const TARGET_CONDITION: &str = "outrigger.io/target-condition";
/// Where the address of a pod is shown that others of the cluster cannot reach. Ours to write; what a person writes there is replaced.
pub const POD_IP: &str = "outrigger.io/podIP";
/// The refusal that is told once for all such pods, on the Node.
pub const TAINT_NOT_ACKNOWLEDGED: &str = "TaintNotAcknowledged";
pub const UNSUPPORTED_FIELD: &str = "UnsupportedField";
const PREFIX: &str = "outrigger.io/";
/// Our annotations that mean something in this version; any other of ours is refused, never ignored (law 7).
const KNOWN: [&str; 6] = [
    TARGET_CONDITION,
    POD_IP,
    DISCONNECT_ANNOTATION,
    "outrigger.io/ready-policy",
    "outrigger.io/update",
    "outrigger.io/service-account-token",
];
/// What fits into a condition's message beside a few words.
const MESSAGE: usize = 1000;

/// A pod with what its author should hear although nothing is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub pod: WantedPod,
    pub notes: Vec<Note>,
}

/// Where the pods of a node may go.
#[derive(Debug, Clone)]
pub struct Placing {
    pub namespaces: NamespaceMap,
    pub to: To,
    /// The cluster's DNS domain, in which pods have their names.
    pub cluster_domain: Arc<str>,
}

/// What a node's pods are for.
#[derive(Debug, Clone)]
pub enum To {
    /// The devices that the pod's condition says, less those that are Nodes of their own.
    Fleet(Option<Arc<DeviceNodes>>),
    /// The one device of this id, less what is kept back of it.
    Device(String, Amounts),
}

impl Placing {
    /// The target of a pod: its namespace's scope holds on every kind of node.
    fn target(&self, observed: &ObservedPod, asks: Asks) -> Result<Target, TargetRefusal> {
        let labels = &observed.namespace_labels;
        match &self.to {
            To::Fleet(apart) => {
                let target = self
                    .namespaces
                    .target(labels, observed.annotation(TARGET_CONDITION), asks)?;
                let scope = match apart {
                    Some(nodes) => nodes.fleet_scope(&target.scope),
                    None => target.scope,
                };
                Ok(Target { scope, ..target })
            }
            To::Device(device, _) => self.namespaces.target(labels, Some(&condition_of(device)), asks),
        }
    }

    fn kind(&self) -> NodeKind {
        match self.to {
            To::Fleet(_) => NodeKind::Fleet,
            To::Device(..) => NodeKind::Device,
        }
    }

    fn reserved(&self) -> Option<Amounts> {
        match self.to {
            To::Fleet(_) => None,
            To::Device(_, reserved) => Some(reserved),
        }
    }
}

/// Reads one pod. `held` is the manifest that the hub has of it. `admit` says whether it may be on its Node, and `look` what was found of what it
/// refers to; each is called only for a pod against which nothing stood before. `None` when its UID is none, which no API server gives.
pub fn wanted(
    observed: &ObservedPod,
    placing: &Placing,
    held: Option<&Manifest>,
    admit: impl FnOnce() -> Result<(), PodRefusal>,
    look: impl FnOnce() -> Gathered,
) -> Option<Wanted> {
    let uid = PodUid::new(observed.uid.clone()).ok()?;
    let (plan, notes) = match plan(observed, placing, held, admit, look) {
        Ok((plan, notes)) => (Ok(plan), notes),
        Err(refusal) => (Err(refusal), Vec::new()),
    };
    let pod = WantedPod {
        uid,
        namespace: observed.namespace.clone(),
        name: observed.name.clone(),
        owner: observed.owner.clone().map(|owner| Owner {
            kind: owner.kind,
            name: owner.name,
            uid: owner.uid,
        }),
        plan,
        deletion: observed.deletion().map(|deletion| Deletion {
            grace_period_s: deletion.grace_period_s,
            cause: cause(deletion.cause),
        }),
        terminal: observed.is_terminal(),
        disconnect: disconnect(observed),
    };
    Some(Wanted { pod, notes })
}

pub fn cause(cause: Cause) -> DeletionCause {
    match cause {
        Cause::Intent => DeletionCause::Intent,
        Cause::Reaction => DeletionCause::Reaction,
    }
}

/// A value that is not known counts as the default here, and is refused as a field.
pub fn disconnect(observed: &ObservedPod) -> Disconnect {
    Disconnect::read(observed.annotation(DISCONNECT_ANNOTATION)).unwrap_or_default()
}

fn plan(
    observed: &ObservedPod,
    placing: &Placing,
    held: Option<&Manifest>,
    admit: impl FnOnce() -> Result<(), PodRefusal>,
    look: impl FnOnce() -> Gathered,
) -> Result<(PodPlan, Vec<Note>), PodRefusal> {
    let spec = observed.raw.get("spec").unwrap_or(&Value::Null);
    let named = placing.kind() == NodeKind::Device && looks_into_node(observed);
    if !named && !acknowledges(&tolerations(spec)) {
        return Err(PodRefusal {
            reason: TAINT_NOT_ACKNOWLEDGED,
            message: "the pod tolerates everything without naming virtual-kubelet.io/provider: it is not meant for devices".into(),
        });
    }
    let refuse = |refusal: TargetRefusal| PodRefusal {
        reason: refusal.reason(),
        message: refusal.to_string(),
    };
    let target = placing.target(observed, asks(spec));
    if let Err(refusal @ (TargetRefusal::NoEntry | TargetRefusal::NoCondition)) = target {
        return Err(refuse(refusal));
    }
    admit()?;
    let unknown = unknown_annotations(observed, placing.kind());
    let gathered = look();
    let context = Context {
        kind: placing.kind(),
        objects: &gathered.objects,
        held,
        reserved: placing.reserved(),
        cluster_domain: &placing.cluster_domain,
    };
    let translated = match translate(&observed.raw, context) {
        Ok(translated) if unknown.is_empty() => translated,
        Err(Untranslated::NotYet(waits)) if unknown.is_empty() => {
            return Err(gathered.refusal(&waits));
        }
        Ok(_) | Err(Untranslated::NotYet(_)) => return Err(unsupported(unknown.join("; "))),
        Err(Untranslated::Refused(refusals)) => {
            let mut all = unknown;
            let left = MESSAGE.saturating_sub(all.iter().map(|text| text.len() + 2).sum());
            all.push(refusals.summary(left));
            return Err(unsupported(all.join("; ")));
        }
    };
    // After the fields: what no namespace may use is named with all the other paths.
    let target = target.map_err(refuse)?;
    let plan = PodPlan {
        manifest: translated.manifest,
        target: TargetSpec {
            condition: target.condition,
            scope: target.scope,
        },
        ready_policy: translated.ready_policy,
        update: match translated.update {
            Update::Surge => UpdateStrategy::Surge,
            Update::Replace => UpdateStrategy::Replace,
        },
    };
    Ok((plan, translated.notes))
}

/// A pod of `kubectl debug node/NAME`: it tolerates everything, and yet a person named the Node that it is for
/// (`generateNodeDebugPod` of `k8s.io/kubectl/pkg/cmd/debug/debug.go`). What it may do there is a matter of rights and of the device's policy.
fn looks_into_node(observed: &ObservedPod) -> bool {
    let label = observed
        .raw
        .pointer("/metadata/labels/app.kubernetes.io~1managed-by");
    observed.owner.is_none() && label.and_then(Value::as_str) == Some("kubectl-debug")
}

fn unsupported(message: String) -> PodRefusal {
    PodRefusal {
        reason: UNSUPPORTED_FIELD,
        message,
    }
}

/// Our own annotations whose key or value this version cannot honour, as paths with the reason beside.
fn unknown_annotations(observed: &ObservedPod, kind: NodeKind) -> Vec<String> {
    let annotations = observed
        .raw
        .get("metadata")
        .and_then(|metadata| metadata.get("annotations")?.as_object());
    let ours = annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(PREFIX));
    ours.filter_map(|(key, value)| {
        let why = match (key.as_str(), value.as_str()) {
            (DISCONNECT_ANNOTATION, value) => Disconnect::read(value).err()?,
            (TARGET_CONDITION, _) if kind == NodeKind::Device => {
                "a pod of a device's node is for that device"
            }
            (known, _) if KNOWN.contains(&known) => return None,
            _ => "is not available in this version",
        };
        let key: String = key.chars().take(128).collect();
        Some(format!("metadata.annotations[{key}]: {why}"))
    })
    .take(8)
    .collect()
}

fn tolerations(spec: &Value) -> Vec<Toleration> {
    let raw = spec
        .get("tolerations")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    raw.filter_map(|toleration| serde_json::from_value(toleration.clone()).ok())
        .collect()
}

/// What the pod asks of a device beyond an ordinary container.
fn asks(spec: &Value) -> Asks {
    let flag = |object: &Value, key: &str| object.get(key).and_then(Value::as_bool).unwrap_or(false);
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let containers = || {
        lists
            .iter()
            .filter_map(|list| spec.get(list)?.as_array())
            .flatten()
    };
    let volumes = spec.get("volumes").and_then(Value::as_array);
    Asks {
        privileged: containers().any(|container| {
            container
                .get("securityContext")
                .is_some_and(|context| flag(context, "privileged") || adds_power(context))
        }),
        host_namespaces: ["hostNetwork", "hostPID", "hostIPC"]
            .iter()
            .any(|key| flag(spec, key)),
        host_path: volumes
            .into_iter()
            .flatten()
            .any(|volume| volume.get("hostPath").is_some()),
    }
}

/// A capability that makes a container as good as privileged.
fn adds_power(context: &Value) -> bool {
    let added = context.pointer("/capabilities/add").and_then(Value::as_array);
    added
        .into_iter()
        .flatten()
        .any(|name| !name.as_str().is_some_and(is_baseline_capability))
}

#[cfg(test)]
mod tests;
