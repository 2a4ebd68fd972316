//! The configuration file: typed, closed (an unknown key is an error with its line), validated once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use daemon::config::{Config, check};
use daemon::{ConfigError, HealthOptions, LogOptions};
use serde::Deserialize;
use virtual_kubelet::core::{Capacity, NamespaceEntry, NamespaceMap};
use virtual_kubelet::objects::Identity;

use crate::device_nodes::DeviceNodesOptions;
use crate::kubelet_api::KubeletApiOptions;

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
    /// Devices that are Nodes of their own; absent, none is.
    #[serde(default)]
    pub device_nodes: Option<DeviceNodesOptions>,
    /// Where `kubectl logs`, `exec` and the like are answered; absent, nowhere.
    #[serde(default)]
    pub kubelet_api: Option<KubeletApiOptions>,
    #[serde(default)]
    pub sealing: SealingOptions,
    #[serde(default)]
    pub brake: BrakeOptions,
    #[serde(default)]
    pub log: LogOptions,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesOptions {
    /// Absent: the service account of the pod that this process runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The UID of `kube-system` in the one cluster to serve. Absent pins the cluster that answers first, unless the hub already holds
    /// deployments of this node from another: then the process ends and says what to do.
    pub cluster_uid: Option<String>,
    /// As whom objects that pods refer to are read. Absent: as the node where the API server confines us to that, from Kubernetes 1.36 on.
    pub objects_as: Option<ObjectsAs>,
    /// The namespaces whose objects this process may read, for `outrigger-kubelet rbac`. Empty is all of them as the node, and none as the
    /// account.
    pub object_namespaces: Vec<String>,
    /// The DNS domain of the cluster, as its kubelets have it (`clusterDomain`): pods have their fully qualified names in it.
    pub cluster_domain: String,
    pub api_server: ApiServerOptions,
    pub leader: LeaderOptions,
}

impl Default for KubernetesOptions {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            cluster_uid: None,
            objects_as: None,
            object_namespaces: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            api_server: ApiServerOptions::default(),
            leader: LeaderOptions::default(),
        }
    }
}

/// As whom the cluster's objects are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectsAs {
    /// The node of a pod that refers to them, and the API server's node authorizer gives nothing else.
    Node,
    /// This process' own service account: for API servers before Kubernetes 1.36, and for those without the node authorizer.
    Account,
}

impl ObjectsAs {
    pub fn identity(self) -> Identity {
        match self {
            Self::Node => Identity::Node,
            Self::Account => Identity::Account,
        }
    }
}

/// Where pods on devices find the API server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiServerOptions {
    /// `host:port`, as devices reach it; goes into `KUBERNETES_SERVICE_*`. Absent leaves those variables out.
    pub external: Option<String>,
}

impl ApiServerOptions {
    /// `None` too when it is no address, which [`Options::validate`] refuses.
    pub fn address(&self) -> Option<(String, u16)> {
        let (host, port) = self.external.as_ref()?.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty() && !host.contains('/')).then(|| (host.to_owned(), port))
    }
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
            ..Capacity::default()
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

/// How secrets are sealed to the devices that run them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SealingOptions {
    /// The root secret that every key is derived from, made at the first start. Processes that stand by for one another share it. Absent:
    /// `sealing-root`, beside the hub's token.
    pub root_file: Option<PathBuf>,
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

impl Config for Options {
    fn validate(&self) -> Result<(), ConfigError> {
        let NodeOptions { name, ip, .. } = &self.node;
        let zone = self.node.zone();
        let namespace = &self.kubernetes.leader.namespace;
        check(
            is_subdomain(name),
            "node.name",
            "a Node's name is a lower-case DNS subdomain",
        )?;
        check(is_reachable(*ip), "node.ip", UNREACHABLE)?;
        check(
            self.hub.url.starts_with("https://"),
            "hub.url",
            "it must begin with https://",
        )?;
        check(
            name.len() <= LABEL,
            "node.name",
            "it is a label's value too: at most 63 characters",
        )?;
        check(
            is_subdomain(&zone.to_ascii_lowercase()) && zone.len() <= LABEL,
            "node.zone",
            "a zone is a label's value: name one of at most 63 characters",
        )?;
        check(
            is_subdomain(namespace) && namespace.len() <= LABEL && !namespace.contains('.'),
            "kubernetes.leader.namespace",
            "it is not the name of a namespace",
        )?;
        check(
            is_subdomain(&self.lease_name()),
            "kubernetes.leader.lease",
            "it is not the name of a lease",
        )?;
        check(
            self.namespaces.iter().all(|entry| !entry.scope.trim().is_empty()),
            "namespaces.scope",
            "name a condition; '*' is every device",
        )?;
        if let Some(nodes) = &self.device_nodes {
            nodes.validate()?;
        }
        if let Some(kubelet_api) = &self.kubelet_api {
            kubelet_api.validate()?;
        }
        check(
            is_subdomain(&self.kubernetes.cluster_domain),
            "kubernetes.cluster_domain",
            "write a DNS domain without a dot at its end, such as cluster.local",
        )?;
        let api_server = &self.kubernetes.api_server;
        check(
            api_server.external.is_none() || api_server.address().is_some(),
            "kubernetes.api_server.external",
            "write host:port",
        )?;
        check(
            self.kubernetes
                .object_namespaces
                .iter()
                .all(|name| is_subdomain(name) && name.len() <= LABEL),
            "kubernetes.object_namespaces",
            "one is no namespace's name",
        )?;
        self.log.validate()
    }
}

impl Options {
    pub fn lease_name(&self) -> String {
        let own = || format!("outrigger-kubelet-{}", self.node.name);
        self.kubernetes.leader.lease.clone().unwrap_or_else(own)
    }

    /// Where the API server reaches this machine, for what is answered here.
    pub fn address(&self) -> IpAddr {
        let own = self.kubelet_api.as_ref().and_then(|api| api.address);
        own.unwrap_or(self.node.ip)
    }

    /// Where the sealer's root secret is.
    pub fn root_file(&self) -> PathBuf {
        let beside = || self.hub.token_file.with_file_name("sealing-root");
        self.sealing.root_file.clone().unwrap_or_else(beside)
    }

    pub fn namespace_map(&self) -> NamespaceMap {
        NamespaceMap(self.namespaces.clone())
    }
}

/// Why an address is none of a Node, for its key.
pub(crate) const UNREACHABLE: &str =
    "the API server refuses to proxy to loopback; name an address of this machine";

/// Whether the API server could call this address at all.
pub(crate) fn is_reachable(address: IpAddr) -> bool {
    !address.is_loopback() && !address.is_unspecified()
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
