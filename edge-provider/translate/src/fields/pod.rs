//! The lines of `PodSpec` itself.

use super::Expected::{Flag, Text};
use super::{Class, Line, Rule, below, default_only, fleet_scheduler_only, honoured, refuse, scheduler_only};

const CLAIMS: &str = "devices cannot be claimed (dynamic resource allocation)";
const RESOURCE: &str = "devices grant cpu, memory and ephemeral-storage";

pub(super) fn rules() -> Vec<Rule> {
    below(&[String::new()], LINES)
}

/// Lines whose treatment needs a word:
///
/// - `automountServiceAccountToken`: its effect is the token volume, which admission has added by now and which has lines of its own.
/// - `enableServiceLinks`: the API's default is true, yet cluster addresses mean nothing on a fleet. No link variables are set there,
///   whatever it says.
/// - `dnsPolicy`: `ClusterFirst` is what the API writes by itself; on a fleet it means the device's resolver, as `Default` does.
/// - `priority`: on a fleet it orders scheduling in the cluster only.
/// - `runtimeClassName` names a handler of a node's runtime, which a kubelet passes on; no device is known to have it.
const LINES: &[Line] = &[
    honoured("activeDeadlineSeconds"),
    honoured("dnsConfig.nameservers"),
    honoured("dnsConfig.options[].name"),
    honoured("dnsConfig.options[].value"),
    honoured("dnsConfig.searches"),
    honoured("dnsPolicy"),
    fleet_scheduler_only("enableServiceLinks"),
    honoured("hostAliases[].hostnames"),
    honoured("hostAliases[].ip"),
    honoured("hostIPC"),
    honoured("hostNetwork"),
    honoured("hostPID"),
    honoured("hostname"),
    honoured("hostnameOverride"),
    honoured("imagePullSecrets[].name"),
    honoured("nodeName"),
    honoured("overhead.cpu"),
    honoured("overhead.ephemeral-storage"),
    honoured("overhead.memory"),
    fleet_scheduler_only("priority"),
    honoured("resources.limits.cpu"),
    honoured("resources.limits.memory"),
    honoured("resources.requests.cpu"),
    honoured("resources.requests.memory"),
    honoured("restartPolicy"),
    honoured("serviceAccount"),
    honoured("serviceAccountName"),
    honoured("setHostnameAsFQDN"),
    honoured("shareProcessNamespace"),
    honoured("subdomain"),
    honoured("terminationGracePeriodSeconds"),
    // What the pod shows.
    Line {
        path: "readinessGates",
        fleet: Class::Refused("a fleet pod is ready by the word of its devices alone"),
        device: Class::StatusOnly,
    },
    // Control plane.
    scheduler_only("affinity"),
    scheduler_only("automountServiceAccountToken"),
    scheduler_only("evictionResponders"),
    scheduler_only("nodeSelector"),
    scheduler_only("preemptionPolicy"),
    scheduler_only("priorityClassName"),
    scheduler_only("schedulerName"),
    scheduler_only("schedulingGates"),
    scheduler_only("schedulingGroup"),
    scheduler_only("tolerations"),
    scheduler_only("topologySpreadConstraints"),
    // Defaults.
    default_only("hostUsers", Flag(true)),
    default_only("os.name", Text(&["linux"])),
    // Not in this release.
    refuse("overhead.*", RESOURCE),
    refuse("resourceClaims", CLAIMS),
    refuse("resources.claims", CLAIMS),
    refuse("resources.limits.*", "a pod as a whole is granted cpu and memory"),
    refuse(
        "resources.requests.*",
        "a pod as a whole is granted cpu and memory",
    ),
    refuse("runtimeClassName", "devices have no runtime classes"),
];
