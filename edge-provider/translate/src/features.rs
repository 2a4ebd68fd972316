//! What a device's Node declares that it can, so that pods which need it are bound there (KEP-5328, `nodedeclaredfeatures` of
//! `k8s.io/component-helpers`).

use edge_protocol::v1::ability;

/// The first API server that keeps `status.declaredFeatures` unasked (`NodeDeclaredFeatures` of `pkg/features/kube_features.go`).
const KEPT_FROM: (u32, u32) = (1, 36);

/// One feature of Kubernetes that a pod may need of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// The ability of an agent that has it.
    pub ability: &'static str,
    /// What a pod says that needs it, be it as it is made or as it is changed,
    pub needed_by: &'static str,
    /// and the case of the comparison with a real kubelet that proves it.
    pub proved_by: &'static str,
}

/// By name. What is not compared with a real kubelet is not declared.
pub const PROVED: [Feature; 3] = [
    Feature {
        name: "InPlacePodLevelResourcesVerticalScaling",
        ability: ability::POD_RESIZE,
        needed_by: r#""spec":{"resources":"#,
        proved_by: "resources/resize-pod-level",
    },
    Feature {
        name: "InPlacePodVerticalScalingInitContainers",
        ability: ability::INIT_RESIZE,
        needed_by: r#""spec":{"initContainers":"#,
        proved_by: "resources/resize-init",
    },
    Feature {
        name: "RestartAllContainersOnContainerExits",
        ability: ability::CONTAINER_RESTART,
        needed_by: "RestartAllContainers",
        proved_by: "restart/all-containers",
    },
];

/// What the Node of a device with these abilities declares to an API server of this major and minor version; `None` where that would
/// not keep it.
pub fn declared(abilities: &[String], kubernetes: (u32, u32)) -> Option<Vec<&'static str>> {
    if kubernetes < KEPT_FROM {
        return None;
    }
    let can = |feature: &&Feature| abilities.iter().any(|ability| ability == feature.ability);
    Some(PROVED.iter().filter(can).map(|feature| feature.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_agent_can_is_declared_and_only_where_it_is_kept() {
        let able = [ability::CONTAINER_RESTART.to_owned()];
        assert_eq!(
            declared(&able, (1, 37)),
            Some(vec!["RestartAllContainersOnContainerExits"])
        );
        assert_eq!(declared(&able, (1, 35)), None);
        assert_eq!(declared(&[], (1, 37)), Some(vec![]));
        assert!(PROVED.is_sorted_by_key(|feature| feature.name));
    }
}
