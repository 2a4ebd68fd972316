//! What of an object reaches a device, and when a claim can be used.

use super::*;

#[test]
fn a_config_map_keeps_text_and_binary_apart() {
    let map = json!({
        "metadata": { "name": "web" },
        "data": { "a": "1" },
        "binaryData": { "b": "aGk=" },
    });
    let data = config_map(&map).unwrap();
    assert_eq!((data.kind.as_str(), data.name.as_str()), ("ConfigMap", "web"));
    assert_eq!(data.text, BTreeMap::from([("a".to_owned(), "1".to_owned())]));
    assert_eq!(
        data.binary,
        BTreeMap::from([("b".to_owned(), Bytes(b"hi".to_vec()))])
    );
}

#[test]
fn a_secret_is_decoded() {
    let data =
        secret(&json!({ "metadata": { "name": "db" }, "data": { "a": "aGk=", "b": "AP8=" } })).unwrap();
    assert_eq!(data.get("a"), Some(b"hi".as_slice()));
    assert_eq!(data.text.len(), 1);
    assert_eq!(data.get("b"), Some([0, 255].as_slice()));
}

#[test]
fn what_is_no_object_says_so() {
    for wrong in [
        json!(null),
        json!({ "metadata": {} }),
        json!({ "metadata": { "name": "a" }, "data": { "k": 1 } }),
    ] {
        assert!(config_map(&wrong).is_err(), "{wrong}");
        assert!(secret(&wrong).is_err(), "{wrong}");
    }
    let error = secret(&json!({ "metadata": { "name": "a" }, "data": { "k": "%" } })).unwrap_err();
    assert_eq!(error.to_string(), "is no Secret: a value is no base64");
}

#[test]
fn both_docker_types_become_one() {
    let credential = |kind: &str, key: &str, value: &str| {
        let encoded = String::from(Bytes(value.as_bytes().to_vec()));
        pull_credential(&json!({ "metadata": { "name": "reg" }, "type": kind, "data": { key: encoded } }))
    };
    let auths = r#"{"r.example":{"auth":"eDp5"}}"#;
    let whole = format!(r#"{{"auths":{auths}}}"#);
    let modern = credential("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &whole).unwrap();
    let legacy = credential("kubernetes.io/dockercfg", ".dockercfg", auths).unwrap();
    assert_eq!(modern, legacy);
    assert_eq!(modern.text[".dockerconfigjson"], whole);
    assert_eq!(modern.kind, "PullCredential");
    assert_eq!(credential("Opaque", ".dockerconfigjson", &whole), None);
    assert_eq!(credential("kubernetes.io/dockercfg", ".dockercfg", "{"), None);
}

#[test]
fn a_claim_is_used_once_both_sides_are_bound() {
    let bound = || {
        let claim = json!({
            "metadata": { "name": "data", "uid": "u1" },
            "spec": { "volumeName": "pv" },
            "status": { "phase": "Bound" },
        });
        let volume = json!({ "spec": { "local": { "path": "/data" }, "claimRef": { "uid": "u1" }, "volumeMode": "Filesystem" } });
        (claim, volume)
    };
    let check = |change: fn(&mut Value, &mut Value), expect: &Claim| {
        let (mut one, mut other) = bound();
        change(&mut one, &mut other);
        assert_eq!(claim(Some(&one), Some(&other)), *expect);
    };
    let path = |path: &str, check, plugin| Claim::Bound {
        path: path.to_owned(),
        check,
        plugin,
    };
    let not_yet = |why: &str| Claim::NotYet(why.to_owned());
    check(
        |_, _| {},
        &path("/data", HostPathCheck::Directory, ClaimPlugin::Local),
    );
    check(
        |_, volume| {
            volume["spec"] = json!({ "hostPath": { "path": "/h", "type": "DirectoryOrCreate" }, "claimRef": { "uid": "u1" } });
        },
        &path("/h", HostPathCheck::DirectoryOrCreate, ClaimPlugin::HostPath),
    );
    // What it asks of the path is not what tells it from a local volume.
    check(
        |_, volume| {
            volume["spec"] =
                json!({ "hostPath": { "path": "/h", "type": "Directory" }, "claimRef": { "uid": "u1" } });
        },
        &path("/h", HostPathCheck::Directory, ClaimPlugin::HostPath),
    );
    check(
        |claim, _| claim["status"]["phase"] = json!("Pending"),
        &not_yet("the claim is not bound"),
    );
    check(
        |_, volume| volume["spec"]["claimRef"]["uid"] = json!("u2"),
        &not_yet("the volume is bound to another claim"),
    );
    check(
        |claim, _| claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
        &not_yet("the claim is being deleted"),
    );
    check(
        |claim, _| {
            claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            claim["metadata"]["finalizers"] = json!(["kubernetes.io/pvc-protection"]);
        },
        &path("/data", HostPathCheck::Directory, ClaimPlugin::Local),
    );
    check(
        |_, volume| volume["spec"]["volumeMode"] = json!("Block"),
        &Claim::Unsupported("a claim on a block device".to_owned()),
    );
    check(
        |_, volume| volume["spec"]["local"] = json!(null),
        &Claim::Unsupported("a claim on a volume that is not of the device itself".to_owned()),
    );
    let (one, _) = bound();
    assert_eq!(claim(None, None), not_yet("the claim does not exist"));
    assert_eq!(
        claim(Some(&one), None),
        not_yet("the claim's volume does not exist")
    );
}
