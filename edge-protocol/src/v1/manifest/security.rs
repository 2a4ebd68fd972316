//! What a workload's processes may do and who they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What concerns the workload as a whole. What a pod says for its containers is already in [`ContainerSecurity`], where a container
/// says nothing itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSecurity {
    /// Of the sandbox's own process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supplemental_groups: Vec<u32>,
    /// Groups of the image's `/etc/group` do not count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict_supplemental_groups: bool,
    /// Owns the files of the workload's volumes, and every process is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<u32>,
    /// Volumes whose root has the right group already are left alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fs_group_on_root_mismatch: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Profile>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
}

impl PodSecurity {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The effective settings of one container.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the pod's own, not a state"
)]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSecurity {
    /// Absent means the image's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// The container is not created when its user would be 0, or is a name and nobody can tell.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub run_as_non_root: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// Set-user-id programs gain nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only_root_filesystem: bool,
    /// Without `CAP_`; `ALL` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_capabilities: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop_capabilities: Vec<String>,
    /// Absent means none, as `Unconfined`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Profile>,
    /// Absent means the runtime's own choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<Profile>,
    /// `/proc` is not masked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unmasked_proc: bool,
}

impl ContainerSecurity {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Capabilities that a container may add without being as good as privileged: the baseline of the Pod Security Standards
/// (k8s.io/pod-security-admission/policy/check_capabilities_baseline.go).
const BASELINE: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Whether adding this capability, with or without `CAP_`, leaves a container an ordinary one.
pub fn is_baseline_capability(name: &str) -> bool {
    BASELINE.contains(&name.strip_prefix("CAP_").unwrap_or(name))
}

/// A seccomp or `AppArmor` profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    RuntimeDefault,
    Unconfined,
    /// seccomp: a file below the device's profile directory. `AppArmor`: a loaded profile.
    Localhost(String),
}
