//! A pod as the API server shows it → what the bridge should want, or every reason why it cannot be honoured.

use edge_protocol::PodUid;
use edge_protocol::v1::{Manifest, Owner, TargetSpec};
use edge_provider_core::disconnect::DISCONNECT_ANNOTATION;
use edge_provider_core::{
    Deletion, DeletionCause, Disconnect, PodPlan, PodRefusal, UpdateStrategy, WantedPod,
};
use edge_provider_translate::{Context, Note, Untranslated, Update, translate};
use serde_json::Value;
use virtual_kubelet::ObservedPod;
use virtual_kubelet::core::deletion::Cause;
use virtual_kubelet::core::{Asks, NamespaceMap, TargetRefusal, Toleration, acknowledges};

pub const TARGET_CONDITION: &str = "outrigger.io/target-condition";
/// The refusal that is told once for all such pods, on the Node.
pub const TAINT_NOT_ACKNOWLEDGED: &str = "TaintNotAcknowledged";
const UNSUPPORTED_FIELD: &str = "UnsupportedField";
const PREFIX: &str = "outrigger.io/";
/// Our annotations that mean something in this version; any other of ours is refused, never ignored (law 7).
const KNOWN: [&str; 5] = [
    TARGET_CONDITION,
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

/// Reads one pod. `held` is the manifest that the hub has of it. `None` when its UID is none, which no API server gives.
pub fn wanted(observed: &ObservedPod, namespaces: &NamespaceMap, held: Option<&Manifest>) -> Option<Wanted> {
    let uid = PodUid::new(observed.uid.clone()).ok()?;
    let (plan, notes) = match plan(observed, namespaces, held) {
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
    namespaces: &NamespaceMap,
    held: Option<&Manifest>,
) -> Result<(PodPlan, Vec<Note>), PodRefusal> {
    let spec = observed.raw.get("spec").unwrap_or(&Value::Null);
    if !acknowledges(&tolerations(spec)) {
        return Err(PodRefusal {
            reason: TAINT_NOT_ACKNOWLEDGED,
            message: "the pod tolerates everything without naming virtual-kubelet.io/provider: it is not meant for devices".into(),
        });
    }
    let refuse = |refusal: TargetRefusal| PodRefusal {
        reason: refusal.reason(),
        message: refusal.to_string(),
    };
    let condition = observed.annotation(TARGET_CONDITION);
    let target = namespaces.target(&observed.namespace_labels, condition, asks(spec));
    if let Err(refusal @ (TargetRefusal::NoEntry | TargetRefusal::NoCondition)) = target {
        return Err(refuse(refusal));
    }
    let unknown = unknown_annotations(observed);
    let context = Context {
        held,
        ..Context::default()
    };
    let translated = match translate(&observed.raw, context) {
        Ok(translated) if unknown.is_empty() => translated,
        Err(Untranslated::NotYet(waits)) if unknown.is_empty() => {
            return Err(PodRefusal {
                reason: waits.reason(),
                message: waits.to_string(),
            });
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

fn unsupported(message: String) -> PodRefusal {
    PodRefusal {
        reason: UNSUPPORTED_FIELD,
        message,
    }
}

/// Our own annotations whose key or value this version cannot honour, as paths with the reason beside.
fn unknown_annotations(observed: &ObservedPod) -> Vec<String> {
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
                .is_some_and(|context| flag(context, "privileged"))
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

#[cfg(test)]
mod tests;
