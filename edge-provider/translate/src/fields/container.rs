//! The lines of `containers[]`.

use super::Expected::{ApiAccessMount, Flag, Text};
use super::{Rule, default_only, honoured, refuse, scheduler_only};

const PROBE: &str = "probes are not supported on a fleet";
const LIFECYCLE: &str = "lifecycle hooks are not supported on a fleet";
const SECURITY: &str = "security settings beyond the defaults are not supported on a fleet";
const RESTART: &str = "restart rules of single containers are not supported; the pod's restartPolicy is";
const SOURCE: &str = "only literal values are supported on a fleet";
const RESOURCE: &str = "only cpu and memory can be granted on a fleet";

/// Lines whose treatment needs a word:
///
/// - `resources.requests.ephemeral-storage` only guides the scheduler and the node's eviction order; the limit would have to be
///   enforced and is refused.
/// - `terminationMessagePath` and `terminationMessagePolicy`: the API always writes `/dev/termination-log` and `File`. No
///   such file is mounted on a device, so the message of an ended container is empty; another path or reading the log
///   instead is refused.
/// - `resizePolicy` speaks about changing resources in place, which a fleet refuses, so it never takes effect.
pub(super) const RULES: &[Rule] = &[
    honoured("containers[].args"),
    honoured("containers[].command"),
    honoured("containers[].env[].name"),
    honoured("containers[].env[].value"),
    honoured("containers[].image"),
    honoured("containers[].imagePullPolicy"),
    honoured("containers[].name"),
    honoured("containers[].ports[].containerPort"),
    honoured("containers[].ports[].hostPort"),
    honoured("containers[].ports[].name"),
    honoured("containers[].ports[].protocol"),
    honoured("containers[].resources.limits.cpu"),
    honoured("containers[].resources.limits.memory"),
    honoured("containers[].resources.requests.cpu"),
    honoured("containers[].resources.requests.memory"),
    honoured("containers[].workingDir"),
    // Control plane.
    scheduler_only("containers[].resources.requests.ephemeral-storage"),
    // Defaults.
    default_only(
        "containers[].securityContext.allowPrivilegeEscalation",
        Flag(true),
    ),
    default_only("containers[].securityContext.privileged", Flag(false)),
    default_only("containers[].securityContext.procMount", Text(&["Default"])),
    default_only("containers[].securityContext.readOnlyRootFilesystem", Flag(false)),
    default_only("containers[].securityContext.runAsNonRoot", Flag(false)),
    default_only("containers[].stdin", Flag(false)),
    default_only("containers[].stdinOnce", Flag(false)),
    default_only(
        "containers[].terminationMessagePath",
        Text(&["/dev/termination-log"]),
    ),
    default_only("containers[].terminationMessagePolicy", Text(&["File"])),
    default_only("containers[].tty", Flag(false)),
    default_only("containers[].volumeMounts[]", ApiAccessMount),
    // Not in this release.
    refuse("containers[].env[].valueFrom", SOURCE),
    refuse("containers[].envFrom", SOURCE),
    refuse("containers[].lifecycle.postStart", LIFECYCLE),
    refuse("containers[].lifecycle.preStop", LIFECYCLE),
    refuse(
        "containers[].lifecycle.stopSignal",
        "a stop signal of its own is not supported; set it in the image",
    ),
    refuse("containers[].livenessProbe", PROBE),
    refuse(
        "containers[].ports[].hostIP",
        "a host port listens on every address of a device",
    ),
    refuse("containers[].readinessProbe", PROBE),
    refuse(
        "containers[].resizePolicy",
        "resources of a fleet pod cannot be changed in place",
    ),
    refuse(
        "containers[].resources.claims",
        "device claims are allocated for one node",
    ),
    refuse("containers[].resources.limits.*", RESOURCE),
    refuse("containers[].resources.requests.*", RESOURCE),
    refuse("containers[].restartPolicy", RESTART),
    refuse("containers[].restartPolicyRules", RESTART),
    refuse("containers[].securityContext.appArmorProfile", SECURITY),
    refuse("containers[].securityContext.capabilities.add", SECURITY),
    refuse("containers[].securityContext.capabilities.drop", SECURITY),
    refuse("containers[].securityContext.runAsGroup", SECURITY),
    refuse("containers[].securityContext.runAsUser", SECURITY),
    refuse("containers[].securityContext.seLinuxOptions", SECURITY),
    refuse("containers[].securityContext.seccompProfile", SECURITY),
    refuse("containers[].securityContext.windowsOptions", "devices run Linux"),
    refuse("containers[].startupProbe", PROBE),
    refuse(
        "containers[].volumeDevices",
        "block devices are not supported on a fleet",
    ),
];
