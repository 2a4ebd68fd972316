//! Equal pods give equal bytes.

use edge_protocol::v1::{Manifest, ReadyPolicy};
use edge_provider_translate::{Update, document};
use serde_json::{Map, Value};

use crate::pods;

/// The same JSON with the members of every object in the opposite order.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .rev()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), reversed(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(reversed).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[test]
fn the_order_of_the_json_does_not_show() {
    let pod = pods::read("everything");
    let turned: Value = serde_json::from_str(&reversed(&pod)).unwrap();
    assert_eq!(pods::document(&pod), pods::document(&turned));
}

#[test]
fn what_only_the_cluster_cares_about_does_not_show() {
    let pod = pods::read("everything");
    let mut later = pod.clone();
    let metadata = later["metadata"].as_object_mut().unwrap();
    for (field, value) in [
        ("resourceVersion", "9999".into()),
        ("creationTimestamp", "2030-01-01T00:00:00Z".into()),
        ("deletionTimestamp", "2030-01-01T00:00:00Z".into()),
        ("deletionGracePeriodSeconds", 1.into()),
        ("finalizers", Value::from(vec!["example/keep"])),
        ("managedFields", Value::Array(Vec::new())),
        ("generation", 7.into()),
    ] {
        metadata.insert(field.to_owned(), value);
    }
    later["status"] = Value::Object(Map::new());
    later["spec"]["schedulerName"] = "other".into();
    assert_eq!(pods::document(&pod), pods::document(&later));
}

#[test]
fn a_document_reads_back_as_its_manifest() {
    let translated = pods::translate(&pods::read("everything")).unwrap();
    let read: Manifest = serde_json::from_str(&translated.document()).unwrap();
    assert_eq!(read, translated.manifest);
    assert_eq!(document(&read), translated.document());
    assert_eq!(
        (translated.ready_policy, translated.update),
        (ReadyPolicy::Percent(90), Update::Replace)
    );
}

#[test]
fn only_name_and_image_restart_a_container() {
    let restart = |pod: &Value| pods::translate(pod).unwrap().manifest.workload.containers[0].restart_digest;
    let pod = pods::read("everything");
    let first = restart(&pod);
    for (pointer, value, changes) in [
        (
            "/spec/containers/0/image",
            Value::from("registry.example/gateway:2"),
            true,
        ),
        ("/spec/containers/0/name", "renamed".into(), true),
        ("/spec/containers/0/args", Value::from(vec!["--other"]), false),
        ("/metadata/labels/app", "other".into(), false),
        ("/metadata/annotations/note", "other".into(), false),
        ("/spec/terminationGracePeriodSeconds", 1.into(), false),
    ] {
        let mut changed = pod.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        assert_eq!(restart(&changed) != first, changes, "{pointer}");
    }
}
