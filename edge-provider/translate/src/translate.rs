//! A pod as the API server stores it → the manifest that devices run.
//!
//! Each submodule turns one head of a pod into the manifest's: what it cannot is refused by its path, and nothing comes of it.

mod container;
mod environment;
mod field;
mod files;
mod image;
mod mount;
mod names;
mod note;
mod objects;
mod probe;
mod requires;
mod resources;
mod security;
pub(crate) mod volume;
mod workload;

use edge_protocol::PodUid;
use edge_protocol::v1::{Manifest, ReadyPolicy, RestartPolicy, VERSION};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize as _;
use serde_json::Value;

pub use self::note::Note;
use crate::annotations::{self, READY_POLICY, SERVICE_ACCOUNT_TOKEN, UPDATE, Update};
use crate::api_access::ApiAccess;
use crate::fields;
use crate::node::{Context, NodeKind};
use crate::not_yet::Untranslated;
use crate::references::references;
use crate::refusal::{Path, Refusal, Refusals, quoted};

/// A pod that can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// `replaces` is empty: whose place it takes is decided by who knows the other pods.
    pub manifest: Manifest,
    /// From the pod's annotation.
    pub ready_policy: ReadyPolicy,
    /// From the pod's annotation.
    pub update: Update,
    /// What the author should hear although nothing is refused; each is an event of the pod.
    pub notes: Vec<Note>,
}

impl Translated {
    /// The manifest as it is stored and sent: equal pods give equal bytes, whatever the order of their JSON.
    pub fn document(&self) -> String {
        document(&self.manifest)
    }
}

/// A manifest as it is stored and sent. Its digest is the [`Digest`](edge_protocol::Digest) of these very bytes.
pub fn document(manifest: &Manifest) -> String {
    serde_json::to_string(manifest).expect("a manifest has text keys only, so it is always JSON")
}

/// Translates the raw JSON of a Pod. Pure and total: the same pod and context give the same result, and no input panics.
///
/// Only `metadata` and `spec` are read. Raw JSON is asked for instead of a typed Pod because types drop the fields they
/// do not know, and those must be refused by name too.
///
/// # Errors
/// [`Refusals`] with every path that cannot be honoured, all at once; nothing of such a pod may reach a device. [`NotYet`](crate::NotYet) with
/// all that such a pod waits for in the cluster.
pub fn translate(pod: &Value, context: Context<'_>) -> Result<Translated, Untranslated> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let withheld = match context.kind {
        NodeKind::Fleet => ApiAccess::find(spec),
        NodeKind::Device => ApiAccess::default(),
    };
    let mut refused = fields::refused(spec, context.kind, &withheld);
    let typed = Pod::deserialize(pod).map_err(|error| Path::root("spec").refuse(quoted(&error.to_string())));
    let translated = match typed {
        Ok(pod) => build(&pod, context, &withheld, &mut refused),
        Err(refusal) => {
            refused.push(refusal);
            None
        }
    };
    Refusals::none_or(refused)?;
    let mut translated = translated.expect("whatever keeps a manifest from being built is refused with it");
    let references = references(spec, context.kind);
    translated.manifest.objects = objects::found(&references, context)?;
    translated.manifest.requires = requires::requires(&translated.manifest);
    if withheld.is_present() {
        translated.notes.push(Note::TokenWithheld);
    }
    let workload = &translated.manifest.workload;
    if workload.every_container().any(environment::has_secrets) {
        translated.notes.push(Note::SecretInEnvironment);
    }
    translated.notes.extend(note::missing(&references, context));
    Ok(translated)
}

/// Everything but the notes and what the objects say. `None` only together with a new refusal.
fn build(
    pod: &Pod,
    context: Context<'_>,
    withheld: &ApiAccess<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Translated> {
    let root = Path::root("metadata");
    let metadata = &pod.metadata;
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let at = root.field("annotations");
    if context.kind == NodeKind::Fleet {
        let owners = metadata.owner_references.as_deref().unwrap_or_default();
        refuse_stateful_sets(owners, &root.field("ownerReferences"), refused);
        if annotations
            .get(SERVICE_ACCOUNT_TOKEN)
            .is_some_and(|value| value != "false")
        {
            refused.push(
                at.key(SERVICE_ACCOUNT_TOKEN)
                    .refuse("tokens for devices of a fleet are not available yet"),
            );
        }
    }
    let ready_policy = annotations::ready_policy(annotations.get(READY_POLICY));
    let ready_policy = accept(ready_policy, &at.key(READY_POLICY), refused);
    let update = accept(
        annotations::update(annotations.get(UPDATE)),
        &at.key(UPDATE),
        refused,
    );
    let uid = PodUid::new(metadata.uid.clone().unwrap_or_default()).map_err(|e| e.rule);
    let uid = accept(uid, &root.field("uid"), refused);
    let name = metadata.name.clone().unwrap_or_default();
    let namespace = metadata.namespace.clone().unwrap_or_default();
    for (field, value) in [("name", &name), ("namespace", &namespace)] {
        if value.is_empty() {
            refused.push(root.field(field).refuse("is missing"));
        }
    }
    let spec = pod.spec.clone().unwrap_or_default();
    let workload = workload::build(&spec, (&namespace, &name), context, withheld, refused);
    Some(Translated {
        manifest: Manifest {
            v: VERSION,
            uid: uid?,
            namespace,
            name,
            labels: metadata.labels.clone().unwrap_or_default(),
            annotations,
            workload: workload?,
            objects: Vec::new(),
            requires: Vec::new(),
            replaces: Vec::new(),
        },
        ready_policy: ready_policy?,
        update: update?,
        notes: Vec::new(),
    })
}

fn refuse_stateful_sets(owners: &[OwnerReference], path: &Path<'_>, refused: &mut Vec<Refusal>) {
    let owners = owners.iter().enumerate();
    let stateful =
        owners.filter(|(_, owner)| owner.kind == "StatefulSet" && owner.api_version.starts_with("apps/"));
    refused.extend(stateful.map(|(index, _)| {
        path.index(index).refuse(
            "a StatefulSet gives each pod an identity of its own, and a fleet pod runs on many devices",
        )
    }));
}

fn restart_policy(policy: &str) -> Result<RestartPolicy, &'static str> {
    match policy {
        "Always" => Ok(RestartPolicy::Always),
        "OnFailure" => Ok(RestartPolicy::OnFailure),
        "Never" => Ok(RestartPolicy::Never),
        _ => Err("must be Always, OnFailure or Never"),
    }
}

/// A text that says something: an empty one is how a client writes "not set".
fn stated(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

/// Seconds of a pod, as many as a device can count.
fn seconds(stated: i64) -> u32 {
    u32::try_from(stated.max(0)).unwrap_or(u32::MAX)
}

/// The value, or a refusal at `path` and nothing.
fn accept<T>(value: Result<T, &'static str>, path: &Path<'_>, refused: &mut Vec<Refusal>) -> Option<T> {
    value.map_err(|reason| refused.push(path.refuse(reason))).ok()
}
