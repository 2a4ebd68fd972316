//! A pod as the API server stores it → the manifest that devices run.

mod container;
mod image;
mod objects;
pub(crate) mod volume;

use edge_protocol::PodUid;
use edge_protocol::v1::{Manifest, ReadyPolicy, RestartPolicy, VERSION, WorkloadSpec};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde::Deserialize as _;
use serde_json::Value;

use crate::annotations::{self, READY_POLICY, SERVICE_ACCOUNT_TOKEN, UPDATE, Update};
use crate::api_access::ApiAccess;
use crate::node::Context;
use crate::not_yet::Untranslated;
use crate::refusal::{Path, Refusal, Refusals, quoted};
use crate::{fields, qos};

/// Longest host name that Linux takes.
const HOSTNAME: usize = 63;
/// What the API server writes when the author says nothing.
const DEFAULT_GRACE_S: i64 = 30;

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

/// Something that differs on a fleet from what a worker would do, without being asked for by the author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The service account's token, which the API server mounts into every pod by itself, does not reach devices.
    TokenWithheld,
}

impl Note {
    /// The event's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TokenWithheld => "TokenWithheld",
        }
    }

    /// The event's note.
    pub fn message(self) -> &'static str {
        match self {
            Self::TokenWithheld => {
                "the service account's token is not sent to devices; set automountServiceAccountToken: false to say so yourself"
            }
        }
    }
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
    let access = ApiAccess::find(spec);
    let mut refused = fields::refused(spec, &access);
    let typed = Pod::deserialize(pod).map_err(|error| Path::root("spec").refuse(quoted(&error.to_string())));
    let translated = match typed {
        Ok(pod) => build(pod, context, &mut refused),
        Err(refusal) => {
            refused.push(refusal);
            None
        }
    };
    Refusals::none_or(refused)?;
    let mut translated = translated.expect("whatever keeps a manifest from being built is refused with it");
    translated.manifest.objects = objects::found(spec, context)?;
    if access.is_present() {
        translated.notes.push(Note::TokenWithheld);
    }
    Ok(translated)
}

/// Everything but the notes. `None` only together with a new refusal.
fn build(pod: Pod, context: Context<'_>, refused: &mut Vec<Refusal>) -> Option<Translated> {
    let root = Path::root("metadata");
    let metadata = pod.metadata;
    for (index, owner) in metadata.owner_references.iter().flatten().enumerate() {
        if owner.kind == "StatefulSet" && owner.api_version.starts_with("apps/") {
            let reason =
                "a StatefulSet gives each pod an identity of its own, and a fleet pod runs on many devices";
            refused.push(root.field("ownerReferences").index(index).refuse(reason));
        }
    }
    let annotations = metadata.annotations.unwrap_or_default();
    let at = root.field("annotations");
    if annotations
        .get(SERVICE_ACCOUNT_TOKEN)
        .is_some_and(|value| value != "false")
    {
        refused.push(
            at.key(SERVICE_ACCOUNT_TOKEN)
                .refuse("tokens for devices are not available yet"),
        );
    }
    let ready_policy = accept(
        annotations::ready_policy(annotations.get(READY_POLICY)),
        &at.key(READY_POLICY),
        refused,
    );
    let update = accept(
        annotations::update(annotations.get(UPDATE)),
        &at.key(UPDATE),
        refused,
    );

    let uid = accept(
        PodUid::new(metadata.uid.unwrap_or_default()).map_err(|e| e.rule),
        &root.field("uid"),
        refused,
    );
    let name = metadata.name.unwrap_or_default();
    let namespace = metadata.namespace.unwrap_or_default();
    for (field, value) in [("name", &name), ("namespace", &namespace)] {
        if value.is_empty() {
            refused.push(root.field(field).refuse("is missing"));
        }
    }
    let workload = workload(pod.spec.unwrap_or_default(), hostname(&name), context, refused);
    Some(Translated {
        manifest: Manifest {
            v: VERSION,
            uid: uid?,
            namespace,
            name,
            labels: metadata.labels.unwrap_or_default(),
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

fn workload(
    spec: PodSpec,
    hostname: String,
    context: Context<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<WorkloadSpec> {
    let root = Path::root("spec");
    let restart_policy = match spec.restart_policy.as_deref() {
        None | Some("" | "Always") => Some(RestartPolicy::Always),
        Some("OnFailure") => Some(RestartPolicy::OnFailure),
        Some("Never") => Some(RestartPolicy::Never),
        Some(_) => {
            refused.push(
                root.field("restartPolicy")
                    .refuse("must be Always, OnFailure or Never"),
            );
            None
        }
    };
    // A negative value means one second (`SetDefaults_Pod` of `pkg/apis/core/v1/defaults.go`).
    let grace = spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_S);
    let grace = if grace < 0 {
        1
    } else {
        u32::try_from(grace).unwrap_or(u32::MAX)
    };

    let at = root.field("containers");
    if spec.containers.is_empty() {
        refused.push(at.refuse("is missing"));
    }
    let held = context
        .held
        .map_or(&[][..], |manifest| &manifest.workload.containers);
    let asked = spec.containers.len();
    let mut containers = Vec::with_capacity(asked);
    let mut asks = Vec::with_capacity(asked);
    for (index, container) in spec.containers.into_iter().enumerate() {
        if let Some((built, ask)) = container::build(container, &at.index(index), held, refused) {
            containers.push(built);
            asks.push(ask);
        }
    }
    (containers.len() == asked && asked > 0).then_some(())?;
    Some(WorkloadSpec {
        restart_policy: restart_policy?,
        termination_grace_period_s: grace,
        qos: qos::class(&asks),
        ..WorkloadSpec::new(hostname, containers)
    })
}

/// The pod's name, cut as `truncatePodHostnameIfNeeded` of `pkg/kubelet/kubelet_pods.go` does.
fn hostname(name: &str) -> String {
    if name.len() <= HOSTNAME {
        return name.to_owned();
    }
    let end = (0..=HOSTNAME)
        .rev()
        .find(|end| name.is_char_boundary(*end))
        .unwrap_or(0);
    name[..end].trim_end_matches(['-', '.']).to_owned()
}

/// The value, or a refusal at `path` and nothing.
fn accept<T>(value: Result<T, &'static str>, path: &Path<'_>, refused: &mut Vec<Refusal>) -> Option<T> {
    value.map_err(|reason| refused.push(path.refuse(reason))).ok()
}

#[cfg(test)]
mod tests;
