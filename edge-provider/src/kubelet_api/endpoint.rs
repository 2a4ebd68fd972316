//! What every Node of the process shows of the kubelet API: one address, one certificate, and a port of its own or the first.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use virtual_kubelet::FurtherNodes;
use virtual_kubelet::core::node::{Endpoint, KubeletPort};
use virtual_kubelet::core::ports::{Ports, Sharing};
use virtual_kubelet::core::serving::ServingWord;

/// On which port each Node answered that was there before, by name.
pub type ShownPorts = BTreeMap<String, u16>;
/// The port of each device node; `None` until it is known what they showed.
pub type PlacedPorts = Option<Arc<BTreeMap<String, u16>>>;

/// Sole owner of the ports.
#[derive(Debug)]
pub struct PortsTask {
    ports: Ports,
    nodes: watch::Receiver<FurtherNodes>,
    shown: oneshot::Receiver<ShownPorts>,
    placed: watch::Sender<PlacedPorts>,
    /// Ports on which somebody else listens.
    taken: mpsc::Receiver<u16>,
}

impl PortsTask {
    /// `nodes` are the device nodes as they are served, `shown` what they showed, told once they are served again.
    pub fn new(
        first: u16,
        sharing: Sharing,
        nodes: watch::Receiver<FurtherNodes>,
        shown: oneshot::Receiver<ShownPorts>,
        placed: watch::Sender<PlacedPorts>,
        taken: mpsc::Receiver<u16>,
    ) -> Self {
        Self {
            ports: Ports::new(first, sharing),
            nodes,
            shown,
            placed,
            taken,
        }
    }

    /// Runs until nobody can change the nodes any more, and for ever in a process that never leads: it has no ports to give.
    pub async fn run(mut self) {
        let Ok(shown) = self.shown.await else {
            return std::future::pending().await;
        };
        self.ports
            .restore(shown.iter().map(|(node, port)| (node.as_str(), *port)));
        loop {
            let nodes = self.nodes.borrow_and_update().clone();
            self.ports.place(nodes.keys().map(String::as_str));
            self.placed.send_if_modified(|placed| {
                let changed = placed.as_deref() != Some(self.ports.held());
                if changed {
                    *placed = Some(Arc::new(self.ports.held().clone()));
                }
                changed
            });
            tokio::select! {
                changed = self.nodes.changed() => if changed.is_err() {
                    return;
                },
                Some(port) = self.taken.recv() => self.ports.avoid(port),
            }
        }
    }
}

/// Where the kubelet API of all Nodes is to be seen. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Endpoints {
    pub address: IpAddr,
    /// The fleet node, and its port.
    pub first: (String, u16),
    pub placed: watch::Receiver<PlacedPorts>,
    pub word: watch::Receiver<Option<ServingWord>>,
}

/// The kubelet API of one node; by default it has none.
#[derive(Debug, Default)]
pub struct EndpointSight(Option<Sight>);

#[derive(Debug)]
struct Sight {
    node: String,
    endpoints: Endpoints,
    /// As last seen.
    seen: Endpoint,
}

impl Endpoints {
    /// What is to be seen of one node's.
    pub fn of_node(&self, node: &str) -> EndpointSight {
        EndpointSight(Some(Sight {
            node: node.to_owned(),
            seen: self.endpoint(node),
            endpoints: self.clone(),
        }))
    }

    fn endpoint(&self, node: &str) -> Endpoint {
        let (first, port) = &self.first;
        let placed = || self.placed.borrow().as_ref()?.get(node).copied();
        let own = if node == first { Some(*port) } else { placed() };
        Endpoint {
            address: self.address,
            port: own.map_or(KubeletPort::Kept, KubeletPort::At),
            serving: self.word.borrow().clone(),
        }
    }
}

impl EndpointSight {
    /// What it is now.
    pub fn sight(&self) -> Option<Endpoint> {
        self.0.as_ref().map(|sight| sight.endpoints.endpoint(&sight.node))
    }

    /// Waits until it is another than it was when this last returned. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        let Some(sight) = &mut self.0 else {
            return std::future::pending().await;
        };
        loop {
            let endpoint = sight.endpoints.endpoint(&sight.node);
            if endpoint != sight.seen {
                sight.seen = endpoint;
                return;
            }
            tokio::select! {
                Ok(()) = sight.endpoints.placed.changed() => {}
                Ok(()) = sight.endpoints.word.changed() => {}
                else => return std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn served(names: &[&str]) -> FurtherNodes {
        names
            .iter()
            .map(|name| ((*name).to_owned(), String::new()))
            .collect()
    }

    #[tokio::test]
    async fn a_node_shows_its_port_once_it_is_known_what_the_others_showed() {
        let (nodes, served_nodes) = watch::channel(served(&["press-8"]));
        let (tell, shown) = oneshot::channel();
        let (place, placed) = watch::channel(None);
        let (_told, taken) = mpsc::channel(1);
        let (say, word) = watch::channel(None);
        tokio::spawn(PortsTask::new(10_250, Sharing::ByCount, served_nodes, shown, place, taken).run());
        let endpoints = Endpoints {
            address: "192.0.2.10".parse().unwrap(),
            first: ("outrigger".to_owned(), 10_250),
            placed,
            word,
        };
        let port = |sight: &EndpointSight| sight.sight().unwrap().port;
        let fleet = endpoints.of_node("outrigger");
        let mut press = endpoints.of_node("press-8");
        assert_eq!(port(&fleet), KubeletPort::At(10_250));
        assert_eq!(port(&press), KubeletPort::Kept, "it may have had one");

        nodes.send(served(&["press-7", "press-8"])).unwrap();
        tell.send(BTreeMap::from([("press-8".to_owned(), 10_253)]))
            .unwrap();
        tokio::time::timeout(LIMIT, press.changed()).await.unwrap();
        assert_eq!(port(&press), KubeletPort::At(10_253));
        assert_eq!(port(&endpoints.of_node("press-7")), KubeletPort::At(10_251));

        say.send(Some(ServingWord::Issued { renewal: None })).unwrap();
        tokio::time::timeout(LIMIT, press.changed()).await.unwrap();
        assert!(press.sight().unwrap().serving.is_some());
        assert_eq!(EndpointSight::default().sight(), None);
    }
}
