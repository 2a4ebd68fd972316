//! What a site shall consist of.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use lab::{ControlPlaneOptions, PodSubnet};

use crate::Programs;

/// A site to start. `..SiteOptions::in_directory(path)` fills what is not named.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// Where all of the site lives; must not hold one.
    pub directory: PathBuf,
    pub control_plane: ClusterChoice,
    /// The name of the fleet node; unique among the sites of one cluster.
    pub node: String,
    pub devices: Vec<DeviceSpec>,
    /// Which namespaces may use which devices (law 12).
    pub namespaces: Vec<NamespaceRule>,
    /// Whether devices with the tag `node = 'true'` are Nodes of their own.
    pub device_nodes: DeviceNodes,
    /// Whether its Nodes answer `kubectl logs`, `exec` and the like.
    pub kubelet_api: bool,
    /// With it: the fleet node's port instead of a free one, those of device nodes after it, and everyone may see figures there.
    pub open_figures: Option<u16>,
    /// The servers that the kubelet reaches only through a fault proxy, each its own.
    pub detours: Vec<Server>,
    pub scrutiny: Scrutiny,
    pub programs: Programs,
}

/// Which Kubernetes the site's kubelet serves.
#[derive(Debug, Clone)]
pub enum ClusterChoice {
    /// A control plane of the site's own.
    Own(ControlPlaneOptions),
    /// The cluster that this kubeconfig leads to; its user may create service accounts and roles.
    Existing { kubeconfig: PathBuf },
}

/// Which devices are Nodes of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceNodes {
    #[default]
    None,
    /// Those with the tag `node = 'true'`. Addresses of the lab's devices are reachable, so they are shown.
    Tagged,
}

/// How much of what the programs say, to each other and in their logs, is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scrutiny {
    #[default]
    Usual,
    /// What passes to and from the hub is kept in clear: before the REST API, for the kubelet and the command line alike, and before the device
    /// port, for each device. Logs have all that there is to log.
    Full,
}

impl Scrutiny {
    /// As the programs' `log` options have it.
    pub(crate) fn log_filter(self) -> &'static str {
        match self {
            Self::Usual => "info",
            Self::Full => "trace",
        }
    }
}

/// One of the two that a kubelet asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The Kubernetes API server.
    Api,
    Hub,
}

/// A device and what its enrolment token says of it.
#[derive(Debug, Clone)]
pub struct DeviceSpec {
    pub name: String,
    pub tags: BTreeMap<String, String>,
    pub pod_subnet: PodSubnet,
    /// The only way from it to the hub; absent, it dials the hub itself.
    pub proxy: Option<ProxySpec>,
}

/// An HTTP proxy that resolves the hub's name, which nobody else does.
#[derive(Debug, Clone)]
pub struct ProxySpec {
    pub address: SocketAddr,
    /// `user:password`
    pub credentials: String,
}

impl DeviceSpec {
    pub fn new(name: impl Into<String>, tags: &[(&str, &str)]) -> Self {
        Self {
            name: name.into(),
            tags: tags
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            pod_subnet: PodSubnet::Routed,
            proxy: None,
        }
    }

    /// `device-1` to `device-<count>`: all in hall 1 but for the third, which is in hall 2.
    pub fn numbered(count: u32) -> Vec<Self> {
        (1..=count)
            .map(|number| {
                let hall = if number % 3 == 0 { "hall-2" } else { "hall-1" };
                Self::new(
                    format!("device-{number}"),
                    &[("site", hall), ("number", &number.to_string())],
                )
            })
            .collect()
    }
}

/// One entry of the kubelet's namespace map.
#[derive(Debug, Clone)]
pub struct NamespaceRule {
    /// Labels that a namespace must carry; none means every namespace.
    pub selector: BTreeMap<String, String>,
    /// A target condition that bounds all pods of the namespace.
    pub scope: String,
    pub default_condition: Option<String>,
    /// Whether its pods may use what is the device's own: privileged containers, its namespaces, its files.
    pub all_rights: bool,
}

impl NamespaceRule {
    /// Every namespace may use every device, and a pod that names none means all.
    pub fn everything() -> Self {
        Self {
            selector: BTreeMap::new(),
            scope: "*".to_owned(),
            default_condition: Some("*".to_owned()),
            all_rights: true,
        }
    }
}

impl SiteOptions {
    /// A site with a control plane of its own and no device, open to every namespace.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            control_plane: ClusterChoice::Own(ControlPlaneOptions::default()),
            node: "outrigger".to_owned(),
            devices: Vec::new(),
            namespaces: vec![NamespaceRule::everything()],
            device_nodes: DeviceNodes::None,
            kubelet_api: false,
            open_figures: None,
            detours: Vec::new(),
            scrutiny: Scrutiny::Usual,
            programs: Programs::default(),
        }
    }
}
