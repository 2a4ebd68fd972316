//! What the node of a provider stands for: the one thing in which two kinds of node differ here.

use std::net::IpAddr;

use edge_provider_core::Dark;
use edge_provider_translate::{NodeKind, Speaker};
use iot_hub_client::api::Device;
use virtual_kubelet::core::node::{Capacity, Endpoint, FleetSpec, FleetState, HubWord, NodeAim, NodeView};

use crate::capacity::Fleet;
use crate::device_view::{DeviceSpec, last_word};
use crate::wanted::Placing;

/// What the hub said of what the node stands for.
#[derive(Debug)]
pub enum Face {
    Fleet(Box<FleetFace>),
    Device(Box<DeviceFace>),
}

#[derive(Debug)]
pub struct FleetFace {
    pub spec: FleetSpec,
    /// The Node never shows more than this.
    pub bound: Capacity,
    pub placing: Placing,
    pub fleet: Fleet,
    /// Whether the hub has said which devices there are.
    pub is_known: bool,
}

#[derive(Debug)]
pub struct DeviceFace {
    pub spec: DeviceSpec,
    pub placing: Placing,
    /// As last told; `None` before.
    pub device: Option<Device>,
    /// Whether the hub has said which devices there are.
    pub is_known: bool,
}

impl Face {
    pub fn name(&self) -> &str {
        match self {
            Self::Fleet(face) => &face.spec.name,
            Self::Device(face) => &face.spec.name,
        }
    }

    pub fn kind(&self) -> NodeKind {
        match self {
            Self::Fleet(_) => NodeKind::Fleet,
            Self::Device(_) => NodeKind::Device,
        }
    }

    /// What becomes of a deleted pod whose device is silent.
    pub fn dark(&self) -> Dark {
        match self {
            Self::Fleet(_) => Dark::LetsGo,
            Self::Device(_) => Dark::Holds,
        }
    }

    /// Where its pods may go.
    pub fn placing(&self) -> &Placing {
        match self {
            Self::Fleet(face) => &face.placing,
            Self::Device(face) => &face.placing,
        }
    }

    /// All devices at one moment. A device that is not among them any more was last heard when it was: nothing says that it is gone.
    pub fn list(&mut self, devices: Vec<Device>) {
        match self {
            Self::Fleet(face) => {
                face.is_known = true;
                face.fleet.list(&devices);
            }
            Self::Device(face) => {
                face.is_known = true;
                let ours = devices
                    .into_iter()
                    .find(|device| device.id.as_str() == face.spec.name);
                match (ours, &mut face.device) {
                    (Some(ours), device) => *device = Some(ours),
                    (None, Some(device)) => (device.online, device.connected) = (false, false),
                    (None, None) => {}
                }
            }
        }
    }

    pub fn see(&mut self, device: Device) {
        match self {
            Self::Fleet(face) => {
                face.is_known = true;
                face.fleet.see(&device);
            }
            Self::Device(face) => {
                if device.id.as_str() == face.spec.name {
                    face.device = Some(device);
                }
            }
        }
    }

    /// What the Node should be. `None` while nothing is known of what it stands for, and the hub is not away either. `endpoint` is its kubelet API, if it
    /// has one.
    pub fn aim(
        &self,
        hub: HubWord,
        kubernetes: Option<(u32, u32)>,
        endpoint: Option<&Endpoint>,
    ) -> Option<NodeAim> {
        let present = |view: NodeView| {
            let view = match endpoint {
                Some(endpoint) => view.with_endpoint(endpoint),
                None => view,
            };
            NodeAim::Present(Box::new(view))
        };
        match self {
            Self::Fleet(face) if !face.is_known && hub.answers() => None,
            Self::Fleet(face) => {
                let capacity = face.is_known.then(|| face.fleet.capacity().at_most(face.bound));
                Some(present(face.spec.view(&FleetState { capacity, hub })))
            }
            Self::Device(face) => {
                let Some(device) = &face.device else {
                    return match (face.is_known, hub.answers()) {
                        (true, _) => Some(NodeAim::Unheard),
                        (false, true) => None,
                        (false, false) => Some(NodeAim::Kept(hub)),
                    };
                };
                if face.spec.nodes.is_node(device) {
                    Some(present(face.spec.view(device, &hub, kubernetes)))
                } else {
                    Some(NodeAim::Absent)
                }
            }
        }
    }

    /// Whether the hub has said that this is a node no longer.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Fleet(_) => false,
            Self::Device(face) => face
                .device
                .as_ref()
                .is_some_and(|device| !face.spec.nodes.is_node(device)),
        }
    }

    /// Whose word a pod's status is.
    pub fn speaker(&self) -> Speaker {
        match self {
            Self::Fleet(_) => Speaker::Fleet,
            Self::Device(face) => Speaker::Device {
                silent_since: face
                    .device
                    .as_ref()
                    .filter(|device| !device.online)
                    .and_then(last_word),
            },
        }
    }

    /// The addresses of where its pods run, the foremost first, one of a family.
    pub fn host_ips(&self) -> Vec<IpAddr> {
        match self {
            Self::Fleet(face) => face.spec.internal_ip.parse().ok().into_iter().collect(),
            Self::Device(face) => face.device.iter().flat_map(|device| device.facts.ips()).collect(),
        }
    }

    /// Whether others of the cluster can reach this address of a pod.
    pub fn is_routable(&self, address: IpAddr) -> bool {
        match self {
            Self::Fleet(_) => false,
            Self::Device(face) => face.spec.nodes.is_routable(address),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use edge_protocol::v1::Amounts;
    use serde_json::json;
    use virtual_kubelet::core::{NamespaceEntry, NamespaceMap};

    use super::*;
    use crate::device_nodes::DeviceNodesOptions;
    use crate::device_view::tests::device;
    use crate::wanted::To;

    /// A device's, with pods of these namespaces.
    pub fn face_with(namespaces: Vec<NamespaceEntry>) -> Face {
        let options = json!({"condition": "tags.node = 'true'"});
        let options: DeviceNodesOptions = serde_json::from_value(options).unwrap();
        Face::Device(Box::new(DeviceFace {
            spec: DeviceSpec {
                name: "press-7".into(),
                provider_id: "outrigger://hub/press-7".into(),
                zone: "outrigger-site".into(),
                kubelet_version: "v1.37.1-outrigger.1".into(),
                nodes: Arc::new(options.parsed().unwrap()),
            },
            placing: Placing {
                namespaces: NamespaceMap(namespaces),
                to: To::Device("press-7".into(), Amounts::default()),
                cluster_domain: "cluster.local".into(),
            },
            device: None,
            is_known: false,
        }))
    }

    fn face() -> Face {
        face_with(Vec::new())
    }

    #[test]
    fn what_a_node_should_be_before_and_after_the_hub_has_spoken_of_its_device() {
        let silent = HubWord::Silent {
            message: "no answer".into(),
        };
        let mut face = face();
        assert_eq!(
            face.aim(HubWord::Answers, None, None),
            None,
            "it will say in a moment"
        );
        assert_eq!(
            face.aim(silent.clone(), None, None),
            Some(NodeAim::Kept(silent.clone()))
        );
        face.list(Vec::new());
        assert_eq!(face.aim(silent.clone(), None, None), Some(NodeAim::Unheard));
        face.list(vec![device("press-7")]);
        let Some(NodeAim::Present(view)) = face.aim(silent, None, None) else {
            panic!("it is a node")
        };
        assert!(view.lives && !view.takes_new);
        let mut other = device("press-7");
        other.tags.clear();
        face.see(other);
        assert_eq!(face.aim(HubWord::Answers, None, None), Some(NodeAim::Absent));
    }
}
