//! The kubelet's words where people and tools know them by heart.

use edge_protocol::v1::Manifest;

/// The event of a container that the runtime made (`startContainer` of `kuberuntime_container.go`), whether or not it can be started.
pub(crate) const CREATED: &str = "Container created";

/// A pod, as `format.Pod` of pkg/kubelet/util/format names it in messages.
fn pod(manifest: &Manifest) -> String {
    format!("{}_{}({})", manifest.name, manifest.namespace, manifest.uid)
}

/// The event of a crash back-off (`doBackOff` of `kuberuntime_manager.go`).
pub(crate) fn backing_off(manifest: &Manifest, container: &str) -> String {
    format!(
        "Back-off restarting failed container {container} in pod {}",
        pod(manifest)
    )
}

/// The status of a container in crash back-off, from the same place.
pub(crate) fn waiting_for_restart(manifest: &Manifest, container: &str, delay_ms: u64) -> String {
    format!(
        "back-off {} restarting failed container={container} pod={}",
        duration(delay_ms / 1_000),
        pod(manifest)
    )
}

/// The event of a pod that gets the device's own resolver in the cluster's stead (`GetPodDNS` of `dns.go`).
pub(crate) fn missing_cluster_dns(manifest: &Manifest) -> String {
    format!(
        "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.",
        pod(manifest)
    )
}

/// Seconds as Go's `time.Duration` prints them: `40s`, `1m20s`, `5m0s`.
fn duration(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        let words: Vec<String> = [0, 10, 40, 80, 160, 300].map(duration).into();
        assert_eq!(words, ["0s", "10s", "40s", "1m20s", "2m40s", "5m0s"]);
    }
}
