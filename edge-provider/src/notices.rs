//! What people read: events of devices with their device, notes of a translation, and one event for all pods that tolerate everything.

use std::collections::BTreeMap;
use std::time::Duration;

use edge_protocol::text::sanitise;
use edge_protocol::v1::EventLevel;
use edge_protocol::{DeviceId, DeviceTime, PodUid};
use edge_provider_translate::{Note, events};
use iot_hub_client::api::DeviceEventRecord;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use virtual_kubelet::EventText;

use crate::wanted::TAINT_NOT_ACKNOWLEDGED;

/// A `DaemonSet` brings its pods in a burst; one event tells them all.
const GATHER: Duration = Duration::from_secs(5);
const NAMED: usize = 10;

#[derive(Debug, Default)]
pub struct Notices {
    /// The last event told of each device: the hub may tell one twice.
    told: BTreeMap<DeviceId, u64>,
    unacknowledged: BTreeMap<String, String>,
    due: Option<Instant>,
}

impl Notices {
    /// The event of a device as the pod's. `None` for one that was told before.
    pub fn happened(&mut self, record: &DeviceEventRecord, pod: Option<&Pod>) -> Option<(PodUid, EventText)> {
        let event = &record.event;
        let told = self.told.entry(record.device.clone()).or_default();
        if event.seq <= *told {
            return None;
        }
        *told = event.seq;
        let container = event.container.as_deref().map(sanitise);
        let subject = match &container {
            Some(container) => format!("device {}, container {container}", record.device),
            None => format!("device {}", record.device),
        };
        let text = EventText {
            warning: event.level == EventLevel::Warning,
            reason: event.reason.as_str().to_owned(),
            // Kept apart per device and container: events of one reason and action become one series.
            action: format!("{}/{}", record.device, container.unwrap_or_default()),
            note: format!("{subject}: {}", sanitise(&events::message(event, pod))),
            at: happened(event.at),
        };
        Some((event.uid.clone(), text))
    }

    /// A pod was refused because it tolerates everything.
    pub fn unacknowledged(&mut self, uid: &PodUid, name: String) {
        self.unacknowledged.insert(uid.to_string(), name);
        self.due.get_or_insert_with(|| Instant::now() + GATHER);
    }

    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The one event for all that were gathered.
    pub fn gathered(&mut self) -> Option<EventText> {
        self.due = None;
        let gathered = std::mem::take(&mut self.unacknowledged);
        if gathered.is_empty() {
            return None;
        }
        let names: Vec<&str> = gathered.values().take(NAMED).map(String::as_str).collect();
        let more = if gathered.len() > NAMED { ", …" } else { "" };
        Some(EventText {
            warning: true,
            reason: TAINT_NOT_ACKNOWLEDGED.to_owned(),
            action: "Refuse".to_owned(),
            note: format!(
                "pods that tolerate everything without naming virtual-kubelet.io/provider stay Pending ({}): {}{more}",
                gathered.len(),
                names.join(", "),
            ),
            at: None,
        })
    }
}

/// When it happened, by the device's own clock where that can be trusted (law 11).
fn happened(at: DeviceTime) -> Option<Timestamp> {
    at.wall_trusted
        .then(|| Timestamp::from_millisecond(at.wall_ms).ok())
        .flatten()
}

/// Once for a node, since it is no pod's fault.
pub fn api_server_unknown() -> EventText {
    EventText {
        warning: false,
        reason: "ApiServerNotReachable".to_owned(),
        action: "Translate".to_owned(),
        note: "pods here get no variables KUBERNETES_SERVICE_*: kubernetes.api_server.external does not say where devices find the API \
               server"
            .to_owned(),
        at: None,
    }
}

pub fn note_event(note: Note) -> EventText {
    EventText {
        warning: false,
        reason: note.reason().to_owned(),
        action: "Translate".to_owned(),
        note: note.message().to_owned(),
        at: None,
    }
}

#[cfg(test)]
mod tests {
    use edge_protocol::BootId;
    use edge_protocol::v1::{DeviceEvent, Reason};

    use super::*;

    fn record(seq: u64, message: &str) -> DeviceEventRecord {
        DeviceEventRecord {
            device: "press-7".parse().unwrap(),
            event: DeviceEvent {
                seq,
                at: DeviceTime {
                    boot_id: BootId(uuid::Uuid::nil()),
                    mono_ms: 0,
                    wall_ms: 0,
                    wall_trusted: false,
                },
                uid: "u1".parse().unwrap(),
                container: Some("main".into()),
                level: EventLevel::Warning,
                reason: Reason::ImagePullBackOff,
                cause: None,
                message: message.into(),
            },
        }
    }

    #[test]
    fn an_event_names_its_device_once_and_without_control_characters() {
        let mut notices = Notices::default();
        let (uid, text) = notices.happened(&record(4, "no\nsuch image"), None).unwrap();
        assert_eq!(uid.as_str(), "u1");
        assert_eq!(text.reason, "ImagePullBackOff");
        assert_eq!(text.note, "device press-7, container main: no\\u{a}such image");
        assert!(notices.happened(&record(4, "again"), None).is_none());
        assert!(notices.happened(&record(3, "older"), None).is_none());
        assert!(notices.happened(&record(5, "newer"), None).is_some());
    }

    #[test]
    fn it_happened_when_the_device_says_if_its_clock_can_be_trusted() {
        let mut record = record(4, "was dark");
        record.event.at.wall_ms = 1_795_316_645_500;
        let (_, text) = Notices::default().happened(&record, None).unwrap();
        assert_eq!(text.at, None);
        record.event.at.wall_trusted = true;
        let (_, text) = Notices::default().happened(&record, None).unwrap();
        assert_eq!(text.at.unwrap().to_string(), "2026-11-22T03:04:05.5Z");
        record.event.at.wall_ms = i64::MAX;
        assert_eq!(Notices::default().happened(&record, None).unwrap().1.at, None);
    }

    #[tokio::test]
    async fn pods_that_tolerate_everything_are_told_together() {
        let mut notices = Notices::default();
        for n in 0..12 {
            notices.unacknowledged(
                &format!("u{n}").parse().unwrap(),
                format!("kube-system/proxy-{n}"),
            );
        }
        assert!(notices.due().is_some());
        let text = notices.gathered().unwrap();
        assert!(
            text.note.contains("(12)") && text.note.ends_with('…'),
            "{}",
            text.note
        );
        assert!(notices.due().is_none() && notices.gathered().is_none());
    }
}
