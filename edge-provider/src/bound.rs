//! From options to a process that runs: everything that can fail at start fails in [`build`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use edge_provider_core::pin::OtherCluster;
use iot_hub_client::HubClient;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use virtual_kubelet::objects::{ObjectsOptions, ObjectsTask};
use virtual_kubelet::{Cluster, FurtherNodes, KubeletOptions, LeaderOptions, Selection, VirtualKubelet};
use virtual_kubelet_api::ProcessFacts;

use crate::adoption::Adoption;
use crate::device_nodes::{DeviceNodes, DeviceNodesOptions};
use crate::health;
use crate::hub::{self, HubSetupError, HubTask, Ours, Sources};
use crate::kubelet_api::{KubeletApi, KubeletApiError, Served, ShownPorts};
use crate::metrics::Metrics;
use crate::options::{ObjectsAs, Options};
use crate::place::Place;
use crate::providers::{HUB_EVENTS, KUBELET_VERSION, Providers, provider_id};
use crate::sealer::{Anchors, InvalidAnchors, RootFile, RootFileError, SealerHandle, SealerTask};
use crate::streams::PodTable;
use crate::switchboard::{Roster, Routes, Switchboard};

/// Why the process cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the Kubernetes configuration{} cannot be used", path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default())]
    Kubernetes {
        path: Option<PathBuf>,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Hub(#[from] HubSetupError),
    #[error("nothing can be sealed")]
    Sealer(#[from] RootFileError),
    #[error("{path} says nothing of which devices to trust")]
    Anchors {
        path: PathBuf,
        #[source]
        source: InvalidAnchors,
    },
    #[error("there can be no kubelet API")]
    KubeletApi(#[from] KubeletApiError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the virtual kubelet ended")]
    Kubelet(#[source] Box<virtual_kubelet::Error>),
    #[error("which cluster this node belongs to is not clear")]
    OtherCluster(#[from] OtherCluster),
    #[error("task {task} ended")]
    TaskEnded { task: &'static str },
}

/// A process that has all it needs and listens.
pub struct Bound {
    options: Options,
    cluster: Cluster,
    leases: Cluster,
    hub: HubClient,
    sealer: SealerHandle,
    anchors: Anchors,
    health: TcpListener,
    health_addr: SocketAddr,
}

/// Reads the credentials, makes both clients and binds the health port. Nothing is sent yet.
///
/// # Errors
/// [`RunError`] names what cannot be used.
pub async fn build(options: Options) -> Result<Bound, RunError> {
    let hub = hub::client(&options.hub)?;
    let anchors = anchors(&options.hub.ca_file)?;
    let sealer = SealerHandle::new(RootFile::new(options.root_file()).load_or_create()?);
    let (cluster, leases) = clusters(options.kubernetes.kubeconfig.as_ref()).await?;
    let address = options.health.listen;
    let listen = |source| RunError::Listen { address, source };
    let health = TcpListener::bind(address).await.map_err(listen)?;
    let health_addr = health.local_addr().map_err(listen)?;
    Ok(Bound {
        options,
        cluster,
        leases,
        hub,
        sealer,
        anchors,
        health,
        health_addr,
    })
}

/// The roots that devices' certificates must chain to are those that the hub's own does.
fn anchors(path: &PathBuf) -> Result<Anchors, RunError> {
    let read = |source| HubSetupError::Read {
        path: path.clone(),
        source,
    };
    let pem = std::fs::read_to_string(path).map_err(read)?;
    Anchors::from_pem(&pem).map_err(|source| RunError::Anchors {
        path: path.clone(),
        source,
    })
}

/// Two clients of one API server: the second is for leases only, and shares no connection with the first.
async fn clusters(kubeconfig: Option<&PathBuf>) -> Result<(Cluster, Cluster), RunError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| RunError::Kubernetes {
        path: kubeconfig.cloned(),
        source,
    };
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| failed(error.into()))?;
            let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
            config.map_err(|error| failed(error.into()))?
        }
        None => kube::Config::incluster().map_err(|error| failed(error.into()))?,
    };
    let client = |config: kube::Config| kube::Client::try_from(config).map_err(|error| failed(error.into()));
    Ok((
        Cluster::new(client(config.clone())?),
        Cluster::new(client(config)?),
    ))
}

impl RunError {
    /// Another process may lead now; to start again is all that there is to do.
    pub fn is_lease_lost(&self) -> bool {
        matches!(self, Self::Kubelet(error) if matches!(**error, virtual_kubelet::Error::LeaseLost { .. }))
    }
}

impl Bound {
    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub fn health_addr(&self) -> SocketAddr {
        self.health_addr
    }

    /// The kubelet API's tasks, if there is one.
    fn kubelet_api(
        &self,
        nodes: watch::Receiver<FurtherNodes>,
        shown: oneshot::Receiver<ShownPorts>,
        pods: PodTable,
        metrics: &Metrics,
    ) -> Result<Option<KubeletApi>, KubeletApiError> {
        let node = &self.options.node.name;
        let served = Served {
            first: node.clone(),
            pods,
            hub: self.hub.clone(),
        };
        let process = ProcessFacts {
            version: KUBELET_VERSION.to_owned(),
            flags: BTreeMap::new(),
            metrics: health::text(metrics),
        };
        let provider_id = provider_id(&self.options, node);
        KubeletApi::new(
            &self.options,
            &self.cluster,
            provider_id,
            nodes,
            shown,
            served,
            process,
        )
    }

    /// Which devices are Nodes, if any may be: those that are there already, and those that the hub names.
    fn device_side(
        &self,
        served: watch::Sender<FurtherNodes>,
        shown: oneshot::Sender<ShownPorts>,
    ) -> Option<(Arc<DeviceNodes>, Adoption, Roster)> {
        let nodes = self.options.device_nodes.as_ref();
        let nodes = Arc::new(nodes.and_then(DeviceNodesOptions::parsed)?);
        let prefix = provider_id(&self.options, "");
        let adoption = Adoption {
            cluster: self.cluster.clone(),
            prefix: prefix.clone(),
            fleet: self.options.node.name.clone(),
            served: served.clone(),
            shown,
        };
        let roster = Roster::new(Arc::clone(&nodes), prefix, served);
        Some((nodes, adoption, roster))
    }

    /// Runs until `stop` is cancelled. Node, pods and deployments stay as they are (law 1). Each change of `brake_released` lets the
    /// removals that are held back at that moment pass.
    ///
    /// # Errors
    /// When what the process cannot do without ended: above all the leader lease.
    pub async fn run(
        self,
        brake_released: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        let metrics = Metrics::default();
        let (events, hub_events) = mpsc::channel(HUB_EVENTS);
        let (cluster, known_cluster) = watch::channel(None);
        let (routes, routed) = watch::channel(Routes::new());
        let (ask, asked) = mpsc::channel(1);
        let (over, told_over) = mpsc::channel(HUB_EVENTS);
        let kubelet_options = kubelet_options(&self.options);
        let (served, nodes) = watch::channel(FurtherNodes::new());
        let (shown, shown_ports) = oneshot::channel();
        let pods = PodTable::default();
        let kubelet_api = self.kubelet_api(nodes.clone(), shown_ports, pods.clone(), &metrics)?;
        let (device_nodes, adoption, roster) = match self.device_side(served, shown) {
            Some((nodes, adoption, roster)) => (Some(nodes), Some(adoption), Some(roster)),
            None => (None, None, None),
        };
        let ours = Ours {
            sources: match &roster {
                Some(_) => Sources::Cluster,
                None => Sources::Node,
            },
            node: self.options.node.name.clone(),
            configured: self.options.kubernetes.cluster_uid.is_some(),
        };
        let switchboard = Switchboard::new(
            &self.options.node.name,
            routed,
            ask,
            told_over,
            roster,
            self.sealer.clone(),
        );
        let sealer_task = SealerTask::new(self.hub.clone(), self.anchors, self.sealer.clone());
        let hub = self.hub.clone();
        let objects_options = ObjectsOptions {
            identity: self.options.kubernetes.objects_as.map(ObjectsAs::identity),
            ..ObjectsOptions::default()
        };
        let (objects, objects_task) = ObjectsTask::new(self.cluster.clone(), objects_options);
        let mut providers = Providers {
            objects,
            sealer: self.sealer,
            options: self.options,
            device_nodes,
            hub: self.hub,
            metrics: metrics.clone(),
            routes,
            cluster,
            brake_released,
            over,
            pods,
            endpoints: kubelet_api.as_ref().map(|api| api.endpoints.clone()),
        };
        let provider = move |node: &str, restored: Option<&str>| providers.provider(node, restored);
        let kubelet = VirtualKubelet::new(self.cluster, self.leases, kubelet_options, nodes, provider);
        let place = Place::new(kubelet.memory());
        let hub_task = HubTask::new(hub, known_cluster, ours, place, asked, events);
        let (leads, led) = watch::channel(false);
        let mut tasks: JoinSet<RunError> = JoinSet::new();
        let router = health::router(metrics.clone());
        tasks.spawn(async move {
            if let Err(error) = axum::serve(self.health, router).await {
                tracing::error!(%error, "serving the health port failed");
            }
            RunError::TaskEnded { task: "health" }
        });
        tasks.spawn(async move {
            hub_task
                .run()
                .await
                .map_or_else(RunError::from, |()| RunError::TaskEnded { task: "hub" })
        });
        tasks.spawn(async move {
            objects_task.run().await;
            RunError::TaskEnded { task: "objects" }
        });
        let sealing = stop.clone();
        tasks.spawn(async move {
            sealer_task.run(sealing).await;
            // Only the token ends it, as it ends the kubelet, which is told below.
            std::future::pending::<RunError>().await
        });
        tasks.spawn(async move {
            switchboard.run(hub_events).await;
            RunError::TaskEnded { task: "switchboard" }
        });
        if let Some(kubelet_api) = kubelet_api {
            tasks.spawn(serving(kubelet_api, led.clone(), stop.clone()));
        }
        tasks.spawn(leading(led, metrics, adoption));
        tracing::info!(address = %self.health_addr, "health port");
        let ended = tokio::select! {
            ended = kubelet.run(leads, stop.clone()) => ended.map_err(|error| RunError::Kubelet(Box::new(error))),
            error = failed(&mut tasks, &stop) => Err(error),
        };
        // The health port answers to the last; nothing here has anything to flush.
        tasks.shutdown().await;
        ended
    }
}

/// The first task that ended by itself. Once the process stops, tasks end with the nodes that they served, while the kubelet still gives
/// its lease back.
async fn failed(tasks: &mut JoinSet<RunError>, stop: &CancellationToken) -> RunError {
    loop {
        match tasks.join_next().await {
            Some(Ok(error)) if !stop.is_cancelled() => return error,
            Some(_) => {}
            None => return std::future::pending().await,
        }
    }
}

/// What the kubelet API needs while this process leads. Nothing is written once the lease may be another's.
async fn serving(kubelet_api: KubeletApi, led: watch::Receiver<bool>, stop: CancellationToken) -> RunError {
    let _ = stop.run_until_cancelled(Box::pin(kubelet_api.run(led))).await;
    std::future::pending().await
}

/// What begins once this process leads. It never ends: that the sender is gone is the end of the kubelet, which is told by that.
async fn leading(mut led: watch::Receiver<bool>, metrics: Metrics, adoption: Option<Adoption>) -> RunError {
    if led.wait_for(|leads| *leads).await.is_ok() {
        tracing::info!("leading");
        metrics.leads.set(1);
        if let Some(adoption) = adoption {
            adoption.run().await;
        }
    }
    std::future::pending().await
}

fn kubelet_options(options: &Options) -> KubeletOptions {
    let node = &options.node.name;
    KubeletOptions {
        node: node.clone(),
        selection: match &options.device_nodes {
            Some(_) => Selection::Bound,
            None => Selection::Node(node.clone()),
        },
        leader: Some(LeaderOptions {
            namespace: options.kubernetes.leader.namespace.clone(),
            name: options.lease_name(),
            identity: format!("{node}-{}", uuid::Uuid::new_v4()),
        }),
    }
}
