//! What a configuration may say, and how a wrong one is named.

use std::path::Path;

use super::*;

const GOOD: &str = r#"
[node]
ip = "192.0.2.10"
[hub]
url = "https://hub.example:8443"
ca_file = "ca.pem"
token_file = "token"
[health]
listen = "127.0.0.1:0"
[[namespaces]]
selector = { match_labels = { "kubernetes.io/metadata.name" = "shop" } }
scope = "tags.site = 'graz'"
default_condition = "*"
rights = { privileged = true }
[[namespaces]]
selector = {}
scope = "*"
"#;

fn parse(text: &str) -> Result<Options, ConfigError> {
    Options::parse(text, Path::new("kubelet.toml"))
}

fn message(text: &str) -> String {
    let error = parse(text).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", source.unwrap_or_default())
}

#[test]
fn the_least_configuration_has_defaults() {
    let options = parse(GOOD).unwrap();
    assert_eq!(options.node.name, "outrigger");
    assert_eq!(options.lease_name(), "outrigger-kubelet-outrigger");
    assert_eq!(options.namespaces.len(), 2);
    assert!(options.namespaces[0].rights.privileged);
    assert!(options.namespaces[1].selector.match_labels.is_empty());
    assert_eq!(options.brake.workloads, 5);
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    for (wrong, line) in [("speed = 1\n", "line 1"), ("", "")] {
        let text = format!("{wrong}{GOOD}");
        if wrong.is_empty() {
            assert!(parse(&text).is_ok());
        } else {
            let message = message(&text);
            assert!(message.contains(line) && message.contains("speed"), "{message}");
        }
    }
    let nested = message(&GOOD.replace("ca_file", "ca_fiel"));
    assert!(
        nested.contains("line 6") && nested.contains("ca_fiel"),
        "{nested}"
    );
}

#[test]
fn a_value_that_cannot_work_is_named_by_its_key() {
    let check = |from: &str, to: &str, key: &str| {
        let message = message(&GOOD.replace(from, to));
        assert!(message.contains(key), "{message}");
    };
    check("192.0.2.10", "127.0.0.1", "node.ip");
    check("https://", "http://", "hub.url");
    check("ip = ", "name = \"Bad_Name\"\nip = ", "node.name");
    check("scope = \"*\"", "scope = \"\"", "namespaces.scope");
    let long = "x".repeat(60);
    check("ip = ", &format!("name = \"{long}\"\nip = "), "node.zone");
    let named = format!("name = \"{long}\"\nzone = \"hall-7\"\nip = ");
    assert!(parse(&GOOD.replace("ip = ", &named)).is_ok());
    for wrong in ["Bad", "a.b", ""] {
        let leader = format!("[kubernetes.leader]\nnamespace = \"{wrong}\"\n[health]");
        check("[health]", &leader, "kubernetes.leader.namespace");
    }
    for wrong in ["", "cluster.local.", "plant example"] {
        let domain = format!("[kubernetes]\ncluster_domain = \"{wrong}\"\n[health]");
        check("[health]", &domain, "kubernetes.cluster_domain");
    }
}

#[test]
fn the_root_secret_is_beside_the_token_unless_named() {
    let at = |text: &str| parse(text).unwrap().root_file();
    assert_eq!(at(GOOD), Path::new("sealing-root"));
    let elsewhere = GOOD.replace("\"token\"", "\"/etc/outrigger/hub-token\"");
    assert_eq!(at(&elsewhere), Path::new("/etc/outrigger/sealing-root"));
    let named = format!("{GOOD}\n[sealing]\nroot_file = \"/var/lib/outrigger/root\"\n");
    assert_eq!(at(&named), Path::new("/var/lib/outrigger/root"));
}

#[test]
fn the_kubelet_api_is_off_and_has_defaults_once_it_is_on() {
    let off = parse(GOOD).unwrap();
    assert!(off.kubelet_api.is_none());
    let on = parse(&format!("{GOOD}[kubelet_api]\n")).unwrap();
    let api = on.kubelet_api.as_ref().unwrap();
    assert_eq!((api.port, api.ports), (10_250, None));
    assert!(api.asks() && api.approves() && !api.insecure_stats);
    assert_eq!(on.address().to_string(), "192.0.2.10");
    let text = "[kubelet_api]\naddress = '2001:db8::7'\nports = 'per-node'\ncertificate = 'own'\n";
    let other = parse(&format!("{GOOD}{text}")).unwrap();
    assert_eq!(other.address().to_string(), "2001:db8::7");
    assert!(
        !other.kubelet_api.unwrap().approves(),
        "there is nothing to approve"
    );
    for (wrong, key) in [
        ("address = '127.0.0.1'", "kubelet_api.address"),
        ("port = 0", "kubelet_api.port"),
    ] {
        let message = message(&format!("{GOOD}[kubelet_api]\n{wrong}\n"));
        assert!(message.contains(key), "{message}");
    }
}
