//! Every place of a pod that can refer to something.

use serde_json::json;

use super::*;

fn spec() -> Value {
    json!({
        "serviceAccountName": "robot",
        "imagePullSecrets": [{ "name": "registry" }, { "name": "" }],
        "initContainers": [{ "name": "i", "envFrom": [{ "configMapRef": { "name": "init" } }] }],
        "containers": [{
            "name": "c",
            "envFrom": [{ "secretRef": { "name": "all", "optional": true } }],
            "env": [
                { "name": "A", "valueFrom": { "configMapKeyRef": { "name": "shared", "key": "a", "optional": true } } },
                { "name": "B", "valueFrom": { "secretKeyRef": { "name": "key", "key": "b" } } },
            ],
        }],
        "volumes": [
            { "name": "m", "configMap": { "name": "shared" } },
            { "name": "s", "secret": { "secretName": "files", "optional": false } },
            { "name": "c", "persistentVolumeClaim": { "claimName": "data" } },
            { "name": "p", "projected": { "sources": [
                { "configMap": { "name": "part", "optional": true } },
                { "secret": { "name": "half" } },
                { "serviceAccountToken": { "path": "vault", "audience": "vault", "expirationSeconds": 600 } },
                { "serviceAccountToken": { "path": "own" } },
            ] } },
        ],
    })
}

fn needs(all: &[(&str, Need)]) -> BTreeMap<String, Need> {
    all.iter()
        .map(|(name, need)| ((*name).to_owned(), *need))
        .collect()
}

#[test]
fn each_place_is_found_and_one_that_cannot_do_without_decides() {
    use Need::{Mandatory, Optional};
    let found = references(&spec(), NodeKind::Device);
    assert_eq!(
        found.config_maps,
        needs(&[("init", Mandatory), ("part", Optional), ("shared", Mandatory)])
    );
    assert_eq!(
        found.secrets,
        needs(&[
            ("all", Optional),
            ("files", Mandatory),
            ("half", Mandatory),
            ("key", Mandatory)
        ])
    );
    assert_eq!(found.pull_secrets, BTreeSet::from(["registry".to_owned()]));
    assert_eq!(found.claims, BTreeSet::from(["data".to_owned()]));
    let token = |audience: Option<&str>, expiration_s| TokenRequest {
        service_account: "robot".to_owned(),
        audience: audience.map(str::to_owned),
        expiration_s,
    };
    assert_eq!(
        found.tokens,
        BTreeMap::from([
            ("p.2".to_owned(), token(Some("vault"), 600)),
            ("p.3".to_owned(), token(None, 3600)),
        ])
    );
    let keys: Vec<_> = found
        .keys()
        .into_iter()
        .map(|key| format!("{} {}", key.kind, key.name))
        .collect();
    assert_eq!(
        keys,
        [
            "ConfigMap init",
            "ConfigMap part",
            "ConfigMap shared",
            "PullCredential registry",
            "Secret all",
            "Secret files",
            "Secret half",
            "Secret key",
            "Services services",
            "Token p.2",
            "Token p.3",
        ]
    );
}

#[test]
fn services_are_wanted_by_kind_and_wish() {
    let wanted = |links: Value, kind| {
        let mut spec = spec();
        spec["enableServiceLinks"] = links;
        references(&spec, kind).services
    };
    assert_eq!(wanted(json!(null), NodeKind::Device), ServiceVariables::Namespace);
    assert_eq!(wanted(json!(true), NodeKind::Device), ServiceVariables::Namespace);
    assert_eq!(
        wanted(json!(false), NodeKind::Device),
        ServiceVariables::ApiServer
    );
    assert_eq!(wanted(json!(true), NodeKind::Fleet), ServiceVariables::None);
}

#[test]
fn the_api_servers_own_volume_counts_on_devices_only() {
    let spec = json!({
        "containers": [{ "name": "c" }],
        "volumes": [{ "name": "kube-api-access-x", "projected": { "defaultMode": 420, "sources": [
            { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
        ] } }],
    });
    assert_eq!(references(&spec, NodeKind::Fleet), References::default());
    let found = references(&spec, NodeKind::Device);
    assert_eq!(found.config_maps, needs(&[("kube-root-ca.crt", Need::Mandatory)]));
    let token = &found.tokens["kube-api-access-x.0"];
    assert_eq!(
        (token.service_account.as_str(), token.expiration_s),
        ("default", 3607)
    );
}

#[test]
fn what_is_no_spec_refers_to_nothing() {
    assert_eq!(references(&json!(7), NodeKind::Device), References::default());
}
