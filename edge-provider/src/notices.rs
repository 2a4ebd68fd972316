//! What people read: events of devices with their device, notes of a translation, and one event for all pods that tolerate everything.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use edge_protocol::text::sanitise;
use edge_protocol::v1::EventLevel;
use edge_protocol::{DeviceId, Digest, PodUid};
use edge_provider_translate::{NodeKind, Note, events};
use iot_hub_client::api::DeviceEventRecord;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use virtual_kubelet::EventText;

use crate::wanted::TAINT_NOT_ACKNOWLEDGED;

/// A `DaemonSet` brings its pods in a burst; one event tells them all.
const GATHER: Duration = Duration::from_secs(5);
const NAMED: usize = 10;
/// Events that wait for the first list of pods.
const EARLY: usize = 1_024;

#[derive(Debug, Default)]
pub struct Notices {
    /// The last event told of each device: the hub may tell one twice.
    told: BTreeMap<DeviceId, u64>,
    early: Early,
    unacknowledged: BTreeMap<String, String>,
    due: Option<Instant>,
}

/// Events that come before the pods are known, the newest of them. `None` once they are.
#[derive(Debug)]
struct Early(Option<VecDeque<Box<DeviceEventRecord>>>);

impl Default for Early {
    fn default() -> Self {
        Self(Some(VecDeque::new()))
    }
}

impl Notices {
    /// Keeps an event that comes before the pods are known: [`release`](Self::release) gives it back.
    pub fn hold(&mut self, record: Box<DeviceEventRecord>) -> Option<Box<DeviceEventRecord>> {
        let Some(early) = &mut self.early.0 else {
            return Some(record);
        };
        if early.len() == EARLY {
            tracing::warn!(device = %record.device, "an event was dropped: the pods are not listed yet");
            early.pop_front();
        }
        early.push_back(record);
        None
    }

    /// The pods are known: what waited for them, once.
    pub fn release(&mut self) -> VecDeque<Box<DeviceEventRecord>> {
        self.early.0.take().unwrap_or_default()
    }

    /// The event of a device as the pod's. `None` for one that was told before. On a node that stands for its device it is word for word
    /// what a kubelet tells; a pod of the fleet is on many devices, and each event names its own.
    pub fn happened(
        &mut self,
        record: &DeviceEventRecord,
        pod: Option<&Pod>,
        kind: NodeKind,
    ) -> Option<(PodUid, EventText)> {
        let event = &record.event;
        let told = self.told.entry(record.device.clone()).or_default();
        if event.seq <= *told {
            return None;
        }
        *told = event.seq;
        let container = event.container.as_deref();
        let message = sanitise(&events::message(event, pod));
        let message = match (kind, container.map(sanitise)) {
            (NodeKind::Device, _) => message,
            (NodeKind::Fleet, Some(container)) => {
                format!("device {}, container {container}: {message}", record.device)
            }
            (NodeKind::Fleet, None) => format!("device {}: {message}", record.device),
        };
        let text = EventText {
            warning: event.level == EventLevel::Warning,
            reason: event.reason.as_str().to_owned(),
            message,
            teller: Some(record.device.to_string()),
            field_path: events::field_path(container, pod),
            at: happened(record),
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
            message: format!(
                "pods that tolerate everything without naming virtual-kubelet.io/provider stay Pending ({}): {}{more}",
                gathered.len(),
                names.join(", "),
            ),
            teller: None,
            field_path: None,
            at: None,
        })
    }
}

/// When it happened, by the device's own clock where that can be trusted (law 11). A device tells milliseconds; the digits below them are
/// drawn from its name and the event's number, so that each event has its own moment, and the same one whichever process tells it.
fn happened(record: &DeviceEventRecord) -> Option<Timestamp> {
    const BELOW: u32 = 1_000_000;
    let at = Some(record.event.at).filter(|at| at.wall_trusted)?;
    let drawn = Digest::of_parts([record.device.as_str().as_bytes(), &record.event.seq.to_be_bytes()]);
    let [a, b, c, d, ..] = *drawn.as_bytes();
    let nanos = i64::from(u32::from_be_bytes([a, b, c, d]) % BELOW);
    let at = Timestamp::from_millisecond(at.wall_ms).ok()?;
    at.checked_add(SignedDuration::from_nanos(nanos)).ok()
}

/// What devices told while nobody here listened is more than the hub keeps.
pub fn events_forgotten() -> EventText {
    EventText {
        warning: true,
        reason: "EventsForgotten".to_owned(),
        message: "the hub no longer has all that devices told since it was last heard here: events of pods may be missing; outrigger event \
                  shows what there is of each device"
            .to_owned(),
        teller: None,
        field_path: None,
        at: None,
    }
}

/// Once for a node, since it is no pod's fault.
pub fn api_server_unknown() -> EventText {
    EventText {
        warning: false,
        reason: "ApiServerNotReachable".to_owned(),
        message: "pods here get no variables KUBERNETES_SERVICE_*: kubernetes.api_server.external does not say where devices find the API \
               server"
            .to_owned(),
        teller: None,
        field_path: None,
        at: None,
    }
}

pub fn note_event(note: &Note) -> EventText {
    EventText {
        warning: note.is_warning(),
        reason: note.reason().to_owned(),
        message: note.message().into_owned(),
        teller: None,
        field_path: None,
        at: None,
    }
}

#[cfg(test)]
mod tests {
    use edge_protocol::BootId;
    use edge_protocol::DeviceTime;
    use edge_protocol::v1::{DeviceEvent, Reason};
    use serde::Deserialize as _;
    use serde_json::json;

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

    #[track_caller]
    fn told(notices: &mut Notices, record: &DeviceEventRecord, kind: NodeKind) -> Option<EventText> {
        let pod = json!({"spec": {"containers": [], "initContainers": [{"name": "main"}]}, "metadata": {}});
        let pod = Pod::deserialize(pod).unwrap();
        let (uid, text) = notices.happened(record, Some(&pod), kind)?;
        assert_eq!(uid.as_str(), "u1");
        assert_eq!(text.reason, "ImagePullBackOff");
        assert_eq!(text.teller.as_deref(), Some(record.device.as_str()));
        assert_eq!(text.field_path.as_deref(), Some("spec.initContainers{main}"));
        Some(text)
    }

    #[test]
    fn an_event_of_a_fleet_names_its_device_once_and_without_control_characters() {
        let mut notices = Notices::default();
        let mut tell = |record| told(&mut notices, &record, NodeKind::Fleet);
        let text = tell(record(4, "no\nsuch image")).unwrap();
        assert_eq!(text.message, "device press-7, container main: no\\u{a}such image");
        assert!(tell(record(4, "again")).is_none());
        assert!(tell(record(3, "older")).is_none());
        assert!(tell(record(5, "newer")).is_some());
    }

    #[test]
    fn an_event_of_a_device_node_says_what_a_kubelet_says() {
        let text = told(
            &mut Notices::default(),
            &record(4, "no\nsuch image"),
            NodeKind::Device,
        );
        assert_eq!(text.unwrap().message, "no\\u{a}such image");
    }

    #[test]
    fn it_happened_when_the_device_says_if_its_clock_can_be_trusted() {
        let at = |record: &DeviceEventRecord| {
            told(&mut Notices::default(), record, NodeKind::Device)
                .unwrap()
                .at
        };
        let mut first = record(4, "was dark");
        first.event.at.wall_ms = 1_795_316_645_500;
        assert_eq!(at(&first), None);
        first.event.at.wall_trusted = true;
        let millis = at(&first).unwrap().as_millisecond();
        assert_eq!(millis, 1_795_316_645_500);
        assert_eq!(at(&first), at(&first), "whoever tells it");
        let mut second = first.clone();
        second.event.seq = 5;
        assert_ne!(at(&first), at(&second), "two events at one moment");
        let mut other = first.clone();
        other.device = "press-8".parse().unwrap();
        assert_ne!(at(&first), at(&other), "of two devices at one moment");
        first.event.at.wall_ms = i64::MAX;
        assert_eq!(at(&first), None);
    }

    #[test]
    fn what_comes_before_the_pods_are_known_waits_for_them() {
        let mut notices = Notices::default();
        for seq in 0..1_030 {
            assert!(notices.hold(Box::new(record(seq, "early"))).is_none());
        }
        let waited: Vec<u64> = notices.release().iter().map(|record| record.event.seq).collect();
        assert_eq!(waited, (6..1_030).collect::<Vec<_>>());
        assert!(notices.hold(Box::new(record(1_030, "later"))).is_some());
        assert!(notices.release().is_empty());
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
            text.message.contains("(12)") && text.message.ends_with('…'),
            "{}",
            text.message
        );
        assert!(notices.due().is_none() && notices.gathered().is_none());
    }
}
