//! Looks for a pod's successors on other nodes: those of its controller or, without one, the pod of the same name.
//!
//! One look at a time, each of at most a few pages, and only when asked: who asks does so seldom.

use serde_json::Value;
use tokio::sync::mpsc;
use virtual_kubelet_core::successors::{Controller, is_ready_elsewhere, selector};

use crate::cluster::{Cluster, encode};
use crate::error::Error;
use crate::provider::{PodInput, PodLine, ReadyElsewhere};
use crate::references::References;

/// Looks that wait. What does not fit is asked for again.
const WAITING: usize = 64;
const PAGE: usize = 250;
/// What lies beyond is not counted, which only ever keeps an orphan longer.
const PAGES: usize = 8;

/// One question of one node.
#[derive(Debug)]
pub struct Look {
    /// Whose own pods do not count.
    pub node: String,
    pub line: PodLine,
    /// Where the answer goes.
    pub answer: mpsc::Sender<PodInput>,
}

/// Sole user of its queue, which all nodes share. Ends when every asker is gone.
#[derive(Debug)]
pub struct SuccessorTask {
    cluster: Cluster,
    references: References,
    asked: mpsc::Receiver<Look>,
}

impl SuccessorTask {
    pub fn new(cluster: Cluster) -> (mpsc::Sender<Look>, Self) {
        let (ask, asked) = mpsc::channel(WAITING);
        let task = Self {
            references: References::new(cluster.clone()),
            cluster,
            asked,
        };
        (ask, task)
    }

    /// Answers each look, or logs why it cannot.
    pub async fn run(mut self) {
        while let Some(Look { node, line, answer }) = self.asked.recv().await {
            match self.look(&node, line).await {
                // A node that ended needs no answer.
                Ok(Some(found)) => drop(answer.send(PodInput::Elsewhere(found)).await),
                Ok(None) => {}
                Err(error) => tracing::warn!(error = error.chain(), "looking for successors failed"),
            }
        }
    }

    /// `None` when the controller is of no kind whose pods can be found, or is gone.
    async fn look(&mut self, node: &str, line: PodLine) -> Result<Option<ReadyElsewhere>, Error> {
        let (wanted, query) = match &line.owner {
            None => (
                1,
                format!(
                    "fieldSelector={}",
                    encode(&format!("metadata.name={}", line.name))
                ),
            ),
            Some(owner) => {
                let Some(path) =
                    Controller::of_kind(&owner.kind).map(|kind| kind.path(&line.namespace, &owner.name))
                else {
                    return Ok(None);
                };
                let found = self.cluster.get(&path).await?;
                let same = |found: &Value| found["metadata"]["uid"].as_str() == Some(&owner.uid);
                let Some(controller) = found.filter(same) else {
                    return Ok(None);
                };
                let Some((wanted, selector)) = selector(&controller) else {
                    return Ok(None);
                };
                (wanted, format!("labelSelector={}", encode(&selector)))
            }
        };
        let ready = self.count(node, &line, wanted, &query).await?;
        let system = self.cluster.get("/api/v1/namespaces/kube-system").await?;
        let cluster_uid = system
            .as_ref()
            .and_then(|system| system["metadata"]["uid"].as_str());
        let cluster_uid = cluster_uid.unwrap_or_default().to_owned();
        Ok(Some(ReadyElsewhere {
            line,
            cluster_uid,
            wanted,
            ready,
        }))
    }

    /// Counts no further than to `wanted`.
    async fn count(&mut self, node: &str, line: &PodLine, wanted: u32, query: &str) -> Result<u32, Error> {
        let base = format!("/api/v1/namespaces/{}/pods", line.namespace);
        let mut ready = 0;
        let mut token = String::new();
        for _ in 0..PAGES {
            let path = format!("{base}?{query}&limit={PAGE}{token}");
            let malformed = |what| Error::Malformed {
                path: base.clone(),
                what,
            };
            let mut page = self.cluster.get(&path).await?.ok_or(malformed("a list"))?;
            let Some(Value::Array(pods)) = page.get_mut("items").map(Value::take) else {
                return Err(malformed("items"));
            };
            for pod in pods.into_iter().filter(|pod| is_ready_elsewhere(pod, node)) {
                if ready >= wanted {
                    return Ok(ready);
                }
                let owner = self.references.owner(&line.namespace, &pod).await?;
                let same = owner.map(|owner| owner.uid) == line.owner.as_ref().map(|owner| owner.uid.clone());
                ready += u32::from(same);
            }
            match page["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => token = format!("&continue={}", encode(next)),
                _ => break,
            }
        }
        Ok(ready)
    }
}
