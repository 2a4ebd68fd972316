//! Events of events.k8s.io/v1. They are for people: when they come faster than they can be sent, the excess is dropped and counted.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};

use crate::cluster::Cluster;
use crate::provider::EventText;

const WAITING: usize = 512;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Limits of `k8s.io/kubernetes/pkg/apis/core/validation/events.go`.
const NOTE: usize = 1024;
const WORD: usize = 128;

/// A cheap handle: events are queued, never waited for.
#[derive(Debug, Clone)]
pub struct EventsHandle {
    queue: mpsc::Sender<(ObjectReference, EventText)>,
}

impl EventsHandle {
    /// Queues an event; dropped when the queue is full.
    pub fn tell(&self, about: ObjectReference, event: EventText) {
        if let Err(error) = self.queue.try_send((about, event)) {
            tracing::warn!(%error, "an event was dropped");
        }
    }
}

/// Sends the queued events one after another.
pub struct EventsTask {
    recorder: Recorder,
    queue: mpsc::Receiver<(ObjectReference, EventText)>,
}

impl EventsTask {
    /// `instance` is the node's name.
    pub fn new(cluster: &Cluster, instance: &str) -> (EventsHandle, Self) {
        let (sender, queue) = mpsc::channel(WAITING);
        let reporter = Reporter {
            controller: "outrigger-kubelet".to_owned(),
            instance: Some(instance.to_owned()),
        };
        let recorder = Recorder::new(cluster.client(), reporter);
        (EventsHandle { queue: sender }, Self { recorder, queue })
    }

    /// Runs until every handle is dropped.
    pub async fn run(mut self) {
        while let Some((about, text)) = self.queue.recv().await {
            let event = Event {
                type_: if text.warning {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                reason: cut(text.reason, WORD),
                note: Some(cut(text.note, NOTE)),
                action: cut(text.action, WORD),
                secondary: None,
            };
            match timeout(TIMEOUT, self.recorder.publish(&event, &about)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, reason = event.reason, "an event was not taken"),
                Err(_) => tracing::warn!(reason = event.reason, "an event was not sent in time"),
            }
        }
    }
}

/// Cut to `limit` bytes at a character boundary.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}
