//! Who a workload's processes are and what they may do: pure translation, in the kubelet's shape
//! (`pkg/kubelet/kuberuntime/security_context.go` and `kuberuntime_sandbox.go`, pkg/securitycontext/util.go).

use std::path::{Component, Path};

use edge_agent_cri::v1::security_profile::ProfileType;
use edge_agent_cri::v1::{
    Capability, Image, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SecurityProfile, SupplementalGroupsPolicy,
};
use edge_protocol::v1::{ContainerSecurity, ContainerSpec, Manifest, Namespaces, PodSecurity, Profile};

/// What a container may not see of `/proc` and `/sys`.
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// What it may not write there.
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A container that must not be made as it is described. The words are the kubelet's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SecurityFault {
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    RunsAsRoot { pod: String, container: String },
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    ImageRunsAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    ImageUserHasName {
        user: String,
        pod: String,
        container: String,
    },
    #[error("seccomp profile {0:?} is not below the device's directory of profiles")]
    SeccompProfile(String),
    #[error("SupplementalGroupsPolicy=Strict is not supported in this node")]
    StrictGroups,
}

/// Who an image says that its process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ImageUser {
    Id(i64),
    Name(String),
}

impl ImageUser {
    /// An image that says nothing runs as root.
    pub(super) fn of(image: Option<&Image>) -> Self {
        match image {
            Some(Image { uid: Some(uid), .. }) => Self::Id(uid.value),
            Some(Image { username, .. }) if !username.is_empty() => Self::Name(username.clone()),
            _ => Self::Id(0),
        }
    }
}

pub(super) fn namespaces(of: Namespaces) -> NamespaceOption {
    let Namespaces {
        host_network,
        host_pid,
        host_ipc,
        share_process_namespace,
    } = of;
    let device_or = |on_device: bool, other| {
        if on_device { NamespaceMode::Node } else { other }
    };
    let pid = if share_process_namespace {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: device_or(host_network, NamespaceMode::Pod).into(),
        pid: device_or(host_pid, pid).into(),
        ipc: device_or(host_ipc, NamespaceMode::Pod).into(),
        target_id: String::new(),
    }
}

pub(super) fn sandbox(manifest: &Manifest) -> LinuxSandboxSecurityContext {
    let (workload, pod) = (&manifest.workload, &manifest.workload.security);
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(workload.namespaces)),
        run_as_user: pod.run_as_user.map(id),
        run_as_group: pod.run_as_group.map(id),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        privileged: workload
            .every_container()
            .any(|container| container.security.privileged),
        // Whatever the containers have: the sandbox's own process needs nothing.
        seccomp: Some(profile(ProfileType::RuntimeDefault, String::new())),
        ..Default::default()
    }
}

pub(super) fn container(
    manifest: &Manifest,
    container: &ContainerSpec,
    image_user: &ImageUser,
    seccomp_dir: &Path,
) -> Result<LinuxContainerSecurityContext, SecurityFault> {
    verify_non_root(manifest, container, image_user)?;
    let pod = &manifest.workload.security;
    let ContainerSecurity {
        run_as_user,
        run_as_group,
        run_as_non_root: _,
        privileged,
        no_new_privileges,
        read_only_root_filesystem,
        add_capabilities,
        drop_capabilities,
        seccomp,
        apparmor,
        unmasked_proc,
    } = &container.security;
    let (user, user_name) = match (run_as_user, image_user) {
        (Some(user), _) => (Some(id(*user)), String::new()),
        (None, ImageUser::Id(user)) => (Some(Int64Value { value: *user }), String::new()),
        (None, ImageUser::Name(name)) => (None, name.clone()),
    };
    let paths = |paths: &[&str]| -> Vec<String> {
        let masked = paths.iter().filter(|_| !unmasked_proc);
        masked.map(|path| (*path).to_owned()).collect()
    };
    let changes_capabilities = !add_capabilities.is_empty() || !drop_capabilities.is_empty();
    Ok(LinuxContainerSecurityContext {
        capabilities: changes_capabilities.then(|| Capability {
            add_capabilities: add_capabilities.clone(),
            drop_capabilities: drop_capabilities.clone(),
        }),
        privileged: *privileged,
        namespace_options: Some(namespaces(manifest.workload.namespaces)),
        run_as_user: user,
        run_as_username: user_name,
        run_as_group: run_as_group.map(id),
        readonly_rootfs: *read_only_root_filesystem,
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        no_new_privs: *no_new_privileges,
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READONLY_PATHS),
        seccomp: Some(seccomp_profile(seccomp.as_ref(), seccomp_dir)?),
        apparmor: apparmor.as_ref().map(|apparmor| match apparmor {
            Profile::RuntimeDefault => profile(ProfileType::RuntimeDefault, String::new()),
            Profile::Unconfined => profile(ProfileType::Unconfined, String::new()),
            Profile::Localhost(name) => profile(ProfileType::Localhost, name.clone()),
        }),
    })
}

/// Its processes among those of another container, unless the workload's or the device's are shared anyway
/// (`generateLinuxContainerConfig` of `pkg/kubelet/kuberuntime/kuberuntime_container_linux.go`).
pub(super) fn among(target: &str, context: &mut LinuxContainerSecurityContext) {
    let own = |options: &&mut NamespaceOption| options.pid() == NamespaceMode::Container;
    if let Some(options) = context.namespace_options.as_mut().filter(own) {
        options.set_pid(NamespaceMode::Target);
        target.clone_into(&mut options.target_id);
    }
}

/// `verifyRunAsNonRoot` of `pkg/kubelet/kuberuntime/security_context_others.go`.
fn verify_non_root(
    manifest: &Manifest,
    container: &ContainerSpec,
    image_user: &ImageUser,
) -> Result<(), SecurityFault> {
    if !container.security.run_as_non_root {
        return Ok(());
    }
    let pod = format!("{}_{}({})", manifest.name, manifest.namespace, manifest.uid);
    let container_name = container.name.clone();
    match (container.security.run_as_user, image_user) {
        (Some(0), _) => Err(SecurityFault::RunsAsRoot {
            pod,
            container: container_name,
        }),
        (None, ImageUser::Id(0)) => Err(SecurityFault::ImageRunsAsRoot {
            pod,
            container: container_name,
        }),
        (None, ImageUser::Name(user)) => Err(SecurityFault::ImageUserHasName {
            user: user.clone(),
            pod,
            container: container_name,
        }),
        (Some(_), _) | (None, ImageUser::Id(_)) => Ok(()),
    }
}

/// `fieldSeccompProfile` of pkg/kubelet/kuberuntime/helpers.go; a path out of the directory is refused by the API, and here again.
fn seccomp_profile(wanted: Option<&Profile>, directory: &Path) -> Result<SecurityProfile, SecurityFault> {
    match wanted {
        None | Some(Profile::Unconfined) => Ok(profile(ProfileType::Unconfined, String::new())),
        Some(Profile::RuntimeDefault) => Ok(profile(ProfileType::RuntimeDefault, String::new())),
        Some(Profile::Localhost(name)) => {
            let mut parts = Path::new(name).components();
            if name.is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
                return Err(SecurityFault::SeccompProfile(name.chars().take(80).collect()));
            }
            let path = directory.join(name).display().to_string();
            Ok(profile(ProfileType::Localhost, path))
        }
    }
}

fn profile(kind: ProfileType, localhost_ref: String) -> SecurityProfile {
    SecurityProfile {
        profile_type: kind.into(),
        localhost_ref,
    }
}

fn groups(pod: &PodSecurity) -> Vec<i64> {
    let all = pod.fs_group.iter().chain(&pod.supplemental_groups);
    all.map(|group| i64::from(*group)).collect()
}

fn groups_policy(pod: &PodSecurity) -> i32 {
    if pod.strict_supplemental_groups {
        SupplementalGroupsPolicy::Strict.into()
    } else {
        SupplementalGroupsPolicy::Merge.into()
    }
}

fn id(value: u32) -> Int64Value {
    Int64Value { value: value.into() }
}

#[cfg(test)]
mod tests;
