//! What each node of the process gets of its own: a face, a bridge, its channels.

use std::sync::Arc;

use edge_provider_core::{Brake, Bridge, BridgeConfig, Memory};
use iot_hub_client::HubClient;
use tokio::sync::{mpsc, watch};
use virtual_kubelet::core::FleetSpec;
use virtual_kubelet::objects::ObjectsHandle;

use crate::capacity::Fleet;
use crate::device_nodes::DeviceNodes;
use crate::device_view::DeviceSpec;
use crate::kubelet_api::Endpoints;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::provider::face::{DeviceFace, Face, FleetFace};
use crate::provider::{Channels, EdgeProvider};
use crate::reading::Reading;
use crate::sealer::{PodSealer, SealerHandle};
use crate::streams::PodTable;
use crate::switchboard::Routes;
use crate::wanted::{Placing, To};

/// Of Kubernetes' minor version whose pod fields are classified.
pub(crate) const KUBELET_VERSION: &str = "v1.37.1-outrigger.1";
/// Events of the hub that wait for the pump.
pub(crate) const HUB_EVENTS: usize = 256;

/// What the leader before this one remembered last.
fn memory(text: Option<&str>) -> Memory {
    let Some(text) = text else {
        return Memory::default();
    };
    Memory::from_text(text).unwrap_or_else(|(cautious, error)| {
        tracing::error!(%error, "the leader lease's memory cannot be read: inferred removals wait for a person");
        cautious
    })
}

/// Makes the provider of a node, and tells the switchboard where its events go.
pub(crate) struct Providers {
    pub options: Options,
    pub device_nodes: Option<Arc<DeviceNodes>>,
    pub objects: ObjectsHandle,
    pub sealer: SealerHandle,
    pub hub: HubClient,
    pub metrics: Metrics,
    pub routes: watch::Sender<Routes>,
    pub cluster: watch::Sender<Option<String>>,
    pub brake_released: watch::Receiver<u64>,
    pub over: mpsc::Sender<String>,
    pub endpoints: Option<Endpoints>,
    pub pods: PodTable,
}

impl Providers {
    pub fn provider(&mut self, node: &str, restored: Option<&str>) -> EdgeProvider {
        let options = &self.options;
        let face = self.face(node);
        let config = BridgeConfig {
            cluster_uid: options.kubernetes.cluster_uid.clone(),
            brake: Brake {
                workloads: options.brake.workloads,
                percent: options.brake.percent,
                window_ms: options.brake.window_s.saturating_mul(1000),
            },
            dark: face.dark(),
            ..BridgeConfig::new(node)
        };
        let bridge = Bridge::new(config, memory(restored), rand::random());
        let (events, hub_events) = mpsc::channel(HUB_EVENTS);
        self.routes.send_modify(|routes| {
            // Those of nodes that have ended.
            routes.retain(|_, events| !events.is_closed());
            routes.insert(node.to_owned(), events);
        });
        let mut brake_released = self.brake_released.clone();
        // A signal of before is not meant for what is held back later.
        brake_released.mark_unchanged();
        let channels = Channels {
            hub_events,
            cluster: self.cluster.clone(),
            brake_released,
            over: self.over.clone(),
            endpoint: self
                .endpoints
                .as_ref()
                .map(|all| all.of_node(node))
                .unwrap_or_default(),
        };
        let reading = Reading::new(
            self.objects.of_node(node),
            options.kubernetes.api_server.address(),
            PodSealer::new(self.sealer.clone(), self.cluster.subscribe()),
        );
        EdgeProvider::new(
            face,
            bridge,
            reading,
            self.hub.clone(),
            self.pods.node(node),
            channels,
            self.metrics.clone(),
        )
    }

    fn face(&self, node: &str) -> Face {
        let options = &self.options;
        let placing = |to| Placing {
            namespaces: options.namespace_map(),
            to,
            cluster_domain: options.kubernetes.cluster_domain.as_str().into(),
        };
        match &self.device_nodes {
            Some(nodes) if node != options.node.name => Face::Device(Box::new(DeviceFace {
                spec: DeviceSpec {
                    name: node.to_owned(),
                    provider_id: provider_id(options, node),
                    zone: options.node.zone(),
                    kubelet_version: KUBELET_VERSION.to_owned(),
                    nodes: Arc::clone(nodes),
                },
                placing: placing(To::Device(node.to_owned(), nodes.options.reserved.amounts())),
                device: None,
                is_known: false,
            })),
            apart => Face::Fleet(Box::new(FleetFace {
                spec: fleet_spec(options),
                bound: options.node.capacity.capacity(),
                placing: placing(To::Fleet(apart.clone())),
                fleet: Fleet::new(apart.clone()),
                is_known: false,
            })),
        }
    }
}

/// `outrigger://<hub>/<node>`.
pub(crate) fn provider_id(options: &Options, node: &str) -> String {
    let hub = options
        .hub
        .url
        .trim_start_matches("https://")
        .trim_end_matches('/');
    format!("outrigger://{hub}/{node}")
}

fn fleet_spec(options: &Options) -> FleetSpec {
    let node = &options.node;
    FleetSpec {
        name: node.name.clone(),
        internal_ip: options.address().to_string(),
        provider_id: provider_id(options, &node.name),
        zone: node.zone(),
        os: node.os.clone(),
        arch: node.arch.clone(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        labels: node.labels.clone(),
        annotations: node.annotations.clone(),
    }
}
