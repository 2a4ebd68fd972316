//! Pod → manifest pairs, byte by byte.

use edge_provider_translate::{Context, Found, NodeKind, Note};
use serde_json::{Value, json};

use crate::pods;

/// Of a directory: every pod and the document made from it on a kind of node.
#[track_caller]
fn check(kind: NodeKind, directory: &str, expect: &[&str]) {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let path = pods::directory().join(directory);
    let mut names: Vec<_> = std::fs::read_dir(&path)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name();
            name.to_str()?.strip_suffix(".pod.json").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert_eq!(names, expect);
    for name in names {
        let document = pods::document_on(kind, &pods::read(&format!("{directory}{name}")));
        let document = format!("{document}\n");
        let path = path.join(format!("{name}.manifest.json"));
        if update {
            std::fs::write(&path, &document).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), document, "{name}");
    }
}

#[test]
fn each_pod_gives_exactly_its_document() {
    check(
        NodeKind::Fleet,
        "",
        &["deployment", "everything", "guaranteed", "job"],
    );
    let heads = [
        "environment",
        "ephemeral",
        "host-network",
        "lifecycle",
        "names",
        "plain",
        "resources",
        "security",
        "volumes",
    ];
    check(NodeKind::Device, "device/", &heads);
}

#[test]
fn the_withheld_token_is_said_only_where_one_was_mounted() {
    assert_eq!(
        pods::translate(&pods::read("deployment")).unwrap().notes,
        [Note::TokenWithheld]
    );
    assert_eq!(pods::translate(&pods::read("guaranteed")).unwrap().notes, []);
}

#[test]
fn a_secret_in_a_variable_is_said_of_either_list_of_containers_and_of_no_volume() {
    let told = |change: fn(&mut Value)| {
        let mut pod = pods::read("guaranteed");
        change(&mut pod["spec"]);
        pods::translate_on(NodeKind::Device, &pod).unwrap().notes
    };
    let key = |spec: &mut Value| {
        let env = json!([{"name": "PIN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
        spec["containers"][0]["env"] = env;
    };
    let whole = |spec: &mut Value| {
        spec["initContainers"] = spec["containers"].clone();
        spec["initContainers"][0]["name"] = json!("first");
        spec["initContainers"][0]["envFrom"] = json!([{"secretRef": {"name": "s"}}]);
    };
    let map = |spec: &mut Value| {
        spec["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "s"}}]);
        spec["volumes"] = json!([{"name": "v", "secret": {"secretName": "s"}}]);
    };
    assert_eq!(told(key), [Note::SecretInEnvironment]);
    assert_eq!(told(whole), [Note::SecretInEnvironment]);
    assert_eq!(told(map), []);
}

#[test]
fn what_the_cluster_does_not_have_is_said_by_kind_and_need() {
    let mut pod = pods::read("guaranteed");
    let named = |name: &str, optional: bool| json!({"name": name, "key": "k", "optional": optional});
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "A", "valueFrom": {"configMapKeyRef": named("a", false)}},
        {"name": "B", "valueFrom": {"configMapKeyRef": named("b", true)}},
        {"name": "C", "valueFrom": {"secretKeyRef": named("c", false)}},
        {"name": "D", "valueFrom": {"secretKeyRef": named("d", true)}},
        {"name": "E", "valueFrom": {"configMapKeyRef": named("there", false)}},
    ]);
    let mut objects = pods::objects(&pod, NodeKind::Device);
    for (key, found) in &mut objects.found {
        if key.name != "there" {
            *found = Found::Missing;
        }
    }
    let context = Context {
        kind: NodeKind::Device,
        objects: &objects,
        ..Context::default()
    };
    let notes = edge_provider_translate::translate(&pod, context).unwrap().notes;
    let told: Vec<String> = notes
        .iter()
        .filter(|note| note.is_warning())
        .map(|note| format!("{}: {}", note.reason(), note.message()))
        .collect();
    let expected = [
        "MandatoryConfigMapNotFound: configmap \"a\" not found",
        "OptionalConfigMapNotFound: configmap \"b\" not found",
        "MandatorySecretNotFound: secret \"c\" not found",
        "OptionalSecretNotFound: secret \"d\" not found",
    ];
    assert_eq!(told, expected);
}
