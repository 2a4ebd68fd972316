//! Tells events. They are for people: when they come faster than they can be sent, the excess is dropped and counted.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::json;
use tokio::sync::mpsc;
use virtual_kubelet_core::events::{EventText, EventWrite, Series};

use crate::cluster::{Cluster, PatchKind};

const WAITING: usize = 512;

/// What tells an event, about what, and how it reads.
#[derive(Debug)]
struct Told {
    node: String,
    about: ObjectReference,
    text: EventText,
}

/// The queue that all nodes of a process share.
#[derive(Debug, Clone)]
pub struct EventsQueue {
    queue: mpsc::Sender<Told>,
}

impl EventsQueue {
    /// The handle of one node, which is named as the reporter.
    pub fn of_node(&self, node: &str) -> EventsHandle {
        EventsHandle {
            node: node.to_owned(),
            queue: self.queue.clone(),
        }
    }
}

/// A cheap handle: events are queued, never waited for.
#[derive(Debug, Clone)]
pub struct EventsHandle {
    node: String,
    queue: mpsc::Sender<Told>,
}

impl EventsHandle {
    /// Queues an event; dropped when the queue is full.
    pub fn tell(&self, about: ObjectReference, text: EventText) {
        let node = self.node.clone();
        if self.queue.try_send(Told { node, about, text }).is_err() {
            tracing::warn!("an event was dropped");
        }
    }
}

/// Sends the queued events one after another.
pub struct EventsTask {
    cluster: Cluster,
    queue: mpsc::Receiver<Told>,
}

impl EventsTask {
    pub fn new(cluster: Cluster) -> (EventsQueue, Self) {
        let (sender, queue) = mpsc::channel(WAITING);
        (EventsQueue { queue: sender }, Self { cluster, queue })
    }

    /// Runs until every handle is dropped.
    pub async fn run(mut self) {
        let mut series = Series::default();
        while let Some(Told { node, about, text }) = self.queue.recv().await {
            let write = series.tell(&node, &json!(about), text, Timestamp::now());
            let sent = match &write {
                EventWrite::Create { path, body } => self.cluster.post(path, body).await,
                EventWrite::GoOn { path, body } => self.cluster.patch(path, PatchKind::Merge, body).await,
            };
            if let Err(error) = sent {
                tracing::warn!(error = error.chain(), "an event was not taken");
                series.forget(&write.path());
            }
        }
    }
}
