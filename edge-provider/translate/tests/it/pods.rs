//! The pods of `tests/fixtures/pods`, what the cluster has for them, and how tests change them.

use std::path::PathBuf;

use edge_protocol::Digest;
use edge_protocol::v1::{ClaimPlugin, HostPathCheck};
use edge_provider_translate::{
    Claim, Context, Found, NodeKind, Objects, Refusals, Translated, Untranslated, references,
};
use serde_json::Value;

pub const KINDS: [NodeKind; 2] = [NodeKind::Fleet, NodeKind::Device];

pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pods")
}

/// `NAME.pod.json`.
pub fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(directory().join(format!("{name}.pod.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Everything that a pod refers to, found: the digest of an object is that of its name, secrets are sealed, claims are bound.
pub fn objects(pod: &Value, kind: NodeKind) -> Objects {
    let references = references(&pod["spec"], kind);
    let found = references.keys().into_iter().map(|key| {
        let found = Found::Present {
            digest: Digest::of(key.name.as_bytes()),
            sealed: ["Secret", "Token", "PullCredential"].contains(&key.kind),
        };
        (key, found)
    });
    let claims = references.claims.iter().map(|name| {
        let bound = Claim::Bound {
            path: format!("/var/lib/volumes/{name}"),
            check: HostPathCheck::Directory,
            plugin: ClaimPlugin::Local,
        };
        (name.clone(), bound)
    });
    Objects {
        found: found.collect(),
        claims: claims.collect(),
    }
}

pub fn translate_on(kind: NodeKind, pod: &Value) -> Result<Translated, Refusals> {
    let objects = objects(pod, kind);
    let context = Context {
        kind,
        objects: &objects,
        ..Context::default()
    };
    match edge_provider_translate::translate(pod, context) {
        Ok(translated) => Ok(translated),
        Err(Untranslated::Refused(refusals)) => Err(refusals),
        Err(Untranslated::NotYet(waits)) => panic!("{waits}"),
    }
}

pub fn translate(pod: &Value) -> Result<Translated, Refusals> {
    translate_on(NodeKind::Fleet, pod)
}

/// The refused paths; empty for a pod that passes.
pub fn refused_on(kind: NodeKind, pod: &Value) -> Vec<String> {
    translate_on(kind, pod)
        .err()
        .map(|refusals| refusals.paths().map(str::to_owned).collect())
        .unwrap_or_default()
}

pub fn refused(pod: &Value) -> Vec<String> {
    refused_on(NodeKind::Fleet, pod)
}

/// The document of a pod that passes.
#[track_caller]
pub fn document_on(kind: NodeKind, pod: &Value) -> String {
    translate_on(kind, pod)
        .unwrap_or_else(|refusals| panic!("{kind:?} {refusals}"))
        .document()
}

#[track_caller]
pub fn document(pod: &Value) -> String {
    document_on(NodeKind::Fleet, pod)
}
