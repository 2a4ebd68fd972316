//! Which paths of a pod's spec the cases set, held against the tables of the translation.

use std::collections::BTreeSet;

use edge_provider_translate::NodeKind;
use edge_provider_translate::fields::{self, Class};
use serde_json::Value;

/// The paths that a pod's spec sets, as the tables write them (`containers[].env[].value`), with all paths above them.
pub fn paths(spec: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk("", spec, &mut found);
    found
}

fn walk(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    if !path.is_empty() {
        found.insert(path.to_owned());
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let below = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                walk(&below, value, found);
                if !path.is_empty() {
                    // A map's keys are not in the tables unless they matter one by one.
                    found.insert(format!("{path}.*"));
                }
            }
        }
        Value::Array(items) => {
            let below = format!("{path}[]");
            found.insert(below.clone());
            for item in items {
                walk(&below, item, found);
            }
        }
        _ => {}
    }
}

/// The paths honoured on a device node that none of these specs set.
pub fn missing<'a>(specs: impl IntoIterator<Item = &'a Value>) -> Vec<&'static str> {
    let set: BTreeSet<String> = specs.into_iter().flat_map(paths).collect();
    fields::rules()
        .filter(|rule| rule.class(NodeKind::Device) == Class::Honoured && !set.contains(&rule.path))
        .map(|rule| rule.path.as_str())
        .collect()
}
