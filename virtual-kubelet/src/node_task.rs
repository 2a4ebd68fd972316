//! Keeps the Node and its lease as they should be: looks every ten seconds, and at once when what it should show changes.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use virtual_kubelet_core::lease::{self, LeaseAction, plan_node_lease};
use virtual_kubelet_core::node::{NodeAction, NodeView, ObservedNode, plan_node};

use crate::cluster::{Cluster, PatchKind};
use crate::error::Error;
use crate::leader;
use crate::lists::uid_of;
use crate::provider::PodInput;

/// Sole owner of the Node object. It never gives up.
#[derive(Debug)]
pub struct NodeTask {
    cluster: Cluster,
    name: String,
    /// `None` until the provider said what to show; a Node that exists is left as it is until then.
    view: watch::Receiver<Option<NodeView>>,
    inputs: mpsc::Sender<PodInput>,
    /// The Node's UID as last read.
    uid: Option<String>,
    /// Whether the provider was told that.
    told: bool,
}

impl NodeTask {
    pub fn new(
        cluster: Cluster,
        name: impl Into<String>,
        view: watch::Receiver<Option<NodeView>>,
        inputs: mpsc::Sender<PodInput>,
    ) -> Self {
        Self {
            cluster,
            name: name.into(),
            view,
            inputs,
            uid: None,
            told: false,
        }
    }

    /// Runs until nobody can change the state any more. Dropping the future ends it.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(Duration::from_secs(lease::RENEW_S));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                changed = self.view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            if let Err(error) = self.keep().await {
                tracing::warn!(node = self.name, error = error.chain(), "keeping the node failed");
            }
        }
    }

    /// One look at the Node and the lease, and the writes that they need. Idempotent.
    ///
    /// # Errors
    /// The first write that failed; the lease is renewed even then.
    pub async fn keep(&mut self) -> Result<(), Error> {
        let kept = self.keep_node().await;
        if let Ok(uid) = &kept
            && (self.uid != *uid || !self.told)
        {
            self.uid.clone_from(uid);
            self.told = true;
            // A closed channel ends this task by way of `view`.
            let _ = self.inputs.send(PodInput::Node { uid: uid.clone() }).await;
        }
        self.renew(self.uid.as_deref()).await?;
        kept.map(drop)
    }

    async fn keep_node(&mut self) -> Result<Option<String>, Error> {
        let path = format!("/api/v1/nodes/{}", self.name);
        let found = self.cluster.get(&path).await?;
        let mut uid = found.as_ref().and_then(uid_of);
        let observed: Option<ObservedNode> = found.map(|node| parse(&path, node)).transpose()?;
        let Some(view) = self.view.borrow_and_update().clone() else {
            return Ok(uid);
        };
        for action in plan_node(observed.as_ref(), &view, Timestamp::now()) {
            let written = self.write(&path, &action).await;
            match written {
                Ok(node) => uid = uid_of(&node).or(uid),
                // Another writer was faster: the next look plans anew.
                Err(error) if matches!(error.code(), Some(409 | 422)) && is_guarded(&action) => {
                    tracing::debug!(error = error.chain(), "a guarded write met another writer");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(uid)
    }

    async fn write(&self, path: &str, action: &NodeAction) -> Result<Value, Error> {
        let status = format!("{path}/status");
        match action {
            NodeAction::Create(node) => {
                tracing::info!(node = self.name, "creating the node");
                self.cluster.post("/api/v1/nodes", node).await
            }
            NodeAction::Apply(body) => self.cluster.patch(path, PatchKind::Apply, body).await,
            NodeAction::ApplyStatus(body) => self.cluster.patch(&status, PatchKind::Apply, body).await,
            NodeAction::ReplaceAddresses(body) => self.cluster.patch(&status, PatchKind::Merge, body).await,
            NodeAction::PatchTaints(body) => self.cluster.patch(path, PatchKind::Json, body).await,
        }
    }

    async fn renew(&self, node_uid: Option<&str>) -> Result<(), Error> {
        let collection = format!(
            "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
            lease::NAMESPACE
        );
        let path = format!("{collection}/{}", self.name);
        let current = self.cluster.get(&path).await?;
        let current = current
            .map(|lease| leader::parse(path.clone(), lease))
            .transpose()?;
        match plan_node_lease(current.as_ref(), &self.name, node_uid, Timestamp::now()) {
            LeaseAction::Create(body) => self.cluster.post(&collection, &body).await?,
            LeaseAction::Put(body) => self.cluster.put(&path, &body).await?,
        };
        Ok(())
    }
}

/// A JSON patch whose test fails answers 422, a creation that came second 409.
fn is_guarded(action: &NodeAction) -> bool {
    matches!(action, NodeAction::PatchTaints(_) | NodeAction::Create(_))
}

/// Absent members read as their defaults, `null` ones too.
fn parse(path: &str, mut node: Value) -> Result<ObservedNode, Error> {
    if node.get("spec").is_some_and(Value::is_null) {
        node["spec"] = json!({});
    }
    serde_json::from_value(node).map_err(|_| Error::Malformed {
        path: path.to_owned(),
        what: "a node",
    })
}
