//! Which device answers for a pod that many run.

use std::cmp::Reverse;

use edge_protocol::DeviceId;
use iot_hub_client::api::Assignment;
use virtual_kubelet_api::StreamsError;

/// Names the device that answers for a fleet pod.
pub(super) const DEVICE_ANNOTATION: &str = "outrigger.io/device";

/// The one that the pod names; else the only one, or the healthiest of those that can be reached, and of these the first by name.
///
/// # Errors
/// No device runs the pod, or not the one that it names.
pub(super) fn device(assignments: &[Assignment], wish: Option<&str>) -> Result<DeviceId, StreamsError> {
    if let Some(wish) = wish {
        let mut named = assignments.iter().filter(|one| one.device.as_str() == wish);
        return named
            .next()
            .map(|one| one.device.clone())
            .ok_or_else(|| StreamsError::NotFound {
                message: format!(
                    "annotation {DEVICE_ANNOTATION} names device {wish:?}, which does not run the pod"
                ),
            });
    }
    let best = assignments
        .iter()
        .min_by_key(|one| (Reverse((one.online, one.rung)), &one.device));
    best.map(|one| one.device.clone())
        .ok_or_else(|| StreamsError::NotRunning {
            message: "no device runs the pod".to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(assignments: &[(&str, bool, &str)], wish: Option<&str>, expected: Result<&str, &str>) {
        let assignment = |(device, online, rung): &(&str, bool, &str)| {
            let text = json!({
                "uid": "p", "device": device, "online": online, "rung": rung, "since_ms": 0, "counted": true,
            });
            serde_json::from_value::<Assignment>(text).unwrap()
        };
        let assignments: Vec<Assignment> = assignments.iter().map(assignment).collect();
        let chosen = device(&assignments, wish).map_err(|error| error.to_string());
        let chosen = chosen.as_ref().map(DeviceId::as_str).map_err(String::as_str);
        assert_eq!(chosen, expected);
    }

    #[test]
    fn the_named_one_answers_or_the_healthiest() {
        let all = [
            ("a", true, "received"),
            ("b", true, "healthy"),
            ("c", true, "healthy"),
            ("d", false, "healthy"),
        ];
        check(&all, None, Ok("b"));
        check(&all, Some("d"), Ok("d"));
        check(&all[3..], None, Ok("d"));
        check(
            &all,
            Some("e"),
            Err("annotation outrigger.io/device names device \"e\", which does not run the pod"),
        );
        check(&[], None, Err("no device runs the pod"));
    }
}
