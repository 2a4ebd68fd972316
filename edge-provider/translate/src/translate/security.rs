//! Security contexts: what the pod says for its containers merged into what each says itself.
//!
//! Sources in Kubernetes 1.37: `DetermineEffectiveSecurityContext` and `AddNoNewPrivileges` of `pkg/securitycontext/util.go`,
//! `getSeccompProfile` and `getAppArmorProfile` of `pkg/kubelet/kuberuntime/helpers.go` with `seccompDefault` off, `GetProfile` of
//! `pkg/security/apparmor/helpers.go`. The sandbox's own seccomp profile is the runtime's default whatever a pod says
//! (`generatePodSandboxLinuxConfig` of `pkg/kubelet/kuberuntime/kuberuntime_sandbox.go`).

use std::collections::BTreeMap;

use edge_protocol::v1::{ContainerSecurity, PodSecurity, Profile};
use k8s_openapi::api::core::v1::{PodSecurityContext, SecurityContext};

use super::accept;
use crate::refusal::{Path, Refusal};

/// What concerns the pod as a whole. `None` only together with a new refusal.
pub(super) fn of_pod(
    context: &PodSecurityContext,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<PodSecurity> {
    let mut id = |field: &str, value| accept(number(value), &path.field(field), refused);
    let run_as_user = id("runAsUser", context.run_as_user);
    let run_as_group = id("runAsGroup", context.run_as_group);
    let fs_group = id("fsGroup", context.fs_group);
    let at = path.field("supplementalGroups");
    let groups = context.supplemental_groups.iter().flatten().enumerate();
    let groups: Vec<_> = groups
        .map(|(index, group)| accept(number(Some(*group)), &at.index(index), refused).flatten())
        .collect();
    let strict = match context.supplemental_groups_policy.as_deref() {
        None | Some("" | "Merge") => Ok(false),
        Some("Strict") => Ok(true),
        Some(_) => Err("must be Merge or Strict"),
    };
    let strict = accept(strict, &path.field("supplementalGroupsPolicy"), refused);
    let on_root_mismatch = match context.fs_group_change_policy.as_deref() {
        None | Some("" | "Always") => Ok(false),
        Some("OnRootMismatch") => Ok(true),
        Some(_) => Err("must be Always or OnRootMismatch"),
    };
    let on_root_mismatch = accept(on_root_mismatch, &path.field("fsGroupChangePolicy"), refused);
    let sysctls = context.sysctls.iter().flatten();
    let sysctls: BTreeMap<_, _> = sysctls
        .map(|sysctl| (dotted(&sysctl.name), sysctl.value.clone()))
        .collect();
    Some(PodSecurity {
        run_as_user: run_as_user?,
        run_as_group: run_as_group?,
        supplemental_groups: groups.into_iter().collect::<Option<_>>()?,
        strict_supplemental_groups: strict?,
        fs_group: fs_group?,
        fs_group_on_root_mismatch: on_root_mismatch?,
        seccomp: None,
        sysctls,
    })
}

/// A parameter of the kernel may be written with slashes too (`NormalizeName` of k8s.io/component-helpers/node/util/sysctl).
fn dotted(name: &str) -> String {
    let swapped = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    match name.find(['.', '/']).and_then(|at| name.get(at..)) {
        Some(rest) if rest.starts_with('/') => name.chars().map(swapped).collect(),
        _ => name.to_owned(),
    }
}

/// What holds for one container. `None` only together with a new refusal.
///
/// The pod's own numbers and profiles are refused by [`of_pod`] and [`profiles`]; here a wrong one only gives no container.
pub(super) fn of_container(
    pod: &PodSecurityContext,
    own: &SecurityContext,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<ContainerSecurity> {
    let run_as_user = accept(number(own.run_as_user), &path.field("runAsUser"), refused);
    let run_as_group = accept(number(own.run_as_group), &path.field("runAsGroup"), refused);
    let (own_seccomp, own_apparmor) = profiles(
        own.seccomp_profile
            .as_ref()
            .map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())),
        own.app_armor_profile
            .as_ref()
            .map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())),
        path,
        refused,
    )?;
    let root = Path::root("spec");
    let (seccomp, apparmor) = of_the_pod(pod, &root.field("securityContext"), refused)?;
    let unmasked_proc = match own.proc_mount.as_deref() {
        None | Some("" | "Default") => Ok(false),
        Some("Unmasked") => Ok(true),
        Some(_) => Err("must be Default or Unmasked"),
    };
    let unmasked_proc = accept(unmasked_proc, &path.field("procMount"), refused);
    let capabilities = own.capabilities.as_ref();
    let list = |names: Option<&Vec<String>>| names.cloned().unwrap_or_default();
    let inherited = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    Some(ContainerSecurity {
        run_as_user: run_as_user?.or(inherited(pod.run_as_user)),
        run_as_group: run_as_group?.or(inherited(pod.run_as_group)),
        run_as_non_root: own.run_as_non_root.or(pod.run_as_non_root).unwrap_or_default(),
        privileged: own.privileged.unwrap_or_default(),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        read_only_root_filesystem: own.read_only_root_filesystem.unwrap_or_default(),
        add_capabilities: list(capabilities.and_then(|c| c.add.as_ref())),
        drop_capabilities: list(capabilities.and_then(|c| c.drop.as_ref())),
        seccomp: own_seccomp.or(seccomp),
        apparmor: own_apparmor.or(apparmor),
        unmasked_proc: unmasked_proc?,
    })
}

type Named<'a> = Option<(&'a str, Option<&'a str>)>;
type Profiles = (Option<Profile>, Option<Profile>);

fn of_the_pod(pod: &PodSecurityContext, path: &Path<'_>, refused: &mut Vec<Refusal>) -> Option<Profiles> {
    profiles(
        pod.seccomp_profile
            .as_ref()
            .map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())),
        pod.app_armor_profile
            .as_ref()
            .map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())),
        path,
        refused,
    )
}

/// Both profiles of one context, seccomp first.
fn profiles(
    seccomp: Named<'_>,
    apparmor: Named<'_>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Profiles> {
    let mut one = |named, field: &str| {
        let at = path.field(field);
        profile(named)
            .map_err(|(part, reason)| refused.push(at.field(part).refuse(reason)))
            .ok()
    };
    let seccomp = one(seccomp, "seccompProfile");
    let apparmor = one(apparmor, "appArmorProfile");
    Some((seccomp?, apparmor?))
}

/// An error names the part of the profile that is wrong.
fn profile(named: Named<'_>) -> Result<Option<Profile>, (&'static str, &'static str)> {
    let Some((kind, file)) = named else {
        return Ok(None);
    };
    let profile = match (kind, file.filter(|file| !file.is_empty())) {
        ("RuntimeDefault", None) => Profile::RuntimeDefault,
        ("Unconfined", None) => Profile::Unconfined,
        ("Localhost", Some(file)) => Profile::Localhost(file.to_owned()),
        ("Localhost", None) => return Err(("localhostProfile", "is missing")),
        ("RuntimeDefault" | "Unconfined", Some(_)) => {
            return Err(("localhostProfile", "only Localhost has one"));
        }
        _ => return Err(("type", "must be RuntimeDefault, Unconfined or Localhost")),
    };
    Ok(Some(profile))
}

fn number(value: Option<i64>) -> Result<Option<u32>, &'static str> {
    let number = value.map(u32::try_from).transpose();
    number.map_err(|_| "must be 0 to 4294967295")
}
