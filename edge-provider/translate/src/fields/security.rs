//! The lines of the security contexts of pod and container.

use super::{Line, Rule, below, containers, honoured, pairs, refuse};

const SELINUX: &str = "SELinux labels are not supported";
const WINDOWS: &str = "devices run Linux";

pub(super) fn rules() -> Vec<Rule> {
    let container = pairs(&containers(), &["securityContext."]);
    let pod = vec!["securityContext.".to_owned()];
    let either = [container.clone(), pod.clone()].concat();
    [
        below(&either, EITHER),
        below(&container, CONTAINER),
        below(&pod, POD),
    ]
    .concat()
}

/// Those of a container, beneath its security context.
pub(super) fn of_container() -> impl Iterator<Item = Line> {
    EITHER.iter().chain(CONTAINER).copied()
}

const EITHER: &[Line] = &[
    honoured("appArmorProfile.localhostProfile"),
    honoured("appArmorProfile.type"),
    honoured("runAsGroup"),
    honoured("runAsNonRoot"),
    honoured("runAsUser"),
    honoured("seccompProfile.localhostProfile"),
    honoured("seccompProfile.type"),
    refuse("seLinuxOptions", SELINUX),
    refuse("windowsOptions", WINDOWS),
];

const CONTAINER: &[Line] = &[
    honoured("allowPrivilegeEscalation"),
    honoured("capabilities.add"),
    honoured("capabilities.drop"),
    honoured("privileged"),
    honoured("procMount"),
    honoured("readOnlyRootFilesystem"),
];

const POD: &[Line] = &[
    honoured("fsGroup"),
    honoured("fsGroupChangePolicy"),
    honoured("supplementalGroups"),
    honoured("supplementalGroupsPolicy"),
    honoured("sysctls[].name"),
    honoured("sysctls[].value"),
    refuse("seLinuxChangePolicy", SELINUX),
];
