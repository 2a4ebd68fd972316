//! The lines of probes and hooks, and of what either does.

use super::Expected::Text;
use super::{Line, Rule, below, containers, default_only, honoured, pairs, refuse};

pub(super) fn rules() -> Vec<Rule> {
    let probes = pairs(
        &containers(),
        &["livenessProbe.", "readinessProbe.", "startupProbe."],
    );
    let hooks = pairs(&containers(), &["lifecycle.postStart.", "lifecycle.preStop."]);
    let either = [probes.clone(), hooks.clone()].concat();
    [below(&either, ACTION), below(&probes, PROBE), below(&hooks, HOOK)].concat()
}

const ACTION: &[Line] = &[
    honoured("exec.command"),
    honoured("httpGet.host"),
    honoured("httpGet.httpHeaders[].name"),
    honoured("httpGet.httpHeaders[].value"),
    honoured("httpGet.path"),
    honoured("httpGet.port"),
    honoured("httpGet.scheme"),
    default_only("httpGet.protocol", Text(&["HTTP1"])),
];

const PROBE: &[Line] = &[
    honoured("failureThreshold"),
    honoured("grpc.port"),
    honoured("grpc.service"),
    honoured("initialDelaySeconds"),
    honoured("periodSeconds"),
    honoured("successThreshold"),
    honoured("tcpSocket.host"),
    honoured("tcpSocket.port"),
    honoured("terminationGracePeriodSeconds"),
    honoured("timeoutSeconds"),
    default_only("grpc.mode", Text(&["Plaintext"])),
];

const HOOK: &[Line] = &[
    honoured("sleep.seconds"),
    refuse(
        "tcpSocket",
        "a hook cannot be a connection; no kubelet makes one either",
    ),
];
