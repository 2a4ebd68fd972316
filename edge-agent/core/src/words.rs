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
        duration(delay_ms / 1_000 * 1_000),
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

/// The event of pull secrets that the cluster does not have (`SyncPod` of pkg/kubelet/kubelet.go).
pub(crate) fn missing_pull_secrets(names: &[&str]) -> String {
    format!(
        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
        names.join(", ")
    )
}

/// The event of an image that need not be pulled (`EnsureImageExists` of `image_manager.go`).
pub(crate) fn already_present(image: &str) -> String {
    format!("Container image {image:?} already present on machine and can be accessed by the pod")
}

/// The event of one that was pulled, from the same file.
pub(crate) fn pulled(image: &str, (alone_ms, waiting_ms): (u64, u64), size_bytes: u64) -> String {
    format!(
        "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {size_bytes} bytes.",
        duration(alone_ms),
        duration(waiting_ms)
    )
}

/// Milliseconds as Go's `time.Duration` prints them: `853ms`, `1.5s`, `1m20s`, `1h0m0s`.
pub(crate) fn duration(ms: u64) -> String {
    if 0 < ms && ms < 1_000 {
        return format!("{ms}ms");
    }
    let fraction = format!(".{:03}", ms % 1_000);
    let seconds = format!("{}{}s", ms / 1_000 % 60, fraction.trim_end_matches(['0', '.']));
    match (ms / 3_600_000, ms / 60_000 % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        let words = [0, 10_000, 40_000, 80_000, 160_000, 300_000].map(duration);
        assert_eq!(words, ["0s", "10s", "40s", "1m20s", "2m40s", "5m0s"]);
        let words = [1, 853, 1_000, 1_500, 61_020, 3_600_000, 3_661_001].map(duration);
        assert_eq!(
            words,
            ["1ms", "853ms", "1s", "1.5s", "1m1.02s", "1h0m0s", "1h1m1.001s"]
        );
    }

    #[test]
    fn a_pull_is_told_as_the_kubelet_does() {
        assert_eq!(
            pulled("r.example/a:1", (1_204, 2_000), 31),
            "Successfully pulled image \"r.example/a:1\" in 1.204s (2s including waiting). Image size: 31 bytes."
        );
    }
}
