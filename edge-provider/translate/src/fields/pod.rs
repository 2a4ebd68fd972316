//! The lines of `PodSpec` itself.

use super::Expected::{Flag, Text};
use super::{Rule, default_only, honoured, refuse, scheduler_only};

const SECURITY: &str = "security settings beyond the defaults are not supported on a fleet";
const WINDOWS: &str = "devices run Linux";
const DNS: &str = "a device's pods use the device's own resolver";
const HOSTNAME: &str = "the host name of a pod cannot be chosen on a fleet";
const POD_RESOURCES: &str = "resources of the whole pod are not supported; give them to its containers";
const CLAIMS: &str = "device claims are allocated for one node, and a fleet pod runs on many devices";

/// Lines whose treatment needs a word:
///
/// - `automountServiceAccountToken`, `serviceAccount(Name)`: their effect is the token volume, which admission has added
///   by now and which has lines of its own. The account itself stays in the control plane.
/// - `enableServiceLinks`: the API's default is true, yet cluster addresses mean nothing on a device's network. No link
///   variables are set whatever it says.
/// - `dnsPolicy`: `ClusterFirst` is what the API writes by itself; on a device both it and `Default` mean the device's
///   resolver.
/// - `priority`: orders scheduling and eviction in the cluster. On a device `outrigger.io/priority` decides.
/// - `runtimeClassName`, `overhead`: name a handler of a node's runtime, which a kubelet passes on; no device is known to
///   have it.
pub(super) const RULES: &[Rule] = &[
    honoured("restartPolicy"),
    honoured("terminationGracePeriodSeconds"),
    // Control plane.
    scheduler_only("affinity"),
    scheduler_only("automountServiceAccountToken"),
    scheduler_only("enableServiceLinks"),
    scheduler_only("evictionResponders"),
    scheduler_only("nodeName"),
    scheduler_only("nodeSelector"),
    scheduler_only("preemptionPolicy"),
    scheduler_only("priority"),
    scheduler_only("priorityClassName"),
    scheduler_only("schedulerName"),
    scheduler_only("schedulingGates"),
    scheduler_only("schedulingGroup"),
    scheduler_only("serviceAccount"),
    scheduler_only("serviceAccountName"),
    scheduler_only("tolerations"),
    scheduler_only("topologySpreadConstraints"),
    // Defaults.
    default_only("dnsPolicy", Text(&["ClusterFirst", "Default"])),
    default_only("hostIPC", Flag(false)),
    default_only("hostNetwork", Flag(false)),
    default_only("hostPID", Flag(false)),
    default_only("hostUsers", Flag(true)),
    default_only("os.name", Text(&["linux"])),
    default_only("securityContext.runAsNonRoot", Flag(false)),
    default_only("setHostnameAsFQDN", Flag(false)),
    default_only("shareProcessNamespace", Flag(false)),
    // Not in this release.
    refuse(
        "activeDeadlineSeconds",
        "a deadline of the pod is not supported; a Job's own deadline is",
    ),
    refuse("dnsConfig.nameservers", DNS),
    refuse("dnsConfig.options", DNS),
    refuse("dnsConfig.searches", DNS),
    refuse(
        "ephemeralContainers",
        "debug containers are not supported on a fleet",
    ),
    refuse(
        "hostAliases",
        "entries for the hosts file are not supported on a fleet",
    ),
    refuse("hostname", HOSTNAME),
    refuse("hostnameOverride", HOSTNAME),
    refuse(
        "imagePullSecrets",
        "pull credentials of the pod are not supported; configure them on the devices",
    ),
    refuse(
        "initContainers",
        "init and sidecar containers are not supported on a fleet",
    ),
    refuse("overhead", "runtime classes are not supported on a fleet"),
    refuse(
        "readinessGates",
        "a fleet pod is ready by the word of its devices alone",
    ),
    refuse("resourceClaims", CLAIMS),
    refuse("resources.claims", POD_RESOURCES),
    refuse("resources.limits", POD_RESOURCES),
    refuse("resources.requests", POD_RESOURCES),
    refuse("runtimeClassName", "runtime classes are not supported on a fleet"),
    refuse("securityContext.appArmorProfile", SECURITY),
    refuse("securityContext.fsGroup", SECURITY),
    refuse("securityContext.fsGroupChangePolicy", SECURITY),
    refuse("securityContext.runAsGroup", SECURITY),
    refuse("securityContext.runAsUser", SECURITY),
    refuse("securityContext.seLinuxChangePolicy", SECURITY),
    refuse("securityContext.seLinuxOptions", SECURITY),
    refuse("securityContext.seccompProfile", SECURITY),
    refuse("securityContext.supplementalGroups", SECURITY),
    refuse("securityContext.supplementalGroupsPolicy", SECURITY),
    refuse("securityContext.sysctls", SECURITY),
    refuse("securityContext.windowsOptions", WINDOWS),
    refuse("subdomain", HOSTNAME),
];
