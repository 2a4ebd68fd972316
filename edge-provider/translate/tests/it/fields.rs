//! Holds every path of the Kubernetes schema to its class.

use std::collections::{BTreeMap, BTreeSet};

use edge_provider_translate::fields::{Class, Expected, Rule, rules};
use serde_json::{Value, json};

use crate::pods;
use crate::schema::{self, Entry, plant};

/// The rule at the path or above it. Keys with a line of their own stand beside `*`, not above it.
fn governing(path: &str) -> Vec<&'static Rule> {
    let covers = |rule: &&Rule| {
        path == rule.path
            || path
                .strip_prefix(rule.path)
                .is_some_and(|rest| rest.starts_with('.') || rest.starts_with("[]"))
    };
    rules().filter(covers).collect()
}

/// A pod that passes and uses as little as possible.
fn base() -> Value {
    pods::read("guaranteed")
}

/// The base with a value at a path, and how a refusal would name that place.
fn with(path: &str, value: Value) -> (Value, String) {
    let mut pod = base();
    // A port is nothing without its number.
    if path.starts_with("containers[].ports[]") {
        pod["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 80 }]);
    }
    let name = plant(&mut pod["spec"], path, value);
    (pod, name)
}

/// The leaves that one class governs, together with the rule.
fn leaves(class: impl Fn(Class) -> bool) -> Vec<(Entry, &'static Rule)> {
    let leaves = schema::entries().into_iter().filter(|entry| entry.leaf);
    let governed = leaves.filter_map(|entry| Some((governing(&entry.path).first().copied()?, entry)));
    let found: Vec<_> = governed
        .filter(|(rule, _)| class(rule.class))
        .map(|(rule, entry)| (entry, rule))
        .collect();
    assert!(!found.is_empty());
    found
}

/// The path of the refused line itself: what a refusal of something beneath it must name.
fn named(rule: &Rule, leaf: &Entry) -> String {
    plant(&mut json!({}), rule.path, leaf.sample.clone())
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
        let exists = paths.contains(rule.path) || {
            // A key of a resource list with a line of its own.
            let (map, key) = rule.path.rsplit_once('.').unwrap();
            map.starts_with("containers[].resources.")
                && !key.contains('[')
                && paths.contains(format!("{map}.*").as_str())
        };
        assert!(exists, "{} is not in the schema", rule.path);
        assert_eq!(
            rules().filter(|other| other.path == rule.path).count(),
            1,
            "{} stands twice",
            rule.path
        );
    }
}

#[test]
fn refused_paths_are_named_whatever_stands_beneath_them() {
    for (leaf, rule) in leaves(|class| matches!(class, Class::Refused(_))) {
        let (pod, _) = with(&leaf.path, leaf.sample.clone());
        assert_eq!(pods::refused(&pod), [named(rule, &leaf)], "{}", leaf.path);
    }
}

#[test]
fn refused_objects_are_named_even_when_empty() {
    for rule in rules().filter(|rule| matches!(rule.class, Class::Refused(_))) {
        let (pod, name) = with(rule.path, json!({}));
        assert!(pods::refused(&pod).contains(&name), "{}", rule.path);
        for nothing in [Value::Null, json!(""), json!([])] {
            // Of a map's key only null says nothing, and an empty resource is refused as such.
            let (pod, name) = with(rule.path, nothing);
            assert!(!pods::refused(&pod).contains(&name), "{}", rule.path);
        }
    }
}

#[test]
fn what_only_the_control_plane_needs_passes_and_does_not_show() {
    let plain = pods::document(&base());
    for (leaf, _) in leaves(|class| class == Class::SchedulerOnly) {
        let (pod, _) = with(&leaf.path, leaf.sample.clone());
        assert_eq!(pods::document(&pod), plain, "{}", leaf.path);
    }
    for rule in rules().filter(|rule| rule.class == Class::SchedulerOnly && rule.path.contains("requests.")) {
        let (pod, _) = with(rule.path, json!("7"));
        assert_eq!(pods::document(&pod), plain, "{}", rule.path);
    }
}

#[test]
fn defaults_pass_and_nothing_else_does() {
    let plain = pods::document(&base());
    let mut seen = 0;
    for rule in rules() {
        let Class::DefaultOnly(expected) = rule.class else {
            continue;
        };
        let (defaults, other) = match expected {
            Expected::Flag(flag) => (vec![json!(flag)], json!(!flag)),
            Expected::Text(texts) => (texts.iter().map(|text| json!(text)).collect(), json!("7")),
            // Their defaults are in the fixture "deployment"; see `refusals`.
            Expected::ApiAccessSource | Expected::ApiAccessMount => {
                (Vec::new(), json!({ "name": "kube-api-access-1" }))
            }
        };
        for default in defaults {
            let (pod, _) = with(rule.path, default);
            assert_eq!(pods::document(&pod), plain, "{}", rule.path);
        }
        let (pod, name) = with(rule.path, other);
        assert_eq!(pods::refused(&pod), [name], "{}", rule.path);
        seen += 1;
    }
    assert!(seen > 15);
    for (leaf, rule) in leaves(|class| {
        matches!(
            class,
            Class::DefaultOnly(Expected::ApiAccessSource | Expected::ApiAccessMount)
        )
    }) {
        let (pod, _) = with(&leaf.path, leaf.sample.clone());
        assert_eq!(pods::refused(&pod), [named(rule, &leaf)], "{}", leaf.path);
    }
}

/// For each honoured path two values that must give different manifests.
fn honoured() -> BTreeMap<&'static str, [Value; 2]> {
    let texts = |a: &str, b: &str| [json!(a), json!(b)];
    BTreeMap::from([
        ("containers[].args", [json!(["a"]), json!(["b"])]),
        ("containers[].command", [json!(["a"]), json!(["b"])]),
        ("containers[].env[].name", texts("A", "B")),
        ("containers[].env[].value", texts("1", "2")),
        ("containers[].image", texts("r.example/a:1", "r.example/a:2")),
        ("containers[].imagePullPolicy", texts("Always", "Never")),
        ("containers[].name", texts("a", "b")),
        ("containers[].ports[].containerPort", [json!(1), json!(2)]),
        ("containers[].ports[].hostPort", [json!(1), json!(2)]),
        ("containers[].ports[].name", texts("a", "b")),
        ("containers[].ports[].protocol", texts("UDP", "SCTP")),
        ("containers[].resources.limits.cpu", texts("1", "2")),
        ("containers[].resources.limits.memory", texts("1Mi", "2Mi")),
        ("containers[].resources.requests.cpu", texts("1m", "2m")),
        ("containers[].resources.requests.memory", texts("1Ki", "2Ki")),
        ("containers[].workingDir", texts("/a", "/b")),
        ("restartPolicy", texts("OnFailure", "Never")),
        ("terminationGracePeriodSeconds", [json!(1), json!(0)]),
    ])
}

#[test]
fn honoured_paths_change_the_manifest() {
    let mut values = honoured();
    for rule in rules().filter(|rule| rule.class == Class::Honoured) {
        // No volume reaches a device; the name decides which one is the API server's, see `refusals`.
        if rule.path == "volumes[].name" {
            continue;
        }
        let values = values
            .remove(rule.path)
            .unwrap_or_else(|| panic!("{} needs two values here", rule.path));
        let [first, second] = values.map(|value| {
            let (pod, _) = with(rule.path, value);
            pods::document(&pod)
        });
        assert_ne!(first, second, "{}", rule.path);
    }
    assert!(values.is_empty(), "not honoured: {values:?}");
}

#[test]
fn a_field_that_no_table_knows_is_refused_wherever_objects_are_read() {
    let tables: BTreeSet<&str> = rules().map(|rule| rule.path).collect();
    let mut parents: BTreeSet<&str> = BTreeSet::from([""]);
    for path in tables {
        let mut path = path;
        while let Some((parent, _)) = path.rsplit_once('.') {
            parents.insert(parent);
            path = parent;
        }
    }
    for parent in parents
        .into_iter()
        .filter(|parent| !parent.contains(".requests") && !parent.contains(".limits"))
    {
        let path = if parent.is_empty() {
            "fromTheFuture".to_owned()
        } else {
            format!("{parent}.fromTheFuture")
        };
        let (pod, name) = with(&path, json!({}));
        assert_eq!(pods::refused(&pod), [name], "{path}");
    }
}
