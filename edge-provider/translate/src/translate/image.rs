//! When an image is pulled if its author does not say.

use edge_protocol::v1::PullPolicy;

/// The policy of `SetDefaults_Container` in `pkg/apis/core/v1/defaults.go`: `Always` for the tag `latest`, which a reference
/// without tag and digest has too; else `IfNotPresent`.
///
/// The API server has filled the field in by the time a pod is bound; a pod read from a file may lack it.
pub(super) fn default_policy(image: &str) -> PullPolicy {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash belongs to the registry's port.
    let last = name.rsplit('/').next().unwrap_or(name);
    match (last.split_once(':'), digest) {
        (Some((_, "latest")), _) | (None, None) => PullPolicy::Always,
        _ => PullPolicy::IfNotPresent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_is_always_pulled() {
        for image in [
            "busybox",
            "busybox:latest",
            "localhost:5000/busybox",
            "r.example/a/b:latest@sha256:00",
        ] {
            assert_eq!(default_policy(image), PullPolicy::Always, "{image}");
        }
        for image in [
            "busybox:1.37",
            "localhost:5000/busybox:1",
            "busybox@sha256:00",
            "a:1@sha256:00",
        ] {
            assert_eq!(default_policy(image), PullPolicy::IfNotPresent, "{image}");
        }
    }
}
