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

/// What tells one event, about what, and how it reads.
type Told = (Recorder, ObjectReference, EventText);

/// The queue that all nodes of a process share.
#[derive(Debug, Clone)]
pub struct EventsQueue {
    cluster: Cluster,
    queue: mpsc::Sender<Told>,
}

impl EventsQueue {
    /// The handle of one node, which is named as the reporter.
    pub fn of_node(&self, node: &str) -> EventsHandle {
        let reporter = Reporter {
            controller: "outrigger-kubelet".to_owned(),
            instance: Some(node.to_owned()),
        };
        EventsHandle {
            recorder: Recorder::new(self.cluster.client(), reporter),
            queue: self.queue.clone(),
        }
    }
}

/// A cheap handle: events are queued, never waited for.
#[derive(Clone)]
pub struct EventsHandle {
    recorder: Recorder,
    queue: mpsc::Sender<Told>,
}

impl EventsHandle {
    /// Queues an event; dropped when the queue is full.
    pub fn tell(&self, about: ObjectReference, event: EventText) {
        let told = (self.recorder.clone(), about, event);
        if self.queue.try_send(told).is_err() {
            tracing::warn!("an event was dropped");
        }
    }
}

/// Sends the queued events one after another.
pub struct EventsTask {
    queue: mpsc::Receiver<Told>,
}

impl EventsTask {
    pub fn new(cluster: Cluster) -> (EventsQueue, Self) {
        let (sender, queue) = mpsc::channel(WAITING);
        let handle = EventsQueue {
            cluster,
            queue: sender,
        };
        (handle, Self { queue })
    }

    /// Runs until every handle is dropped.
    pub async fn run(mut self) {
        while let Some((recorder, about, text)) = self.queue.recv().await {
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
            match timeout(TIMEOUT, recorder.publish(&event, &about)).await {
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
