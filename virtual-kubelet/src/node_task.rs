//! Keeps one Node and its lease as they should be: looks when either side of it changes, and every ten seconds.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use virtual_kubelet_core::NodeFacts;
use virtual_kubelet_core::lease::{self, LeaseAction, LeaseFacts, plan_node_lease};
use virtual_kubelet_core::node::{NodeAction, NodeAim, ObservedNode, plan};

use crate::cluster::{Cluster, PatchKind};
use crate::error::Error;
use crate::leader;
use crate::lists::{uid_of, version_of};
use crate::node_watch::Seen;
use crate::provider::PodInput;

const RENEW: Duration = Duration::from_secs(lease::RENEW_S);

/// Which Node is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    pub name: String,
    /// A Node of this name with another provider id is another's. `None` takes any for ours.
    pub provider_id: Option<String>,
}

/// Sole owner of the Node object. It never gives up.
#[derive(Debug)]
pub struct NodeTask {
    cluster: Cluster,
    identity: NodeIdentity,
    /// `None` until the provider said what it should be; a Node that exists is left as it is until then.
    aim: watch::Receiver<Option<NodeAim>>,
    seen: watch::Receiver<Option<Seen>>,
    inputs: mpsc::Sender<PodInput>,
    /// Wishes for a list of pods.
    ask: mpsc::Sender<()>,
    /// What was taken of that last.
    sighted: Option<Seen>,
    /// The Node as last seen or written; `None` before the first sight.
    node: Option<Seen>,
    told: Option<Told>,
    /// Whether the Node was once what it should be.
    settled: bool,
    /// The lease as last written.
    lease: Option<LeaseFacts>,
}

/// What the provider was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Node {
        uid: Option<String>,
        facts: Option<Arc<NodeFacts>>,
    },
    Taken,
}

impl NodeTask {
    pub fn new(
        cluster: Cluster,
        identity: NodeIdentity,
        aim: watch::Receiver<Option<NodeAim>>,
        seen: watch::Receiver<Option<Seen>>,
        inputs: mpsc::Sender<PodInput>,
        ask: mpsc::Sender<()>,
    ) -> Self {
        Self {
            cluster,
            identity,
            aim,
            seen,
            inputs,
            ask,
            sighted: None,
            node: None,
            told: None,
            settled: false,
            lease: None,
        }
    }

    /// Runs until nobody can change what it should be any more. Dropping the future ends it.
    pub async fn run(mut self) {
        // The first renewal is at once, the others at a moment of this node's own: many nodes of a process do not renew together.
        let phase = RENEW.mul_f64(rand::random::<f64>());
        let mut tick = interval_at(Instant::now() + phase, RENEW);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.log(Look::Renew).await;
        loop {
            let look = tokio::select! {
                _ = tick.tick() => Look::Renew,
                changed = self.aim.changed() => match changed {
                    Ok(()) => Look::Changed,
                    Err(_) => return,
                },
                changed = self.seen.changed() => match changed {
                    Ok(()) => Look::Changed,
                    Err(_) => return,
                },
            };
            self.log(look).await;
        }
    }

    async fn log(&mut self, look: Look) {
        if let Err(error) = self.keep(look).await {
            tracing::warn!(
                node = self.identity.name,
                error = error.chain(),
                "keeping the node failed"
            );
        }
    }

    /// One look at the Node, and the writes that it needs; the lease is renewed when that is due, or when it has another owner.
    /// Idempotent.
    ///
    /// # Errors
    /// The first write that failed; the lease is renewed even then.
    pub async fn keep(&mut self, look: Look) -> Result<(), Error> {
        self.look(look);
        if let Some(provider_id) = self.taken() {
            self.tell(Told::Taken, PodInput::NameTaken { provider_id }).await;
            return Ok(());
        }
        let kept = self.keep_node().await;
        let uid = self
            .node
            .as_ref()
            .and_then(|node| node.as_deref().and_then(uid_of));
        self.settled |= kept.is_ok() && matches!(*self.aim.borrow(), Some(NodeAim::Present(_)));
        let mut moved = false;
        if self.node.is_some() {
            moved = !matches!(&self.told, Some(Told::Node { uid: told, .. }) if *told == uid);
            let (uid, facts) = (uid.clone(), self.facts());
            let told = Told::Node {
                uid: uid.clone(),
                facts: facts.clone(),
            };
            self.tell(told, PodInput::Node { uid, facts }).await;
        }
        let lives = match self.aim.borrow().as_ref() {
            // The node that is always served is leased from the start. Whether a further one lives is not known yet: what the Node showed
            // last holds until then, so that a bridge that starts while only the hub is away makes no node silent.
            None | Some(NodeAim::Kept(_)) => self.identity.provider_id.is_none() || self.is_ready(),
            Some(NodeAim::Present(view)) => view.lives,
            Some(NodeAim::Absent | NodeAim::Unheard) => false,
        };
        if lives && (look == Look::Renew || moved) {
            self.renew(uid.as_deref()).await?;
        }
        kept
    }

    /// Takes what the watch has seen since. What was written later than that is seen by it later too.
    /// A sight that did not change for a whole period is believed even so: the Node may have come and gone between two lists.
    fn look(&mut self, look: Look) {
        let Some(seen) = self.seen.borrow_and_update().clone() else {
            return;
        };
        if look == Look::Changed && self.sighted.as_ref() == Some(&seen) {
            return;
        }
        self.sighted = Some(seen.clone());
        let number = |node: &Value| version_of(node).and_then(|version| version.parse::<u64>().ok());
        let held = self.node.as_ref().and_then(|node| number(node.as_deref()?));
        let is_older = seen
            .as_deref()
            .and_then(number)
            .is_some_and(|seen| held.is_some_and(|held| seen < held));
        if !is_older {
            self.node = Some(seen);
        }
    }

    /// What decides who may be on the Node. Until it was brought to what it should be it may lack what is to come.
    fn facts(&self) -> Option<Arc<NodeFacts>> {
        let node = self.node.as_ref().filter(|_| self.settled)?.as_deref()?;
        Some(Arc::new(NodeFacts::of(node)))
    }

    /// Whether the Node shows itself Ready.
    fn is_ready(&self) -> bool {
        let node = self.node.as_ref().and_then(Option::as_deref);
        let conditions = node.and_then(|node| node.pointer("/status/conditions")?.as_array());
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    /// The provider id of whoever has our name.
    fn taken(&self) -> Option<String> {
        let ours = self.identity.provider_id.as_deref()?;
        let node = self.node.as_ref()?.as_deref()?;
        let theirs = node
            .pointer("/spec/providerID")
            .and_then(Value::as_str)
            .unwrap_or_default();
        (theirs != ours).then(|| theirs.to_owned())
    }

    async fn tell(&mut self, told: Told, input: PodInput) {
        if self.told.as_ref() == Some(&told) {
            return;
        }
        if told == Told::Taken || self.told == Some(Told::Taken) {
            // Whose pods there are shows only in a list. A wish that already waits is as good.
            let _ = self.ask.try_send(());
        }
        self.told = Some(told);
        // A closed channel ends this task by way of `aim`.
        let _ = self.inputs.send(input).await;
    }

    async fn keep_node(&mut self) -> Result<(), Error> {
        let path = format!("/api/v1/nodes/{}", self.identity.name);
        let (Some(node), Some(aim)) = (self.node.clone(), self.aim.borrow_and_update().clone()) else {
            return Ok(());
        };
        let observed: Option<ObservedNode> = node
            .as_deref()
            .map(|node| parse(&path, node.clone()))
            .transpose()?;
        for action in plan(observed.as_ref(), &aim, Timestamp::now()) {
            match self.write(&path, &action).await {
                Ok(written) => self.node = Some(written.map(Arc::new)),
                // Another writer was faster: what it wrote is seen soon, and planned anew.
                Err(error) if matches!(error.code(), Some(404 | 409 | 422)) && is_guarded(&action) => {
                    tracing::debug!(error = error.chain(), "a guarded write met another writer");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The Node after the write.
    async fn write(&self, path: &str, action: &NodeAction) -> Result<Option<Value>, Error> {
        let status = format!("{path}/status");
        let written = match action {
            NodeAction::Create(node) => {
                tracing::info!(node = self.identity.name, "creating the node");
                self.cluster.post("/api/v1/nodes", node).await?
            }
            NodeAction::Apply(body) => self.cluster.patch(path, PatchKind::Apply, body).await?,
            NodeAction::DropStale(body) => self.cluster.patch(path, PatchKind::Merge, body).await?,
            NodeAction::ApplyStatus(body) => self.cluster.patch(&status, PatchKind::Apply, body).await?,
            NodeAction::PatchCondition(body) => {
                self.cluster.patch(&status, PatchKind::Strategic, body).await?
            }
            NodeAction::ReplaceAddresses(body) => self.cluster.patch(&status, PatchKind::Merge, body).await?,
            NodeAction::PatchTaints(body) => self.cluster.patch(path, PatchKind::Json, body).await?,
            NodeAction::Delete(options) => {
                tracing::info!(node = self.identity.name, "deleting the node");
                self.cluster.delete(path, options).await?;
                return Ok(None);
            }
        };
        Ok(Some(written))
    }

    /// A renewal is one write on top of the last one. Only when that met another's, or there is none, is the lease read first.
    async fn renew(&mut self, node_uid: Option<&str>) -> Result<(), Error> {
        let collection = format!(
            "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
            lease::NAMESPACE
        );
        let name = self.identity.name.clone();
        let path = format!("{collection}/{name}");
        if let Some(held) = self.lease.take() {
            let LeaseAction::Put(body) = plan_node_lease(Some(&held), &name, node_uid, Timestamp::now())
            else {
                return Ok(());
            };
            match self.cluster.put(&path, &body).await {
                Ok(lease) => {
                    self.lease = Some(leader::parse(path, lease)?);
                    return Ok(());
                }
                Err(error) if matches!(error.code(), Some(404 | 409)) => {}
                Err(error) => return Err(error),
            }
        }
        let current = self.cluster.get(&path).await?;
        let current = current
            .map(|lease| leader::parse(path.clone(), lease))
            .transpose()?;
        let written = match plan_node_lease(current.as_ref(), &name, node_uid, Timestamp::now()) {
            LeaseAction::Create(body) => self.cluster.post(&collection, &body).await?,
            LeaseAction::Put(body) => self.cluster.put(&path, &body).await?,
        };
        self.lease = Some(leader::parse(path, written)?);
        Ok(())
    }
}

/// Why the Node is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It, or what it should be, changed.
    Changed,
    /// The lease is due.
    Renew,
}

/// A JSON patch whose test fails answers 422, a creation that came second 409, a delete of what is gone or another's 404 or 409.
fn is_guarded(action: &NodeAction) -> bool {
    matches!(
        action,
        NodeAction::PatchTaints(_) | NodeAction::Create(_) | NodeAction::Delete(_)
    )
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
