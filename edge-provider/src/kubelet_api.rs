//! Where the kubelet API answers for the Nodes of this process, and by what certificate it can be known.
//!
//! * [`KubeletApiOptions`]: what is configured. [`endpoint`]: what the Nodes show of it, and on which port each is.
//! * `listeners`: the open ports. [`KubeletApi`]: certificate, approver and ports of a process that leads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use daemon::ConfigError;
use daemon::config::check;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};
use virtual_kubelet::core::ports::Sharing;
use virtual_kubelet::core::serving::ServingNames;
use virtual_kubelet::serving::{
    Approver, CertificateFile, CertificateSource, MaterialError, ServingHandle, ServingOptions, ServingTask,
};
use virtual_kubelet::{Cluster, FurtherNodes};
use virtual_kubelet_api::{
    ApiLimits, ApiParts, Authenticator, Authorizer, ClientCaSource, ClientRoots, ProcessFacts, StatsAccess,
    follow_client_ca,
};

use crate::options::{Options, UNREACHABLE, is_reachable};

pub mod endpoint;
mod listeners;

pub use endpoint::{EndpointSight, Endpoints, ShownPorts};

pub use listeners::Served;

use endpoint::PortsTask;
use listeners::Listeners;

/// `[kubelet_api]`; without it there is none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubeletApiOptions {
    /// Where the API server reaches it, for every Node of this process: the first `InternalIP` of each. Absent: `node.ip`.
    pub address: Option<IpAddr>,
    /// On which of this machine's addresses it listens. Absent: on all, as a kubelet.
    pub listen: Option<IpAddr>,
    /// The fleet node's, and that of all who share it. Ports of their own follow it, 1000 at the most.
    pub port: u16,
    /// Absent: a port for each Node up to 100 of them, and those that come later share the first.
    pub ports: Option<PortsOption>,
    pub certificate: CertificateOption,
    /// Where key and certificate outlive the process, mode 0600. Absent keeps them in memory, and every start asks for a new certificate.
    pub certificate_file: Option<PathBuf>,
    pub approver: ApproverOption,
    /// The authorities of client certificates, PEM. Absent: the cluster's own word.
    pub client_ca_file: Option<PathBuf>,
    /// For tests of scrapers alone: figures (`/stats`, `/metrics`) for everyone who reaches the port.
    pub insecure_stats: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortsOption {
    PerNode,
    /// Routes that name a pod work on it as on one's own; nothing is answered there for a node as a whole.
    Shared,
}

/// Who makes the serving certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateOption {
    /// The cluster's signer `kubernetes.io/kubelet-serving`; until it did, this process.
    #[default]
    Cluster,
    /// This process, for API servers that do not verify kubelets.
    Own,
}

/// Who approves the request for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApproverOption {
    /// This process: only what it asks for itself, for what its Nodes publish.
    #[default]
    Own,
    /// A person, or another approver; the rights to approve are not needed.
    Others,
}

impl Default for KubeletApiOptions {
    fn default() -> Self {
        Self {
            address: None,
            listen: None,
            port: 10_250,
            ports: None,
            certificate: CertificateOption::default(),
            certificate_file: None,
            approver: ApproverOption::default(),
            client_ca_file: None,
            insecure_stats: false,
        }
    }
}

impl KubeletApiOptions {
    /// # Errors
    /// Names the key that cannot be used.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(
            self.address.is_none_or(is_reachable),
            "kubelet_api.address",
            UNREACHABLE,
        )?;
        check(
            self.port != 0,
            "kubelet_api.port",
            "Nodes publish it: name the one to listen on",
        )
    }

    /// Whether this process asks the cluster for a certificate.
    pub fn asks(&self) -> bool {
        self.certificate == CertificateOption::Cluster
    }

    /// Whether it approves what it asks for.
    pub fn approves(&self) -> bool {
        self.asks() && self.approver == ApproverOption::Own
    }

    fn sharing(&self) -> Sharing {
        match self.ports {
            None => Sharing::ByCount,
            Some(PortsOption::PerNode) => Sharing::PerNode,
            Some(PortsOption::Shared) => Sharing::Shared,
        }
    }

    /// Warns where they are open: nobody shall have that without knowing it.
    fn stats_access(&self) -> StatsAccess {
        if !self.insecure_stats {
            return StatsAccess::Authorized;
        }
        tracing::warn!(
            "kubelet_api.insecure_stats is for tests: everyone who reaches the kubelet API may see figures"
        );
        StatsAccess::Open
    }

    fn client_ca(&self) -> ClientCaSource {
        let file = self.client_ca_file.clone();
        file.map_or(ClientCaSource::Cluster, ClientCaSource::File)
    }

    /// For the certificate that carries the fleet node's name.
    fn serving(&self, node: &str) -> ServingOptions {
        ServingOptions {
            node: node.to_owned(),
            source: match self.certificate {
                CertificateOption::Cluster => CertificateSource::Cluster,
                CertificateOption::Own => CertificateSource::Own,
            },
            file: self.certificate_file.clone().map(CertificateFile::new),
        }
    }
}

/// Why there can be no kubelet API.
#[derive(Debug, thiserror::Error)]
pub enum KubeletApiError {
    #[error("the fleet node's names are none of a certificate")]
    Certificate(#[from] MaterialError),
    #[error("TLS cannot be served")]
    Tls(#[from] rustls::Error),
}

/// All addresses of a family.
fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// What of the kubelet API is kept by the process that leads.
pub struct KubeletApi {
    pub endpoints: Endpoints,
    /// The certificate, for whoever serves.
    pub certificate: ServingHandle,
    ports: PortsTask,
    serving: ServingTask,
    approver: Option<Approver>,
    listeners: Listeners,
    client_ca: (ClientCaSource, kube::Client, watch::Sender<ClientRoots>),
}

impl KubeletApi {
    /// `None` where it is not configured. `nodes` are the device nodes as they are served, `shown` the ports that they showed, told once they are
    /// served again.
    ///
    /// # Errors
    /// [`KubeletApiError`].
    pub fn new(
        options: &Options,
        cluster: &Cluster,
        provider_id: String,
        nodes: watch::Receiver<FurtherNodes>,
        shown: oneshot::Receiver<ShownPorts>,
        served: Served,
        process: ProcessFacts,
    ) -> Result<Option<Self>, KubeletApiError> {
        let Some(own) = &options.kubelet_api else {
            return Ok(None);
        };
        let node = options.node.name.clone();
        let address = options.address();
        // Every Node of the process has this address, so one certificate serves them all.
        let names = ServingNames {
            hosts: [node.clone()].into(),
            ips: [address].into(),
        };
        let names = watch::channel(names).1;
        let (handle, serving) = ServingTask::new(cluster.clone(), own.serving(&node), names)?;
        let approver = own
            .approves()
            .then(|| Approver::new(cluster.clone(), (node.clone(), provider_id), nodes.clone()));
        let (place, placed) = watch::channel(None);
        let (tell_taken, taken) = mpsc::channel(1);
        let (roots, told_roots) = watch::channel(None);
        let api = virtual_kubelet_api::KubeletApi::new(ApiParts {
            authenticator: Authenticator::new(told_roots, cluster.client()),
            authorizer: Authorizer::new(cluster.client()),
            certificates: handle.resolver(),
            process,
            limits: ApiLimits::default(),
            stats_access: own.stats_access(),
        })?;
        let listeners = Listeners {
            api,
            served,
            listen: own.listen.unwrap_or_else(|| unspecified(address)),
            first_port: own.port,
            placed: placed.clone(),
            taken: tell_taken,
        };
        let endpoints = Endpoints {
            address,
            first: (node, own.port),
            placed,
            word: handle.word(),
        };
        Ok(Some(Self {
            endpoints,
            certificate: handle,
            ports: PortsTask::new(own.port, own.sharing(), nodes, shown, place, taken),
            serving,
            approver,
            listeners,
            client_ca: (own.client_ca(), cluster.client(), roots),
        }))
    }

    /// Waits until this process leads, and runs then for ever: a process that stands by publishes nothing, and asks for nothing. Dropping the future
    /// ends it.
    pub async fn run(self, mut led: watch::Receiver<bool>) {
        if led.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        let approving = async {
            if let Some(approver) = self.approver {
                approver.run().await;
            }
        };
        let (source, client, roots) = self.client_ca;
        tokio::join!(
            self.ports.run(),
            self.serving.run(),
            self.listeners.run(),
            follow_client_ca(source, client, roots),
            approving
        );
    }
}
