//! `tests/fixtures/podspec/schema.json` as paths.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

/// One path of the schema, from `spec` downwards.
pub struct Entry {
    /// As the tables write it: `containers[].env[].value`, with `*` for the keys of a map.
    pub path: String,
    /// Whether nothing of the schema stands beneath it.
    pub leaf: bool,
    /// A value of the right type that no default has; meaningful for leaves.
    pub sample: Value,
}

/// All paths, parents before what stands beneath them.
pub fn entries() -> Vec<Entry> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/podspec/schema.json");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let schemas = document["schemas"].as_object().unwrap();
    let root = document["info"]["root"].as_str().unwrap();
    let mut found = Vec::new();
    descend(schemas, &schemas[root], "", &mut found);
    found
}

fn descend(schemas: &Map<String, Value>, schema: &Value, path: &str, found: &mut Vec<Entry>) {
    let schema = schema
        .get("ref")
        .map_or(schema, |name| &schemas[name.as_str().unwrap()]);
    let below: Vec<(String, &Value)> = if let Some(properties) = schema.get("properties") {
        let dot = if path.is_empty() { "" } else { "." };
        properties
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, inner)| (format!("{path}{dot}{name}"), inner))
            .collect()
    } else if let Some(items) = schema.get("items") {
        vec![(format!("{path}[]"), items)]
    } else if let Some(values) = schema.get("additionalProperties") {
        vec![(format!("{path}.*"), values)]
    } else {
        Vec::new()
    };
    if !path.is_empty() {
        found.push(Entry {
            path: path.to_owned(),
            leaf: below.is_empty(),
            sample: sample(schema),
        });
    }
    for (path, inner) in below {
        descend(schemas, inner, &path, found);
    }
}

fn sample(schema: &Value) -> Value {
    match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => json!(true),
        Some("integer" | "number") => json!(7),
        Some("object") => json!({ "some": "thing" }),
        Some("string") if schema.get("format").is_some_and(|format| format == "date-time") => {
            json!("2026-11-21T00:00:00Z")
        }
        // Quantities and ports by number or name too: a text of digits is all of them.
        _ => json!("7"),
    }
}

/// Puts `value` at `path` into `spec`; lists get or keep a first element, `*` becomes the key `example.com/key`.
///
/// Returns the path as a refusal of the whole value would name it.
pub fn plant(spec: &mut Value, path: &str, value: Value) -> String {
    let mut at = spec;
    let mut name = "spec".to_owned();
    for part in path.split('.') {
        let field = part.trim_end_matches("[]");
        let in_map = field == "*" || is_resource_list(&name);
        let field = if field == "*" { "example.com/key" } else { field };
        name = if in_map {
            format!("{name}[{field}]")
        } else {
            format!("{name}.{field}")
        };
        if !at.is_object() {
            *at = json!({});
        }
        at = at
            .as_object_mut()
            .unwrap()
            .entry(field.to_owned())
            .or_insert(Value::Null);
        for _ in 0..(part.len() - part.trim_end_matches("[]").len()) / 2 {
            if at.as_array().is_none_or(Vec::is_empty) {
                *at = json!([null]);
            }
            at = &mut at[0];
            name.push_str("[0]");
        }
    }
    *at = value;
    name
}

fn is_resource_list(name: &str) -> bool {
    is_map(name.trim_start_matches("spec."))
}

/// Whether a path is that of a map from resources to quantities.
pub fn is_map(path: &str) -> bool {
    path == "overhead" || path.ends_with("resources.limits") || path.ends_with("resources.requests")
}
