//! Cuts the closure of `PodSpec` out of a Kubernetes `OpenAPI` v3 document: standard input → standard output.
//!
//! How to run it for another Kubernetes version is said in `tests/fixtures/podspec/README.md`.

#![allow(
    clippy::disallowed_methods,
    reason = "a tool for developers; only the library is free of IO"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};

use serde_json::{Map, Value, json};

const ROOT: &str = "io.k8s.api.core.v1.PodSpec";
/// What a schema says about shape; descriptions and merge hints are left behind.
const KEPT: [&str; 4] = ["type", "format", "x-kubernetes-int-or-string", "oneOf"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let document: Value = serde_json::from_str(&text)?;
    let version = std::env::args()
        .nth(1)
        .ok_or("usage: cut-podspec-schema VERSION < api__v1_openapi.json")?;
    let schemas = document["components"]["schemas"]
        .as_object()
        .ok_or("no components.schemas")?;

    let mut cut = BTreeMap::new();
    let mut open = BTreeSet::from([ROOT.to_owned()]);
    while let Some(name) = open.pop_first() {
        if cut.contains_key(&name) {
            continue;
        }
        let schema = schemas
            .get(&name)
            .ok_or_else(|| format!("{name} is referred to but absent"))?;
        cut.insert(name, shape(schema, &mut open));
    }

    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{{\"info\":{},\"schemas\":{{",
        json!({ "kubernetes": version, "root": ROOT })
    )?;
    let last = cut.len().saturating_sub(1);
    for (index, (name, schema)) in cut.iter().enumerate() {
        let comma = if index == last { "" } else { "," };
        writeln!(out, "{}:{schema}{comma}", json!(name))?;
    }
    writeln!(out, "}}}}")?;
    Ok(())
}

/// One schema without its prose; the names it refers to are added to `open`.
fn shape(schema: &Value, open: &mut BTreeSet<String>) -> Value {
    if let Some(name) = reference(schema) {
        open.insert(name.clone());
        return json!({ "ref": name });
    }
    let mut out = Map::new();
    for key in KEPT {
        if let Some(value) = schema.get(key) {
            out.insert(key.to_owned(), value.clone());
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key) {
            out.insert(key.to_owned(), shape(inner, open));
        }
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let properties = properties
            .iter()
            .map(|(name, inner)| (name.clone(), shape(inner, open)))
            .collect();
        out.insert("properties".to_owned(), Value::Object(properties));
    }
    Value::Object(out)
}

/// The short name behind `$ref`, given directly or as the only member of `allOf` (how version 3 adds a description).
fn reference(schema: &Value) -> Option<String> {
    let direct = schema
        .get("$ref")
        .or_else(|| schema.get("allOf")?.get(0)?.get("$ref"))?;
    Some(direct.as_str()?.rsplit('/').next()?.to_owned())
}
