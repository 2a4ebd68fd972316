//! The namespaces a workload shares, its names, and how it resolves others.

use serde::{Deserialize, Serialize};

/// Which namespaces of the device a workload uses in place of its own.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the pod's own, not a state"
)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_pid: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_ipc: bool,
    /// Its containers see each other's processes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub share_process_namespace: bool,
}

impl Namespaces {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Names: those of the workload itself, and those it can resolve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    /// Together with the hostname, the fully qualified name: `<hostname>.<subdomain>.<namespace>.svc.<cluster domain>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<String>,
    /// The kernel's hostname is the fully qualified one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hostname_is_fqdn: bool,
    /// Further lines of `/etc/hosts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_aliases: Vec<HostAlias>,
    pub dns: DnsSpec,
}

impl Names {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAlias {
    pub ip: String,
    pub hostnames: Vec<String>,
}

/// What is in `/etc/resolv.conf`: the base by the policy, then what the pod adds. Bounds are the kubelet's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsSpec {
    pub policy: DnsPolicy,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// `name` or `name:value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DnsPolicy {
    /// The device's own resolver.
    #[default]
    Default,
    /// The cluster's, when the device knows one; else as `Default` and `MissingClusterDNS` is told.
    ClusterFirst,
    /// Only what the pod says.
    None,
}
