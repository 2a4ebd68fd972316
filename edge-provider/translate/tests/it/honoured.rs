//! For each path that is honoured anywhere, two values that must give different manifests, and what else such a pod needs.

use serde_json::{Value, json};

use crate::pods;
use crate::schema::plant;

/// A pod that passes and uses as little as possible.
pub fn base() -> Value {
    pods::read("guaranteed")
}

/// The base with all that a value at a path needs around it.
pub fn around(path: &str) -> Value {
    let mut pod = base();
    let spec = &mut pod["spec"];
    if path.starts_with("initContainers[]") {
        spec["initContainers"] = json!([{ "name": "init", "image": "r.example/init:1" }]);
    }
    if path.starts_with("ephemeralContainers[]") {
        spec["ephemeralContainers"] = json!([{ "name": "debug", "image": "r.example/debug:1" }]);
    }
    for (marker, beside, value) in companions() {
        if let Some(at) = path.find(marker) {
            plant(spec, &format!("{}{beside}", &path[..at]), value);
        }
    }
    if path == "serviceAccount" {
        spec["serviceAccountName"] = json!(null);
    }
    if path.contains("volumeMounts[]") {
        spec["volumes"] = json!([{ "name": "7" }, { "name": "8" }]);
    }
    pod
}

/// Where a path contains the first, the second stands in its place with the third.
fn companions() -> Vec<(&'static str, &'static str, Value)> {
    let mut all = vec![
        ("envFrom[].prefix", "envFrom[].configMapRef.name", json!("m")),
        ("httpGet.", "httpGet.port", json!(80)),
        ("grpc.", "grpc.port", json!(80)),
        ("tcpSocket.host", "tcpSocket.port", json!(80)),
        ("ports[].", "ports[].containerPort", json!(80)),
        ("httpHeaders[].value", "httpHeaders[].name", json!("h")),
        (
            "seccompProfile.localhostProfile",
            "seccompProfile.type",
            json!("Localhost"),
        ),
        (
            "appArmorProfile.localhostProfile",
            "appArmorProfile.type",
            json!("Localhost"),
        ),
        (
            "restartPolicyRules[].",
            "restartPolicyRules[].action",
            json!("Restart"),
        ),
        (
            "restartPolicyRules[].",
            "restartPolicyRules[].exitCodes.operator",
            json!("In"),
        ),
        ("volumeMounts[].", "volumeMounts[].name", json!("7")),
        ("configMap.items[].", "configMap.items[].path", json!("p")),
        ("secret.items[].", "secret.items[].path", json!("p")),
        ("downwardAPI.items[].", "downwardAPI.items[].path", json!("p")),
        ("serviceAccountToken.", "serviceAccountToken.path", json!("p")),
        (
            "resourceFieldRef.",
            "resourceFieldRef.resource",
            json!("limits.cpu"),
        ),
        ("fieldRef.", "fieldRef.fieldPath", json!("metadata.name")),
        ("image.pullPolicy", "image.reference", json!("r.example/i:1")),
        (
            "downwardAPI.items[].resourceFieldRef.",
            "downwardAPI.items[].resourceFieldRef.containerName",
            json!("c"),
        ),
        ("setHostnameAsFQDN", "subdomain", json!("s")),
        ("configMap.optional", "configMap.name", json!("m")),
        (
            "persistentVolumeClaim.readOnly",
            "persistentVolumeClaim.claimName",
            json!("c"),
        ),
    ];
    for field in [
        "downwardAPI.items[].mode",
        "downwardAPI.items[].path",
        "downwardAPI.items[].user",
    ] {
        let beside = "downwardAPI.items[].fieldRef.fieldPath";
        all.push((field, beside, json!("metadata.name")));
    }
    for timing in [
        "Probe.failureThreshold",
        "Probe.initialDelaySeconds",
        "Probe.periodSeconds",
        "Probe.successThreshold",
        "Probe.terminationGracePeriodSeconds",
        "Probe.timeoutSeconds",
    ] {
        all.push((timing, "Probe.exec.command", json!(["true"])));
    }
    all
}

/// By the end of a path; the longest end that fits decides.
pub fn values(path: &str) -> Option<(&'static str, [Value; 2])> {
    let fits = |end: &str| path == end || path.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
    let mut fitting: Vec<_> = all_values().into_iter().filter(|(end, _)| fits(end)).collect();
    fitting.sort_by_key(|(end, _)| end.len());
    fitting.pop()
}

#[expect(clippy::too_many_lines, reason = "a table, one line for one end")]
pub fn all_values() -> Vec<(&'static str, [Value; 2])> {
    let texts = |a: &str, b: &str| [json!(a), json!(b)];
    let flags = || [json!(true), json!(false)];
    let numbers = || [json!(5), json!(6)];
    let lists = || [json!(["a"]), json!(["b"])];
    let profiles = || texts("RuntimeDefault", "Unconfined");
    let quantities = || texts("1Mi", "2Mi");
    vec![
        ("activeDeadlineSeconds", numbers()),
        ("add", lists()),
        ("allowPrivilegeEscalation", flags()),
        ("appArmorProfile.type", profiles()),
        ("args", lists()),
        ("command", lists()),
        ("configMapKeyRef.key", texts("a", "b")),
        ("configMapKeyRef.name", texts("a", "b")),
        ("configMapRef.name", texts("a", "b")),
        ("configMap.name", texts("a", "b")),
        ("containerName", texts("a", "b")),
        ("containerPort", numbers()),
        ("defaultMode", [json!(0o400), json!(0o440)]),
        ("divisor", texts("1", "2")),
        (
            "dnsConfig.nameservers",
            [json!(["192.0.2.1"]), json!(["192.0.2.2"])],
        ),
        ("dnsConfig.options[].name", texts("a", "b")),
        ("dnsConfig.options[].value", texts("a", "b")),
        ("dnsConfig.searches", lists()),
        ("dnsPolicy", texts("None", "Default")),
        ("drop", lists()),
        ("emptyDir.medium", texts("", "Memory")),
        ("emptyDir.sizeLimit", quantities()),
        ("enableServiceLinks", flags()),
        ("env[].name", texts("A", "B")),
        ("env[].value", texts("1", "2")),
        ("envFrom[].prefix", texts("A_", "B_")),
        ("exitCodes.operator", texts("In", "NotIn")),
        ("exitCodes.values", [json!([1]), json!([2])]),
        ("expirationSeconds", [json!(600), json!(700)]),
        ("failureThreshold", numbers()),
        ("fieldPath", texts("metadata.name", "metadata.uid")),
        ("fsGroup", numbers()),
        ("fsGroupChangePolicy", texts("Always", "OnRootMismatch")),
        ("grpc.port", numbers()),
        ("grpc.service", texts("a", "b")),
        ("host", texts("a", "b")),
        ("hostAliases[].hostnames", lists()),
        ("hostAliases[].ip", texts("192.0.2.1", "192.0.2.2")),
        ("hostIP", texts("192.0.2.1", "192.0.2.2")),
        ("hostIPC", flags()),
        ("hostNetwork", flags()),
        ("hostPID", flags()),
        ("hostPath.path", texts("/a", "/b")),
        ("hostPath.type", texts("File", "Socket")),
        ("hostPort", numbers()),
        ("hostname", texts("a", "b")),
        ("hostnameOverride", texts("a", "b")),
        ("httpHeaders[].name", texts("a", "b")),
        ("httpHeaders[].value", texts("a", "b")),
        ("httpGet.path", texts("/a", "/b")),
        ("httpGet.port", numbers()),
        ("image", texts("r.example/a:1", "r.example/a:2")),
        ("imagePullPolicy", texts("Always", "Never")),
        ("imagePullSecrets[].name", texts("a", "b")),
        ("initialDelaySeconds", numbers()),
        ("items[].key", texts("a", "b")),
        ("items[].mode", [json!(0o400), json!(0o440)]),
        ("items[].path", texts("a", "b")),
        ("limits.cpu", texts("1", "2")),
        ("limits.ephemeral-storage", quantities()),
        ("limits.memory", quantities()),
        ("localhostProfile", texts("a", "b")),
        ("mountPath", texts("/a", "/b")),
        ("mountPropagation", texts("HostToContainer", "Bidirectional")),
        ("name", texts("a", "b")),
        ("nodeName", texts("a", "b")),
        ("optional", flags()),
        ("overhead.cpu", texts("1m", "2m")),
        ("overhead.ephemeral-storage", quantities()),
        ("overhead.memory", quantities()),
        ("periodSeconds", numbers()),
        ("persistentVolumeClaim.claimName", texts("a", "b")),
        ("ports[].name", texts("a", "b")),
        ("ports[].protocol", texts("UDP", "SCTP")),
        ("priority", numbers()),
        ("privileged", flags()),
        ("procMount", texts("Default", "Unmasked")),
        ("pullPolicy", texts("Always", "Never")),
        ("readOnly", flags()),
        ("readOnlyRootFilesystem", flags()),
        ("recursiveReadOnly", texts("IfPossible", "Enabled")),
        ("reference", texts("r.example/a:1", "r.example/a:2")),
        ("requests.cpu", texts("1m", "2m")),
        ("requests.ephemeral-storage", quantities()),
        ("requests.memory", quantities()),
        (
            "resizePolicy",
            ["cpu", "memory"]
                .map(|name| json!([{ "resourceName": name, "restartPolicy": "RestartContainer" }])),
        ),
        ("resourceFieldRef.resource", texts("limits.cpu", "limits.memory")),
        ("restartPolicy", texts("OnFailure", "Never")),
        (
            "restartPolicyRules[].action",
            texts("Restart", "RestartAllContainers"),
        ),
        ("runAsGroup", numbers()),
        ("runAsNonRoot", flags()),
        ("runAsUser", numbers()),
        ("scheme", texts("HTTP", "HTTPS")),
        ("seccompProfile.type", profiles()),
        ("secret.name", texts("a", "b")),
        ("secret.secretName", texts("a", "b")),
        ("secretKeyRef.key", texts("a", "b")),
        ("secretKeyRef.name", texts("a", "b")),
        ("secretRef.name", texts("a", "b")),
        ("serviceAccount", texts("a", "b")),
        ("serviceAccountName", texts("a", "b")),
        ("serviceAccountToken.audience", texts("a", "b")),
        ("serviceAccountToken.path", texts("a", "b")),
        ("setHostnameAsFQDN", flags()),
        ("shareProcessNamespace", flags()),
        ("sleep.seconds", numbers()),
        ("stdin", flags()),
        ("stdinOnce", flags()),
        ("stopSignal", texts("SIGUSR1", "SIGUSR2")),
        ("subPath", texts("a", "b")),
        ("subPathExpr", texts("a", "b")),
        ("subdomain", texts("a", "b")),
        ("successThreshold", numbers()),
        ("supplementalGroups", [json!([5]), json!([6])]),
        ("supplementalGroupsPolicy", texts("Merge", "Strict")),
        ("sysctls[].name", texts("a", "b")),
        ("sysctls[].value", texts("a", "b")),
        ("tcpSocket.port", numbers()),
        ("targetContainerName", texts("a", "b")),
        ("terminationGracePeriodSeconds", [json!(1), json!(0)]),
        ("terminationMessagePath", texts("/a", "/b")),
        ("terminationMessagePolicy", texts("File", "FallbackToLogsOnError")),
        ("timeoutSeconds", numbers()),
        ("tty", flags()),
        ("volumeMounts[].name", texts("7", "8")),
        ("volumes[].name", texts("a", "b")),
        ("workingDir", texts("/a", "/b")),
    ]
}
