//! The abilities that a manifest uses.

use std::collections::BTreeSet;

use edge_protocol::v1::object::kind;
use edge_protocol::v1::{
    ContainerSpec, Manifest, Profile, Resources, RestartPolicy, VolumeSource, WorkloadSpec, ability,
};

/// Exactly the words for what is used, sorted.
pub(super) fn requires(manifest: &Manifest) -> Vec<String> {
    let mut used = BTreeSet::new();
    for object in &manifest.objects {
        used.extend(match object.kind.as_str() {
            kind::SERVICES => Some(ability::ENV_SOURCES),
            _ => None,
        });
        used.insert(if object.sealed {
            ability::SEALED_OBJECTS
        } else {
            ability::OBJECTS
        });
    }
    used.extend(of_workload(&manifest.workload));
    for container in manifest.workload.every_container() {
        used.extend(of_container(container));
    }
    // A sidecar's policy is part of being one; any other policy of an initial container is its own.
    let own = |container: &&ContainerSpec| {
        container
            .restart_policy
            .is_some_and(|policy| policy != RestartPolicy::Always)
    };
    let workload = &manifest.workload;
    if workload.init_containers.iter().any(|container| own(&container))
        || workload
            .containers
            .iter()
            .any(|container| container.restart_policy.is_some())
    {
        used.insert(ability::CONTAINER_RESTART);
    }
    used.into_iter().map(str::to_owned).collect()
}

fn of_workload(workload: &WorkloadSpec) -> impl Iterator<Item = &'static str> {
    let volumes = workload.volumes.iter().filter_map(|volume| match volume.source {
        VolumeSource::EmptyDir { .. } => Some(ability::EMPTY_DIR),
        VolumeSource::HostPath { .. } => Some(ability::HOST_PATH),
        VolumeSource::Projected { .. } => Some(ability::PROJECTED),
        VolumeSource::Image { .. } => Some(ability::IMAGE_VOLUME),
        VolumeSource::Local { .. } => Some(ability::LOCAL),
        VolumeSource::Unknown => None,
    });
    let groups = [
        (!workload.init_containers.is_empty(), ability::INIT_CONTAINERS),
        (
            !workload.ephemeral_containers.is_empty(),
            ability::EPHEMERAL_CONTAINERS,
        ),
        (!workload.pull_secrets.is_empty(), ability::PULL_CREDENTIALS),
        (workload.active_deadline_s.is_some(), ability::ACTIVE_DEADLINE),
        (!workload.security.is_default(), ability::SECURITY),
        (!workload.namespaces.is_default(), ability::NAMESPACES),
        (!workload.names.is_default(), ability::NAMES),
        (workload.resources.is_some(), ability::POD_RESOURCES),
        (workload.overhead.is_some(), ability::POD_RESOURCES),
    ];
    volumes.chain(used(groups)).collect::<Vec<_>>().into_iter()
}

fn of_container(container: &ContainerSpec) -> impl Iterator<Item = &'static str> {
    let sources = !container.env_from.is_empty() || container.env.iter().any(|var| var.from.is_some());
    let hooks = container.lifecycle.post_start.is_some() || container.lifecycle.pre_stop.is_some();
    used([
        (sources || container.expand, ability::ENV_SOURCES),
        (!container.probes.is_empty(), ability::PROBES),
        (hooks, ability::LIFECYCLE),
        (container.lifecycle.stop_signal.is_some(), ability::STOP_SIGNAL),
        (!container.restart_rules.is_empty(), ability::CONTAINER_RESTART),
        (!container.terminal.is_default(), ability::TERMINAL),
        (
            container.termination_message.is_some(),
            ability::TERMINATION_MESSAGE,
        ),
        (!container.security.is_default(), ability::SECURITY),
        (confines(container.security.apparmor.as_ref()), ability::APPARMOR),
        (bounds_storage(&container.resources), ability::EPHEMERAL_STORAGE),
    ])
}

fn used<const N: usize>(groups: [(bool, &'static str); N]) -> impl Iterator<Item = &'static str> {
    groups.into_iter().filter(|(used, _)| *used).map(|(_, word)| word)
}

/// Where nothing confines anyway, nothing is needed to be unconfined (`isRequired` of `pkg/security/apparmor/helpers.go`).
fn confines(apparmor: Option<&Profile>) -> bool {
    apparmor.is_some_and(|profile| *profile != Profile::Unconfined)
}

/// A limit is to be held. A request only says what to count on, as it does for the scheduler.
fn bounds_storage(resources: &Resources) -> bool {
    resources.ephemeral_storage_limit_bytes.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_profile_that_confines_needs_apparmor() {
        let check = |apparmor, expect: &[&str]| {
            let mut container = ContainerSpec::new("main", "image");
            container.security.apparmor = apparmor;
            let words: Vec<_> = of_container(&container)
                .filter(|word| *word == ability::APPARMOR)
                .collect();
            assert_eq!(words, expect);
        };
        check(None, &[]);
        check(Some(Profile::Unconfined), &[]);
        check(Some(Profile::RuntimeDefault), &[ability::APPARMOR]);
        check(Some(Profile::Localhost("app".to_owned())), &[ability::APPARMOR]);
    }
}
