//! Tells events. They are for people: when they come faster than they can be sent, the excess is dropped, and that is told.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use virtual_kubelet_core::events::{About, Correlator, EventText, EventWrite};

use crate::cluster::{Cluster, PatchKind};
use crate::error::Error;

/// `maxTriesPerEvent` of client-go/tools/record/event.go.
const TRIES: u32 = 12;
const RETRY: Duration = Duration::from_millis(250);
const RETRY_CAP: Duration = Duration::from_secs(10);

/// The queue that all nodes of a process share.
#[derive(Debug, Clone)]
pub struct EventsQueue {
    queue: mpsc::Sender<EventWrite>,
}

impl EventsQueue {
    /// The handle of one node, which is named as the reporter. By `kept` of its last events what is told again is known, and what is too much.
    pub fn of_node(&self, node: &str, kept: usize) -> EventsHandle {
        EventsHandle {
            node: node.to_owned(),
            correlator: Correlator::new(node, kept),
            queue: self.queue.clone(),
            dropped: 0,
        }
    }
}

/// What one node tells: events are queued, never waited for.
#[derive(Debug)]
pub struct EventsHandle {
    node: String,
    correlator: Correlator,
    queue: mpsc::Sender<EventWrite>,
    /// Those that found the queue full, since the last that did not.
    dropped: u64,
}

impl EventsHandle {
    /// Queues an event of a pod.
    pub fn tell(&mut self, about: &About, text: EventText) {
        self.send(about, text);
        if self.dropped > 0 && self.queue.capacity() > 0 {
            self.tell_dropped();
        }
    }

    fn tell_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        self.tell_of_node(EventText {
            warning: true,
            reason: "EventsDropped".to_owned(),
            message: format!(
                "{dropped} events of pods here came faster than the API server took them; outrigger event shows what devices told"
            ),
            teller: None,
            field_path: None,
            at: None,
        });
    }

    /// Queues an event of the node itself. The kubelet too names a Node by its name in place of the UID, and `kubectl describe node` asks
    /// for that.
    pub fn tell_of_node(&mut self, text: EventText) {
        let node = About {
            kind: "Node",
            namespace: None,
            name: self.node.clone(),
            uid: self.node.clone(),
        };
        self.send(&node, text);
    }

    fn send(&mut self, about: &About, text: EventText) {
        let Some(write) = self.correlator.tell(about, text, Timestamp::now()) else {
            return;
        };
        if self.queue.try_send(write).is_err() {
            self.dropped = self.dropped.saturating_add(1);
            tracing::warn!(node = self.node, "an event was dropped");
        }
    }
}

/// Sends the queued events one after another.
pub struct EventsTask {
    cluster: Cluster,
    queue: mpsc::Receiver<EventWrite>,
}

impl EventsTask {
    /// Of all nodes, `waiting` events wait at most.
    pub fn new(cluster: Cluster, waiting: usize) -> (EventsQueue, Self) {
        let (sender, queue) = mpsc::channel(waiting);
        (EventsQueue { queue: sender }, Self { cluster, queue })
    }

    /// Runs until every handle is dropped.
    pub async fn run(mut self) {
        while let Some(write) = self.queue.recv().await {
            if let Err(error) = self.send(&write).await {
                tracing::warn!(error = error.chain(), "an event was not taken");
            }
        }
    }

    /// Only what the API server has not answered is tried again, as by `recordEvent` of client-go/tools/record/event.go, and what it has too much
    /// to do for: the events of others wait meanwhile.
    async fn send(&self, write: &EventWrite) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            match self.send_once(write).await {
                Err(error) if tries < TRIES && error.code().is_none_or(|code| code == 429) => {
                    tracing::info!(error = error.chain(), "an event will be sent again");
                    let pause = RETRY.saturating_mul(1 << tries).min(RETRY_CAP);
                    tokio::time::sleep(pause.mul_f64(rand::random::<f64>())).await;
                    tries += 1;
                }
                ended => return ended,
            }
        }
    }

    /// As `recordEvent` of client-go/tools/record/event.go: one that the API server has forgotten is written whole, and one that is there
    /// was told before.
    async fn send_once(&self, write: &EventWrite) -> Result<(), Error> {
        if let Some(changes) = &write.changes {
            let patched = self.cluster.patch(&write.path(), PatchKind::Merge, changes).await;
            match patched {
                Err(error) if error.code() == Some(404) => {}
                ended => return ended.map(drop),
            }
        }
        match self.cluster.post(&write.collection, &write.event).await {
            Err(error) if error.code() == Some(409) => Ok(()),
            ended => ended.map(drop),
        }
    }
}
