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

/// The paths honoured on a device node.
pub fn honoured() -> impl Iterator<Item = &'static str> {
    fields::rules()
        .filter(|rule| rule.class(NodeKind::Device) == Class::Honoured)
        .map(|rule| rule.path.as_str())
}

/// The paths honoured on a device node that none of these specs set.
pub fn missing<'a>(specs: impl IntoIterator<Item = &'a Value>) -> BTreeSet<&'static str> {
    let set: BTreeSet<String> = specs.into_iter().flat_map(paths).collect();
    honoured().filter(|path| !set.contains(*path)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use edge_provider_translate::features::PROVED;
    use serde::Deserialize;

    use super::*;
    use crate::case::{Case, Script, Step};
    use crate::side::Side;

    /// So many paths are in `uncovered.yaml`, and never more again.
    const MOST: usize = 13;

    /// What no case can set, and why.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Uncovered {
        why: String,
        paths: Vec<String>,
    }

    /// What all cases do on a device, by name.
    fn played() -> BTreeMap<String, Script> {
        let side = Side {
            name: "device",
            node: "edge".into(),
            host_ip: "10.1.0.2".into(),
            logs: "/nowhere".into(),
            scratch: "/scratch".into(),
            registry: "registry.example/".into(),
        };
        let cases = Case::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")).unwrap();
        let played = cases
            .into_iter()
            .map(|case| (case.name.clone(), case.script(&side).unwrap()));
        played.collect()
    }

    /// Bound by the scheduler, which leaves a pod alone that needs what its node does not declare.
    #[test]
    fn every_declared_feature_is_proved_by_a_case_that_is_scheduled() {
        let played = played();
        for feature in PROVED {
            let case = &played[feature.proved_by];
            assert!(!case.header.bound, "{feature:?}");
            let steps = case.header.steps.iter().filter_map(|step| match step {
                Step::Resize(pod) => Some(pod),
                _ => None,
            });
            let mut objects = case.objects.iter().chain(steps).map(Value::to_string);
            assert!(
                objects.any(|object| object.contains(feature.needed_by)),
                "{feature:?}"
            );
        }
    }

    #[test]
    fn every_honoured_path_is_set_by_a_case_or_it_is_said_why_none_can() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(home.join("uncovered.yaml")).unwrap();
        let listed: Vec<Uncovered> = serde_saphyr::from_str(&text).unwrap();
        assert!(listed.iter().all(|entry| !entry.why.is_empty()));
        let all: Vec<&str> = listed
            .iter()
            .flat_map(|entry| &entry.paths)
            .map(String::as_str)
            .collect();
        let listed: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(listed.len(), all.len(), "a path is listed twice");
        assert!(all.len() <= MOST, "the list only shrinks");

        let played = played();
        let missing = missing(played.values().flat_map(Script::specs));
        let unset: Vec<_> = missing.difference(&listed).collect();
        assert!(unset.is_empty(), "no case sets {unset:#?}");
        let set: Vec<_> = listed.difference(&missing).collect();
        assert!(
            set.is_empty(),
            "a case sets what is listed as uncovered: {set:#?}"
        );
    }
}
