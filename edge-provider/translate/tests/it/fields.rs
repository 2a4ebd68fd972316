//! Holds every path of the Kubernetes schema to its class, on each kind of node.

use std::collections::BTreeSet;

use edge_provider_translate::fields::{Class, Expected, Rule, rules};
use edge_provider_translate::{NodeKind, references};
use serde_json::{Value, json};

use crate::honoured::{all_values, around, base, values};
use crate::pods::{self, KINDS, document_on, refused_on};
use crate::schema::{self, Entry, is_map, plant};

/// The rule at the path or above it. Keys with a rule of their own stand beside `*`, not above it.
fn governing(path: &str) -> Vec<&'static Rule> {
    let covers = |rule: &&Rule| {
        path == rule.path
            || path
                .strip_prefix(&rule.path)
                .is_some_and(|rest| rest.starts_with('.') || rest.starts_with("[]"))
    };
    rules().filter(covers).collect()
}

/// What a path needs around it, the same with a value there, and how a refusal would name that place.
fn with(path: &str, value: Value) -> (Value, Value, String) {
    let plain = around(path);
    let mut pod = plain.clone();
    let name = plant(&mut pod["spec"], path, value);
    (plain, pod, name)
}

/// What is refused of a pod beyond what is refused of another.
fn added(kind: NodeKind, plain: &Value, pod: &Value) -> Vec<String> {
    let before = refused_on(kind, plain);
    let after = refused_on(kind, pod).into_iter();
    after.filter(|path| !before.contains(path)).collect()
}

/// The leaves that one class governs on a kind of node, together with the rule.
fn leaves(kind: NodeKind, class: impl Fn(Class) -> bool) -> Vec<(Entry, &'static Rule)> {
    let leaves = schema::entries().into_iter().filter(|entry| entry.leaf);
    let governed = leaves.filter_map(|entry| Some((governing(&entry.path).first().copied()?, entry)));
    let found: Vec<_> = governed
        .filter(|(rule, _)| class(rule.class(kind)))
        .map(|(rule, entry)| (entry, rule))
        .collect();
    assert!(!found.is_empty());
    found
}

/// The path of the refused rule itself: what a refusal of something beneath it must name.
fn named(rule: &Rule, leaf: &Entry) -> String {
    plant(&mut json!({}), &rule.path, leaf.sample.clone())
}

#[test]
fn every_path_has_exactly_one_class_and_every_class_a_path() {
    let entries = schema::entries();
    let paths: BTreeSet<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert!(paths.len() > 800, "{} paths: is the schema whole?", paths.len());
    for entry in &entries {
        let count = governing(&entry.path).len();
        assert!(count <= 1, "{} has {count} classes", entry.path);
        assert!(count == 1 || !entry.leaf, "{} has no class", entry.path);
    }
    for rule in rules() {
        let exists = paths.contains(rule.path.as_str()) || {
            // A key of a list of resources with a rule of its own.
            let (map, key) = rule.path.rsplit_once('.').unwrap();
            is_map(map) && !key.contains('[') && paths.contains(format!("{map}.*").as_str())
        };
        assert!(exists, "{} is not in the schema", rule.path);
        let same = rules().filter(|other| other.path == rule.path);
        assert_eq!(same.count(), 1, "{} stands twice", rule.path);
    }
}

#[test]
fn refused_paths_are_named_whatever_stands_beneath_them() {
    for kind in KINDS {
        for (leaf, rule) in leaves(kind, |class| matches!(class, Class::Refused(_))) {
            let (plain, pod, _) = with(&leaf.path, leaf.sample.clone());
            let named = named(rule, &leaf);
            let already = refused_on(kind, &plain).contains(&named);
            let expect: Vec<String> = (!already).then_some(named).into_iter().collect();
            assert_eq!(added(kind, &plain, &pod), expect, "{kind:?} {}", leaf.path);
            assert!(!refused_on(kind, &pod).is_empty(), "{kind:?} {}", leaf.path);
        }
    }
}

#[test]
fn refused_objects_are_named_even_when_empty() {
    for kind in KINDS {
        for rule in rules().filter(|rule| matches!(rule.class(kind), Class::Refused(_))) {
            let (_, pod, name) = with(&rule.path, json!({}));
            assert!(refused_on(kind, &pod).contains(&name), "{kind:?} {}", rule.path);
            for nothing in [Value::Null, json!(""), json!([])] {
                // Of a map's key only null says nothing, and an empty resource is refused as such. A token without a path is, too.
                if rule.path.ends_with("serviceAccountToken.path") {
                    continue;
                }
                let (_, pod, name) = with(&rule.path, nothing);
                assert!(!refused_on(kind, &pod).contains(&name), "{kind:?} {}", rule.path);
            }
        }
    }
}

#[test]
fn what_only_the_control_plane_needs_passes_and_does_not_show() {
    for kind in KINDS {
        let plain = document_on(kind, &base());
        let beside = |class| matches!(class, Class::SchedulerOnly | Class::StatusOnly);
        for (leaf, _) in leaves(kind, beside) {
            let (_, pod, _) = with(&leaf.path, leaf.sample.clone());
            assert_eq!(document_on(kind, &pod), plain, "{kind:?} {}", leaf.path);
            let referred = |pod: &Value| references(&pod["spec"], kind);
            assert_eq!(referred(&pod), referred(&base()), "{kind:?} {}", leaf.path);
        }
    }
}

#[test]
fn defaults_pass_and_nothing_else_does() {
    for kind in KINDS {
        let mut seen = 0;
        for rule in rules() {
            let Class::DefaultOnly(expected) = rule.class(kind) else {
                continue;
            };
            let (defaults, other) = match expected {
                Expected::Flag(flag) => (vec![json!(flag)], json!(!flag)),
                Expected::Text(texts) => (texts.iter().map(|text| json!(text)).collect(), json!("7")),
            };
            for default in defaults {
                let (plain, pod, _) = with(&rule.path, default);
                assert_eq!(
                    document_on(kind, &pod),
                    document_on(kind, &plain),
                    "{kind:?} {}",
                    rule.path
                );
            }
            let (_, pod, name) = with(&rule.path, other);
            assert_eq!(refused_on(kind, &pod), [name], "{kind:?} {}", rule.path);
            seen += 1;
        }
        assert!(seen > 15, "{kind:?} {seen}");
    }
}

/// The document, and what must be read to make it.
#[track_caller]
fn outcome(kind: NodeKind, pod: &Value) -> String {
    format!("{} {:?}", document_on(kind, pod), references(&pod["spec"], kind))
}

/// Honoured in that they decide whether the pod is understood at all; no value but the one passes.
const NEEDED: &str = "fieldRef.apiVersion";

#[test]
fn honoured_paths_change_the_manifest() {
    let mut used = BTreeSet::new();
    for kind in KINDS {
        for rule in rules().filter(|rule| rule.class(kind) == Class::Honoured) {
            if rule.path.ends_with(NEEDED) {
                let (_, pod, _) = with(&rule.path, json!("v1"));
                document_on(kind, &pod);
                let (_, pod, name) = with(&rule.path, json!("v2"));
                assert_eq!(refused_on(kind, &pod), [name], "{kind:?}");
                continue;
            }
            let found = values(&rule.path);
            let (end, values) = found.unwrap_or_else(|| panic!("{} needs two values", rule.path));
            used.insert(end);
            let [first, second] = values.map(|value| {
                let (_, pod, _) = with(&rule.path, value);
                outcome(kind, &pod)
            });
            assert_ne!(first, second, "{kind:?} {}", rule.path);
        }
    }
    let unused: Vec<_> = all_values()
        .into_iter()
        .map(|(end, _)| end)
        .filter(|end| !used.contains(end))
        .collect();
    assert!(unused.is_empty(), "not honoured: {unused:?}");
}

#[test]
fn a_field_that_no_table_knows_is_refused_wherever_objects_are_read() {
    let mut parents: BTreeSet<&str> = BTreeSet::from([""]);
    for rule in rules() {
        let mut path = rule.path.as_str();
        while let Some((parent, _)) = path.rsplit_once('.') {
            parents.insert(parent);
            path = parent;
        }
    }
    for parent in parents.into_iter().filter(|parent| !is_map(parent)) {
        let path = if parent.is_empty() {
            "fromTheFuture".to_owned()
        } else {
            format!("{parent}.fromTheFuture")
        };
        for kind in KINDS {
            let (_, pod, name) = with(&path, json!({}));
            assert!(refused_on(kind, &pod).contains(&name), "{kind:?} {path}");
        }
    }
}

/// DESIGN.md: what a fleet pod may never have, whatever else the tables say.
#[test]
fn what_belongs_to_one_machine_is_refused_on_a_fleet_and_honoured_on_a_device() {
    let of_one: BTreeSet<&str> = rules()
        .filter(|rule| rule.class(NodeKind::Device) == Class::Honoured)
        .filter(|rule| matches!(rule.class(NodeKind::Fleet), Class::Refused(_)))
        .map(|rule| match rule.path.split_once("[].") {
            Some((list @ "ephemeralContainers", _)) => list,
            _ => rule.path.as_str(),
        })
        .collect();
    let expect = [
        "containers[].resizePolicy",
        "ephemeralContainers",
        "initContainers[].resizePolicy",
        "volumes[].persistentVolumeClaim.claimName",
        "volumes[].persistentVolumeClaim.readOnly",
        "volumes[].projected.sources[].serviceAccountToken.audience",
        "volumes[].projected.sources[].serviceAccountToken.expirationSeconds",
        "volumes[].projected.sources[].serviceAccountToken.path",
    ];
    assert_eq!(of_one.into_iter().collect::<Vec<_>>(), expect);
    let pod = pods::read("guaranteed");
    assert_eq!(refused_on(NodeKind::Device, &pod), [""; 0]);
}
