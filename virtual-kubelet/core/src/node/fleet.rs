//! What the fleet node shows: a Node that stands for the hub, not for a machine.

use std::collections::BTreeMap;

use super::{
    Address, Capacity, ConditionStatus, HUB_REACHABLE, KubeletPort, NodeCondition, NodeInfo, NodeView,
    own_labels,
};

/// What never changes while the process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetSpec {
    pub name: String,
    /// Not loopback: the API server refuses to proxy there.
    pub internal_ip: String,
    /// `outrigger://<hub>/<node>`; fixed at creation.
    pub provider_id: String,
    /// Value of `topology.kubernetes.io/zone`: always an own one, or dark devices would slow the eviction of dead workers.
    pub zone: String,
    pub os: String,
    /// As Kubernetes spells it: `amd64`, `arm64`, `arm`.
    pub arch: String,
    pub kubelet_version: String,
    /// Further labels and annotations of ours.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetState {
    /// `None` while the fleet is not known: what the Node shows stays, and a new Node shows nothing to give.
    pub capacity: Option<Capacity>,
    pub hub: HubWord,
}

/// Whether the hub answers; while it does not, a node stays as it was and takes nothing new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubWord {
    Answers,
    Silent { message: String },
}

impl HubWord {
    /// The condition by which every node of ours tells it.
    pub fn condition(&self) -> NodeCondition {
        match self {
            Self::Answers => NodeCondition::new(
                HUB_REACHABLE,
                ConditionStatus::True,
                "HubAnswers",
                "the hub answers",
            ),
            Self::Silent { message } => {
                NodeCondition::new(HUB_REACHABLE, ConditionStatus::False, "HubSilent", message)
            }
        }
    }

    pub fn answers(&self) -> bool {
        *self == Self::Answers
    }
}

impl FleetSpec {
    /// The Node in this state.
    pub fn view(&self, state: &FleetState) -> NodeView {
        let mut labels = self.labels.clone();
        labels.extend(own_labels(&self.name, &self.os, &self.arch, &self.zone));
        let address = |kind, address: &String| Address {
            kind,
            address: address.clone(),
        };
        NodeView {
            name: self.name.clone(),
            provider_id: self.provider_id.clone(),
            labels,
            annotations: self.annotations.clone(),
            owned: None,
            addresses: vec![
                address("InternalIP", &self.internal_ip),
                address("Hostname", &self.name),
            ],
            kubelet_port: KubeletPort::Nothing,
            capacity: state.capacity,
            allocatable: state.capacity,
            info: self.info(),
            conditions: conditions(&state.hub),
            images: Vec::new(),
            // Its devices differ.
            declared_features: None,
            strict_groups: None,
            takes_new: state.hub.answers(),
            lives: true,
        }
    }

    /// A virtual node has no machine, so the members that name one are empty.
    fn info(&self) -> NodeInfo {
        NodeInfo {
            os_image: "Outrigger fleet".to_owned(),
            container_runtime_version: "outrigger://1".to_owned(),
            kubelet_version: self.kubelet_version.clone(),
            operating_system: self.os.clone(),
            architecture: self.arch.clone(),
            ..NodeInfo::default()
        }
    }
}

fn conditions(hub: &HubWord) -> Vec<NodeCondition> {
    let calm = |kind| {
        NodeCondition::new(
            kind,
            ConditionStatus::False,
            "DevicesAdmit",
            "each device admits by itself",
        )
    };
    vec![
        NodeCondition::new(
            "Ready",
            ConditionStatus::True,
            "KubeletReady",
            "the virtual kubelet is running",
        ),
        calm("MemoryPressure"),
        calm("DiskPressure"),
        calm("PIDPressure"),
        NodeCondition::new(
            "NetworkUnavailable",
            ConditionStatus::False,
            "NoPodNetwork",
            "pods of this node have no cluster address",
        ),
        hub.condition(),
    ]
}
