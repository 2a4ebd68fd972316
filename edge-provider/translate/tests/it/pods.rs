//! The pods of `tests/fixtures/pods` and how tests change them.

use std::path::PathBuf;

use edge_provider_translate::{Context, Refusals, Translated, Untranslated};
use serde_json::Value;

pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pods")
}

/// `NAME.pod.json`.
pub fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(directory().join(format!("{name}.pod.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub fn translate(pod: &Value) -> Result<Translated, Refusals> {
    match edge_provider_translate::translate(pod, Context::default()) {
        Ok(translated) => Ok(translated),
        Err(Untranslated::Refused(refusals)) => Err(refusals),
        Err(Untranslated::NotYet(waits)) => panic!("{waits}"),
    }
}

/// The refused paths; empty for a pod that passes.
pub fn refused(pod: &Value) -> Vec<String> {
    translate(pod)
        .err()
        .map(|refusals| refusals.paths().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// The document of a pod that passes.
#[track_caller]
pub fn document(pod: &Value) -> String {
    translate(pod)
        .unwrap_or_else(|refusals| panic!("{refusals}"))
        .document()
}
