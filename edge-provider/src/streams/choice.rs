//! Which device answers for a pod that many run.

use edge_protocol::DeviceId;
use edge_provider_translate::annotations::DEVICE;
use iot_hub_client::api::Assignment;
use virtual_kubelet_api::StreamsError;

/// The device that the pod's annotation names.
///
/// # Errors
/// It does not run the pod.
pub(super) fn named(assignments: &[Assignment], wish: &str) -> Result<DeviceId, StreamsError> {
    let mut named = assignments.iter().filter(|one| one.device.as_str() == wish);
    named
        .next()
        .map(|one| one.device.clone())
        .ok_or_else(|| StreamsError::NotFound {
            message: format!("annotation {DEVICE} names device {wish:?}, which does not run the pod"),
        })
}

/// The device that the hub has chosen, as the pod's condition shows it.
///
/// # Errors
/// No device runs the pod.
pub(super) fn chosen(answers: Option<DeviceId>) -> Result<DeviceId, StreamsError> {
    answers.ok_or_else(|| StreamsError::NotRunning {
        message: "no device runs the pod".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_named_must_run_the_pod() {
        let assignment = json!({
            "uid": "p", "device": "a", "online": true, "rung": "healthy", "since_ms": 0, "counted": true,
        });
        let assignments = [serde_json::from_value::<Assignment>(assignment).unwrap()];
        assert_eq!(named(&assignments, "a").unwrap().as_str(), "a");
        let missing = named(&assignments, "b").unwrap_err().to_string();
        assert_eq!(
            missing,
            "annotation outrigger.io/device names device \"b\", which does not run the pod"
        );
    }
}
