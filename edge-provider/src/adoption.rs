//! Device nodes that are there already: they are served whether or not the hub answers.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use virtual_kubelet::node_watch::nodes_of;
use virtual_kubelet::{Cluster, FurtherNodes};

use crate::kubelet_api::ShownPorts;

const AGAIN: Duration = Duration::from_secs(5);

/// Without it a process that starts while the hub is away would let the leases of all its device nodes lapse, and a Node whose device ceased
/// to be one meanwhile would stay.
#[derive(Debug)]
pub struct Adoption {
    pub cluster: Cluster,
    /// What the provider ids of our Nodes begin with.
    pub prefix: String,
    /// The node that is served anyway.
    pub fleet: String,
    pub served: watch::Sender<FurtherNodes>,
    /// Hears on which ports they answered, once they are served.
    pub shown: oneshot::Sender<ShownPorts>,
}

impl Adoption {
    /// Reads all Nodes once, as soon as the API server gives them.
    pub async fn run(self) {
        let mut found = loop {
            match nodes_of(&self.cluster, &self.prefix).await {
                Ok(found) => break found,
                Err(error) => tracing::warn!(error = error.chain(), "looking for our nodes failed"),
            }
            tokio::time::sleep(AGAIN.mul_f64(0.5 + rand::random::<f64>())).await;
        };
        found.remove(&self.fleet);
        self.served.send_if_modified(|served| {
            let before = served.len();
            let ours = found
                .iter()
                .map(|(name, node)| (name.clone(), node.provider_id.clone()));
            served.extend(ours);
            served.len() > before
        });
        let ports = found
            .into_iter()
            .filter_map(|(name, node)| Some((name, node.kubelet_port?)));
        // Without a kubelet API nobody listens.
        let _ = self.shown.send(ports.collect());
    }
}
