//! The lines of `ephemeralContainers[]`: those of other containers, less what such a container may not have.

use super::{Class, Line, Rule, below, container, device_only, refuse, security};

const FLEET: &str = "nothing is added to a fleet pod that runs; add it to a pod of a device node";
/// The API server says so first (`allowedEphemeralContainerFields` of `pkg/apis/core/validation/validation.go`).
const NEVER: &str = "an ephemeral container has none";

pub(super) fn rules() -> Vec<Rule> {
    let context = security::of_container().map(|line| (SECURITY, line));
    let same = container::LINES.iter().map(|line| ("", *line)).chain(context);
    let same = same.filter(|(_, line)| !NOT_SAME.iter().any(|head| line.path.starts_with(head)));
    let same = same.map(|(head, line)| Rule {
        path: format!("{LIST}{head}{}", line.path),
        fleet: Class::Refused(FLEET),
        device: line.device,
    });
    same.chain(below(&[LIST.to_owned()], LINES)).collect()
}

pub(super) const LIST: &str = "ephemeralContainers[].";
const SECURITY: &str = "securityContext.";

/// What of another container's lines begins so has lines of its own here.
const NOT_SAME: &[&str] = &[
    "lifecycle",
    "ports",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "volumeMounts[].subPath",
];

/// `resources` itself is always there, and empty.
const LINES: &[Line] = &[
    device_only("targetContainerName", FLEET),
    refuse("lifecycle", NEVER),
    refuse("livenessProbe", NEVER),
    refuse("ports", NEVER),
    refuse("readinessProbe", NEVER),
    refuse("resizePolicy", NEVER),
    refuse("resources.claims", NEVER),
    refuse("resources.limits.*", NEVER),
    refuse("resources.requests.*", NEVER),
    refuse("restartPolicy", NEVER),
    refuse("restartPolicyRules", NEVER),
    refuse("startupProbe", NEVER),
    refuse("volumeMounts[].subPath", NEVER),
    refuse("volumeMounts[].subPathExpr", NEVER),
];
