//! The allow-lists of the core crates: a forbidden arrow must fail, not be noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::run;

/// What each core crate may depend on directly, exactly. Tests may use more.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "edge-protocol",
        &[
            "base64",
            "curve25519-dalek",
            "ed25519-dalek",
            "hpke",
            "ring",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
            "utoipa",
            "uuid",
            "zeroize",
            "zstd",
        ],
    ),
    ("edge-agent-core", &["edge-protocol", "serde", "serde_json"]),
    (
        "iot-hub-core",
        &["edge-protocol", "serde", "serde_json", "thiserror", "winnow"],
    ),
    ("edge-provider-core", &["edge-protocol", "serde", "serde_json"]),
    (
        "edge-provider-translate",
        &[
            "edge-protocol",
            "jiff",
            "k8s-openapi",
            "serde",
            "serde_ignored",
            "serde_json",
            "thiserror",
        ],
    ),
    (
        "virtual-kubelet-core",
        &["jiff", "serde", "serde_json", "thiserror"],
    ),
];

/// The same for crates that do IO, and so are no cores, but whose users must not pay for more than these.
const ALLOWED_SHELLS: &[(&str, &[&str])] = &[
    (
        "edge-streams",
        &[
            "base64",
            "bytes",
            "flate2",
            "futures-util",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio-tungstenite",
            "tracing",
        ],
    ),
    (
        "virtual-kubelet-api",
        &[
            "base64",
            "bytes",
            "edge-streams",
            "form_urlencoded",
            "futures-util",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "jiff",
            "k8s-openapi",
            "kube",
            "percent-encoding",
            "rustls",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-tungstenite",
            "tokio-util",
            "tracing",
            "x509-parser",
        ],
    ),
];

/// Dependencies that exactly one crate may name.
const WRAPPED: &[(&str, &str)] = &[
    ("rumqttd", "iot-hub-mqtt"),
    ("protox", "edge-agent-cri"),
    ("tonic-prost-build", "edge-agent-cri"),
];

/// Crates that must never be reached from another, by any way.
const UNREACHABLE: &[(&str, &[&str])] = &[
    ("edge-agent", &["reqwest", "kube", "k8s-openapi", "sqlx", "axum"]),
    ("iot-hub", &["kube", "k8s-openapi"]),
    ("edge-streams", &["kube", "k8s-openapi", "hyper", "axum"]),
    (
        "virtual-kubelet-api",
        &[
            "edge-protocol",
            "virtual-kubelet",
            "iot-hub-client",
            "axum",
            "reqwest",
        ],
    ),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    source: Option<String>,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// Checks every arrow and that all cores share one `clippy.toml`.
///
/// # Errors
/// Names every forbidden arrow at once.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let metadata = read(root)?;
    let findings = findings(&metadata, root)?;
    if findings.is_empty() {
        let crates = ALLOWED.len() + ALLOWED_SHELLS.len();
        println!("arrows: {crates} crates depend on what they may");
        return Ok(());
    }
    let mut text = String::new();
    for finding in &findings {
        writeln!(text, "  {finding}")?;
    }
    bail!("forbidden arrows (a new one needs an ADR and a line in xtask/src/arrows.rs):\n{text}")
}

fn read(root: &Path) -> anyhow::Result<Metadata> {
    let text = run::output(root, "cargo", &["metadata", "--format-version", "1", "--locked"])?;
    serde_json::from_str(&text).context("cannot read cargo's metadata")
}

fn findings(metadata: &Metadata, root: &Path) -> anyhow::Result<Vec<String>> {
    let members: BTreeMap<&str, &Package> = metadata
        .packages
        .iter()
        .filter(|package| package.source.is_none())
        .map(|package| (package.name.as_str(), package))
        .collect();
    let mut findings = Vec::new();
    let shared =
        std::fs::read_to_string(root.join("xtask/core-clippy.toml")).context("xtask/core-clippy.toml")?;
    for (name, allowed) in ALLOWED.iter().chain(ALLOWED_SHELLS) {
        let package = members.get(name).with_context(|| format!("no crate {name}"))?;
        for dependency in normal(package).filter(|dependency| !allowed.contains(dependency)) {
            findings.push(format!("{name} → {dependency}"));
        }
    }
    for (name, _) in ALLOWED {
        let package = members.get(name).with_context(|| format!("no crate {name}"))?;
        let own = Path::new(&package.manifest_path).with_file_name("clippy.toml");
        if std::fs::read_to_string(&own).ok().as_deref() != Some(&shared) {
            findings.push(format!(
                "{} is not a copy of xtask/core-clippy.toml",
                own.display()
            ));
        }
    }
    for (wrapped, wrapper) in WRAPPED {
        for (name, package) in members.iter().filter(|(name, _)| *name != wrapper) {
            if package
                .dependencies
                .iter()
                .any(|dependency| dependency.name == *wrapped)
            {
                findings.push(format!("{name} → {wrapped}, which only {wrapper} may name"));
            }
        }
    }
    for (name, unreachable) in UNREACHABLE {
        let package = members.get(name).with_context(|| format!("no crate {name}"))?;
        let reached = reached(metadata, &package.id);
        for other in unreachable.iter().filter(|other| reached.contains(**other)) {
            findings.push(format!("{name} ⇢ {other}, through some dependency"));
        }
    }
    Ok(findings)
}

fn normal(package: &Package) -> impl Iterator<Item = &str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.is_none())
        .map(|dependency| dependency.name.as_str())
}

/// The names of all crates that end up in a build of `from`; build and test dependencies do not.
fn reached<'a>(metadata: &'a Metadata, from: &'a str) -> BTreeSet<&'a str> {
    let nodes: BTreeMap<&str, &Node> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let names: BTreeMap<&str, &str> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package.name.as_str()))
        .collect();
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        let edges = nodes.get(id).map_or(&[][..], |node| &node.deps);
        for edge in edges
            .iter()
            .filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none()))
        {
            if seen.insert(&edge.pkg) {
                open.push(&edge.pkg);
            }
        }
    }
    seen.into_iter().filter_map(|id| names.get(id).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(core_dependency: &str) -> Metadata {
        let text = format!(
            r#"{{"packages": [{{"id": "a", "name": "x", "source": null, "manifest_path": "/x/Cargo.toml",
                "dependencies": [{{"name": "{core_dependency}", "kind": null}}, {{"name": "proptest", "kind": "dev"}}]}}],
              "resolve": {{"nodes": [
                {{"id": "a", "deps": [{{"pkg": "b", "dep_kinds": [{{"kind": null}}]}}, {{"pkg": "d", "dep_kinds": [{{"kind": "dev"}}]}}]}},
                {{"id": "b", "deps": []}}, {{"id": "d", "deps": []}}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn test_dependencies_are_free_and_normal_ones_are_seen() {
        let metadata = metadata("tokio");
        assert_eq!(normal(&metadata.packages[0]).collect::<Vec<_>>(), ["tokio"]);
    }

    #[test]
    fn only_what_is_built_in_is_reached() {
        let mut metadata = metadata("tokio");
        for (id, name) in [("b", "reqwest"), ("d", "proptest")] {
            metadata.packages.push(Package {
                id: id.into(),
                name: name.into(),
                source: Some("registry".into()),
                manifest_path: String::new(),
                dependencies: Vec::new(),
            });
        }
        let reached = reached(&metadata, "a");
        assert!(
            reached.contains("reqwest") && !reached.contains("proptest"),
            "{reached:?}"
        );
    }
}
