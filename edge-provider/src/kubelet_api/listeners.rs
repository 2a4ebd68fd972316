//! The ports of the kubelet API: one for each Node that has its own, and the first for the fleet node and all who share it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use edge_protocol::DeviceId;
use iot_hub_client::HubClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use virtual_kubelet_api::{BindError, KubeletApi, Nodes, ServedNode};

use super::endpoint::PlacedPorts;
use crate::streams::{Answers, HubStreams, PodTable};

/// Until a port that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What the nodes of this process answer with.
#[derive(Clone)]
pub struct Served {
    /// The fleet node.
    pub first: String,
    pub pods: PodTable,
    pub hub: HubClient,
}

impl Served {
    fn node(&self, node: &str) -> ServedNode {
        let answers = if node == self.first {
            Answers::OneOfMany
        } else {
            DeviceId::new(node.to_owned()).map_or(Answers::OneOfMany, Answers::Device)
        };
        ServedNode {
            name: node.to_owned(),
            streams: Arc::new(HubStreams {
                node: node.to_owned(),
                answers,
                pods: self.pods.clone(),
                hub: self.hub.clone(),
            }),
        }
    }

    /// Of the first port: whatever Node a pod is on, and the fleet node as a whole.
    fn shared(&self) -> Nodes {
        let served = self.clone();
        Nodes::Shared {
            of_pod: Arc::new(move |namespace, name| {
                let node = served.pods.node_of(namespace, name)?;
                Some(served.node(&node))
            }),
            whole: Some(self.node(&self.first)),
        }
    }
}

/// Sole owner of the ports.
pub struct Listeners {
    pub api: KubeletApi,
    pub served: Served,
    pub listen: IpAddr,
    pub first_port: u16,
    pub placed: watch::Receiver<PlacedPorts>,
    /// Hears of ports on which somebody else listens.
    pub taken: mpsc::Sender<u16>,
}

impl Listeners {
    /// Runs until the ports can change no more. Dropping the future closes them, and what goes on over them.
    pub async fn run(mut self) {
        let mut tasks = JoinSet::new();
        let _first = self.serve(&mut tasks, self.first_port, self.served.shared());
        let mut own: BTreeMap<(String, u16), DropGuard> = BTreeMap::new();
        loop {
            let placed = self.placed.borrow_and_update().clone().unwrap_or_default();
            own.retain(|(node, port), _| placed.get(node) == Some(port));
            for (node, port) in placed.iter().filter(|(_, port)| **port != self.first_port) {
                own.entry((node.clone(), *port)).or_insert_with(|| {
                    let nodes = Nodes::One(self.served.node(node));
                    self.serve(&mut tasks, *port, nodes)
                });
            }
            tokio::select! {
                changed = self.placed.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Opens a port and answers on it until the guard is dropped. One that is another's is told of; the first is tried for ever.
    fn serve(&self, tasks: &mut JoinSet<()>, port: u16, nodes: Nodes) -> DropGuard {
        let stop = CancellationToken::new();
        let (api, stopped) = (self.api.clone(), stop.clone());
        let address = SocketAddr::new(self.listen, port);
        let taken = (port != self.first_port).then(|| self.taken.clone());
        tasks.spawn(async move {
            let opened = stopped.run_until_cancelled(open(&api, address, taken)).await;
            if let Some(Some(open)) = opened {
                open.run(nodes, stopped).await;
            }
        });
        stop.drop_guard()
    }
}

async fn open(
    api: &KubeletApi,
    address: SocketAddr,
    taken: Option<mpsc::Sender<u16>>,
) -> Option<virtual_kubelet_api::Port> {
    loop {
        match api.bind(address).await {
            Ok(port) => return Some(port),
            Err(BindError { source, .. }) => {
                tracing::error!(%address, error = %source, "a port of the kubelet API cannot be opened");
                if let Some(taken) = &taken
                    && source.kind() == std::io::ErrorKind::AddrInUse
                {
                    // Whoever gives ports is gone together with this.
                    let _ = taken.send(address.port()).await;
                    return None;
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
