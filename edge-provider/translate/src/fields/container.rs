//! The lines of `containers[]` and `initContainers[]`.

use super::{Line, Rule, below, containers, device_only, honoured, refuse};

const RESOURCE: &str = "devices grant cpu, memory and ephemeral-storage";
const CLAIMS: &str = "devices cannot be claimed (dynamic resource allocation)";

pub(super) fn rules() -> Vec<Rule> {
    below(&containers(), LINES)
}

/// Lines whose treatment needs a word:
///
/// - `terminationMessagePath` and `terminationMessagePolicy`: the API always writes `/dev/termination-log` and `File`. On a fleet node
///   that pair is as good as absent: the message of an ended container is empty there.
/// - `resizePolicy` speaks about changing resources in place, which a fleet refuses.
pub(super) const LINES: &[Line] = &[
    honoured("args"),
    honoured("command"),
    honoured("env[].name"),
    honoured("env[].value"),
    honoured("env[].valueFrom.configMapKeyRef.key"),
    honoured("env[].valueFrom.configMapKeyRef.name"),
    honoured("env[].valueFrom.configMapKeyRef.optional"),
    honoured("env[].valueFrom.fieldRef.apiVersion"),
    honoured("env[].valueFrom.fieldRef.fieldPath"),
    honoured("env[].valueFrom.resourceFieldRef.containerName"),
    honoured("env[].valueFrom.resourceFieldRef.divisor"),
    honoured("env[].valueFrom.resourceFieldRef.resource"),
    honoured("env[].valueFrom.secretKeyRef.key"),
    honoured("env[].valueFrom.secretKeyRef.name"),
    honoured("env[].valueFrom.secretKeyRef.optional"),
    honoured("envFrom[].configMapRef.name"),
    honoured("envFrom[].configMapRef.optional"),
    honoured("envFrom[].prefix"),
    honoured("envFrom[].secretRef.name"),
    honoured("envFrom[].secretRef.optional"),
    honoured("image"),
    honoured("imagePullPolicy"),
    honoured("lifecycle.stopSignal"),
    honoured("name"),
    honoured("ports[].containerPort"),
    honoured("ports[].hostIP"),
    honoured("ports[].hostPort"),
    honoured("ports[].name"),
    honoured("ports[].protocol"),
    device_only(
        "resizePolicy",
        "resources of a fleet pod cannot be changed in place",
    ),
    honoured("resources.limits.cpu"),
    honoured("resources.limits.ephemeral-storage"),
    honoured("resources.limits.memory"),
    honoured("resources.requests.cpu"),
    honoured("resources.requests.ephemeral-storage"),
    honoured("resources.requests.memory"),
    honoured("restartPolicy"),
    honoured("restartPolicyRules[].action"),
    honoured("restartPolicyRules[].exitCodes.operator"),
    honoured("restartPolicyRules[].exitCodes.values"),
    honoured("stdin"),
    honoured("stdinOnce"),
    honoured("terminationMessagePath"),
    honoured("terminationMessagePolicy"),
    honoured("tty"),
    honoured("volumeMounts[].mountPath"),
    honoured("volumeMounts[].mountPropagation"),
    honoured("volumeMounts[].name"),
    honoured("volumeMounts[].readOnly"),
    honoured("volumeMounts[].recursiveReadOnly"),
    honoured("volumeMounts[].subPath"),
    honoured("volumeMounts[].subPathExpr"),
    honoured("workingDir"),
    // Not in this release.
    refuse(
        "env[].valueFrom.fileKeyRef",
        "variables from files of a volume are not supported",
    ),
    refuse("resources.claims", CLAIMS),
    refuse("resources.limits.*", RESOURCE),
    refuse("resources.requests.*", RESOURCE),
    refuse("volumeDevices", "block devices are not supported"),
    refuse(
        "volumeMounts[].bindMountOptions",
        "options of a mount are not supported",
    ),
];
