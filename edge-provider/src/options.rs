//! The configuration file: typed, closed (an unknown key is an error with its line), validated once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use virtual_kubelet::core::{Capacity, NamespaceEntry, NamespaceMap};

/// The whole configuration, as in `kubelet.toml`. Paths are relative to the working directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    pub node: NodeOptions,
    pub hub: HubOptions,
    pub health: HealthOptions,
    #[serde(default)]
    pub kubernetes: KubernetesOptions,
    /// Law 12: which namespaces may target what. The first entry that matches counts; without any, no pod goes anywhere.
    #[serde(default)]
    pub namespaces: Vec<NamespaceEntry>,
    #[serde(default)]
    pub brake: BrakeOptions,
    #[serde(default)]
    pub log: LogOptions,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesOptions {
    /// Absent: the service account of the pod that this process runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The UID of `kube-system` in the one cluster to serve. Absent pins the cluster that answers first, unless the hub already holds
    /// deployments of this node from another: then the process ends and says what to do.
    pub cluster_uid: Option<String>,
    pub leader: LeaderOptions,
}

/// The lease by which a second process for the same node stands by.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeaderOptions {
    /// Of the lease and of the service account, as `outrigger-kubelet rbac` writes them.
    pub namespace: String,
    /// Absent: `outrigger-kubelet-<node>`.
    pub lease: Option<String>,
}

impl Default for LeaderOptions {
    fn default() -> Self {
        Self {
            namespace: "outrigger-system".to_owned(),
            lease: None,
        }
    }
}

/// The fleet node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeOptions {
    #[serde(default = "defaults::node")]
    pub name: String,
    /// The address of this machine that the API server can reach; it refuses to proxy to loopback.
    pub ip: IpAddr,
    /// Where the kubelet API listens; absent says in the Node that nothing does.
    #[serde(default)]
    pub kubelet_port: Option<u16>,
    /// Absent: `outrigger-<name>`.
    #[serde(default)]
    pub zone: Option<String>,
    #[serde(default = "defaults::os")]
    pub os: String,
    #[serde(default = "defaults::arch")]
    pub arch: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The Node never shows more than this, however large the fleet is.
    #[serde(default)]
    pub capacity: CapacityBound,
}

impl NodeOptions {
    /// Its own zone always: dark devices would slow the eviction of dead workers in a shared one.
    pub fn zone(&self) -> String {
        let own = || format!("outrigger-{}", self.name);
        self.zone.clone().unwrap_or_else(own)
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapacityBound {
    pub cpu_milli: u64,
    pub memory_mib: u64,
    pub pods: u64,
}

impl Default for CapacityBound {
    fn default() -> Self {
        Self {
            cpu_milli: 1_000_000,
            memory_mib: 4 << 20,
            pods: 10_000,
        }
    }
}

impl CapacityBound {
    pub fn capacity(self) -> Capacity {
        Capacity {
            cpu_milli: self.cpu_milli,
            memory_bytes: self.memory_mib.saturating_mul(1 << 20),
            pods: self.pods,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubOptions {
    /// `https://host:port`.
    pub url: String,
    /// The certificates to trust (PEM), and no others.
    pub ca_file: PathBuf,
    /// A file that holds the bearer token and nothing else.
    pub token_file: PathBuf,
}

/// `/healthz`, `/readyz` and `/metrics`, without TLS: keep it on loopback or a private network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthOptions {
    pub listen: SocketAddr,
}

/// How many workloads may be removed by inference alone per window; more waits for SIGUSR1.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrakeOptions {
    pub workloads: usize,
    pub percent: usize,
    pub window_s: u64,
}

impl Default for BrakeOptions {
    fn default() -> Self {
        Self {
            workloads: 5,
            percent: 10,
            window_s: 600,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogOptions {
    pub format: LogFormat,
    /// A `tracing` filter such as `info,edge_provider=debug`; empty means `info`.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogOptions {
    pub(crate) fn filter_text(&self) -> &str {
        if self.filter.is_empty() {
            "info"
        } else {
            &self.filter
        }
    }
}

mod defaults {
    pub(super) fn node() -> String {
        "outrigger".to_owned()
    }
    pub(super) fn os() -> String {
        "linux".to_owned()
    }
    pub(super) fn arch() -> String {
        "amd64".to_owned()
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The source names line and column.
    #[error("{path} is not a configuration")]
    Parse {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("{key}: {why}")]
    Value { key: &'static str, why: String },
}

impl Options {
    /// Reads and validates the file.
    ///
    /// # Errors
    /// [`OptionsError`] names the file and line, or the key and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, OptionsError> {
        let text = std::fs::read_to_string(path).map_err(|source| OptionsError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Parses and validates a text; `path` is only named in errors.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, path: &Path) -> Result<Self, OptionsError> {
        let options: Self = toml::from_str(text).map_err(|source| OptionsError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        options.validate()?;
        Ok(options)
    }

    fn validate(&self) -> Result<(), OptionsError> {
        let bad = |key, why: &str| {
            Err(OptionsError::Value {
                key,
                why: why.to_owned(),
            })
        };
        if !is_subdomain(&self.node.name) {
            return bad("node.name", "a Node's name is a lower-case DNS subdomain");
        }
        if self.node.ip.is_loopback() || self.node.ip.is_unspecified() {
            return bad(
                "node.ip",
                "the API server refuses to proxy to loopback; name an address of this machine",
            );
        }
        if !self.hub.url.starts_with("https://") {
            return bad("hub.url", "it must begin with https://");
        }
        if self.node.name.len() > LABEL {
            return bad("node.name", "it is a label's value too: at most 63 characters");
        }
        if !is_subdomain(&self.node.zone().to_ascii_lowercase()) || self.node.zone().len() > LABEL {
            return bad(
                "node.zone",
                "a zone is a label's value: name one of at most 63 characters",
            );
        }
        let namespace = &self.kubernetes.leader.namespace;
        if !is_subdomain(namespace) || namespace.len() > LABEL || namespace.contains('.') {
            return bad("kubernetes.leader.namespace", "it is not the name of a namespace");
        }
        if !is_subdomain(&self.lease_name()) {
            return bad("kubernetes.leader.lease", "it is not the name of a lease");
        }
        if self.namespaces.iter().any(|entry| entry.scope.trim().is_empty()) {
            return bad("namespaces.scope", "name a condition; '*' is every device");
        }
        tracing_subscriber::EnvFilter::try_new(self.log.filter_text()).map_err(|error| {
            OptionsError::Value {
                key: "log.filter",
                why: error.to_string(),
            }
        })?;
        Ok(())
    }

    pub fn lease_name(&self) -> String {
        let own = || format!("outrigger-kubelet-{}", self.node.name);
        self.kubernetes.leader.lease.clone().unwrap_or_else(own)
    }

    pub fn namespace_map(&self) -> NamespaceMap {
        NamespaceMap(self.namespaces.clone())
    }
}

/// The longest value of a label, and name of a namespace.
const LABEL: usize = 63;

/// RFC 1123, as Kubernetes names objects.
fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests;
