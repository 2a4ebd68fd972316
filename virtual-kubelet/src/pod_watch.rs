//! Complete lists and changes of the pods bound to our nodes: one watch, however many nodes there are.
//!
//! A list is read page by page to its end from a quorum, with the UIDs of the cluster and of the Nodes read after it; what fails
//! half way is nothing. What was read whole is whole for each node. A watch resumes where it broke; only when the server no longer
//! knows that version is the list read again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::lists::{read_to_end, uid_of};
use crate::provider::{ObservedPod, PodInput, PodSnapshot};
use crate::references::References;

/// The server ends a watch after this long; bookmarks come about once a minute, so longer silence means a dead connection.
const WATCH_S: u32 = 290;
const WATCH_SILENCE: Duration = Duration::from_secs(150);
/// A list is read at least this often, since only lists show what a lost change would have said.
const RELIST: Duration = Duration::from_mins(5);
const BACKOFF_CAP: Duration = Duration::from_secs(30);

/// What the API server is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One node, known from the start: the server finds its pods by an index.
    Node(String),
    /// Every pod that is bound to any node. Those on nodes that are not ours are dropped as they are read.
    Bound,
}

/// Where the facts about the pods of a node of ours go.
#[derive(Debug, Clone)]
pub struct Route {
    pub inputs: mpsc::Sender<PodInput>,
    /// A Node of the same name with another provider id is another's, and so are its pods. `None` takes any for ours.
    pub provider_id: Option<String>,
}

/// By the names of our nodes.
pub type Routes = BTreeMap<String, Route>;

/// Sole owner of the watch. Ends when nobody can change the routes any more.
#[derive(Debug)]
pub struct PodWatch {
    cluster: Cluster,
    selection: Selection,
    references: References,
    /// A node that is new here is told a list as soon as one is read.
    routes: watch::Receiver<Routes>,
    /// Wishes for a list; many at once are one.
    list_asked: mpsc::Receiver<()>,
    /// Names of ours that another had at the last list.
    taken: BTreeSet<String>,
    failures: u32,
}

/// Why one stretch of watching ended.
enum Ended {
    /// Watch again from this version.
    Broken(String),
    /// The version is gone: list.
    Expired,
    /// Nobody listens any more.
    Unheard,
}

impl PodWatch {
    pub fn new(
        cluster: Cluster,
        selection: Selection,
        routes: watch::Receiver<Routes>,
        list_asked: mpsc::Receiver<()>,
    ) -> Self {
        Self {
            references: References::new(cluster.clone()),
            cluster,
            selection,
            routes,
            list_asked,
            taken: BTreeSet::new(),
            failures: 0,
        }
    }

    /// Lists and watches for ever; dropping the future ends it.
    pub async fn run(mut self) {
        loop {
            let mut from = match self.list().await {
                Ok(from) => from,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "listing pods failed");
                    self.pause().await;
                    continue;
                }
            };
            if self.routes.has_changed().is_err() {
                return;
            }
            loop {
                match self.watch(from).await {
                    Ended::Broken(resume) => from = resume,
                    Ended::Expired => break,
                    Ended::Unheard => return,
                }
                self.pause().await;
            }
        }
    }

    async fn list(&mut self) -> Result<String, Error> {
        let routes = self.routes.borrow_and_update().clone();
        let (raw, version) = read_to_end(&self.cluster, &self.path(), "PodList").await?;
        let resource_version = number(&version)?;
        let system = self.cluster.get("/api/v1/namespaces/kube-system").await?;
        let cluster_uid = system.as_ref().and_then(uid_of).ok_or(Error::Malformed {
            path: "/api/v1/namespaces/kube-system".to_owned(),
            what: "metadata.uid",
        })?;
        let nodes = self.nodes().await?;
        let is_taken = |(name, route): &(&String, &Route)| {
            let theirs = nodes.get(*name).map(|node| provider_id_of(node));
            route.provider_id.is_some() && theirs.is_some_and(|theirs| theirs != route.provider_id.as_deref())
        };
        self.taken = routes
            .iter()
            .filter(is_taken)
            .map(|(name, _)| name.clone())
            .collect();
        let mut pods: BTreeMap<String, Vec<Arc<ObservedPod>>> = BTreeMap::new();
        for pod in raw {
            let is_ours = |node: &&str| routes.contains_key(*node) && !self.taken.contains(*node);
            let Some(node) = node_of(&pod).filter(is_ours) else {
                continue;
            };
            let node = node.to_owned();
            let pod = Arc::new(self.references.resolve(pod).await?);
            pods.entry(node).or_default().push(pod);
        }
        self.failures = 0;
        for (node, route) in routes.iter().filter(|(node, _)| !self.taken.contains(*node)) {
            let snapshot = PodSnapshot {
                cluster_uid: cluster_uid.clone(),
                resource_version,
                node_uid: nodes.get(node).and_then(uid_of),
                pods: pods.remove(node).unwrap_or_default(),
            };
            tell(&route.inputs, PodInput::Listed(snapshot)).await;
        }
        Ok(version)
    }

    /// The Nodes that are there now, by name.
    async fn nodes(&self) -> Result<BTreeMap<String, Value>, Error> {
        let nodes = match &self.selection {
            Selection::Node(name) => {
                let node = self.cluster.get(&format!("/api/v1/nodes/{name}")).await?;
                return Ok(node.into_iter().map(|node| (name.clone(), node)).collect());
            }
            Selection::Bound => read_to_end(&self.cluster, "/api/v1/nodes", "NodeList").await?.0,
        };
        let named = |node: Value| Some((node.get("metadata")?.get("name")?.as_str()?.to_owned(), node));
        Ok(nodes.into_iter().filter_map(named).collect())
    }

    fn path(&self) -> String {
        match &self.selection {
            Selection::Node(name) => format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{name}"),
            Selection::Bound => "/api/v1/pods?fieldSelector=spec.nodeName!%3D".to_owned(),
        }
    }

    async fn watch(&mut self, mut from: String) -> Ended {
        let path = format!(
            "{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}&resourceVersion={from}",
            self.path()
        );
        let mut stream = match self.cluster.watch(&path).await {
            Ok(stream) => stream,
            Err(error) if error.code() == Some(410) => return Ended::Expired,
            Err(error) => return self.broken(&error, from),
        };
        let mut relist_at = Instant::now() + RELIST;
        loop {
            tokio::select! {
                asked = self.list_asked.recv() => {
                    if asked.is_none() {
                        return Ended::Unheard;
                    }
                    relist_at = Instant::now();
                }
                changed = self.routes.changed() => {
                    if changed.is_err() {
                        return Ended::Unheard;
                    }
                    relist_at = Instant::now();
                }
                () = tokio::time::sleep_until(relist_at) => {
                    relist_at = Instant::now() + RELIST;
                    while self.list_asked.try_recv().is_ok() {}
                    // The watch goes on from its own version: a list must not hide the deletions before it.
                    if let Err(error) = self.list().await {
                        tracing::warn!(error = error.chain(), "listing pods failed");
                    }
                }
                event = timeout(WATCH_SILENCE, stream.next()) => {
                    match event {
                        Ok(Some(Ok(event))) => match self.take(event, &mut from).await {
                            Ok(()) => {}
                            Err(Some(error)) => return self.broken(&error, from),
                            Err(None) => return Ended::Expired,
                        },
                        Ok(Some(Err(error))) if error.code() == Some(410) => return Ended::Expired,
                        Ok(Some(Err(error))) => return self.broken(&error, from),
                        Ok(None) | Err(_) => return Ended::Broken(from),
                    }
                }
            }
        }
    }

    fn broken(&mut self, error: &Error, from: String) -> Ended {
        self.failures = self.failures.saturating_add(1);
        tracing::warn!(error = error.chain(), "watching pods broke");
        Ended::Broken(from)
    }

    /// Tells one change. `from` moves only once it is told, so that a failure repeats it. `Err(None)` asks for a list.
    async fn take(&mut self, event: WatchEvent<Value>, from: &mut String) -> Result<(), Option<Error>> {
        let (object, vanished) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark(bookmark) => {
                *from = bookmark.metadata.resource_version;
                self.failures = 0;
                let resource_version = number(from).map_err(Some)?;
                let routes = self.routes.borrow().clone();
                for route in routes.values() {
                    tell(&route.inputs, PodInput::WatchedTo { resource_version }).await;
                }
                return Ok(());
            }
            WatchEvent::Error(status) => {
                tracing::info!(code = status.code, message = status.message, "the watch expired");
                return Err(None);
            }
        };
        let version = object
            .get("metadata")
            .and_then(|metadata| metadata.get("resourceVersion")?.as_str());
        let version = version.unwrap_or(from.as_str()).to_owned();
        let node = node_of(&object).filter(|node| !self.taken.contains(*node));
        let route = node.and_then(|node| self.routes.borrow().get(node).cloned());
        let Some(Route { inputs, .. }) = route else {
            *from = version;
            return Ok(());
        };
        let pod = Arc::new(self.references.resolve(object).await.map_err(Some)?);
        let input = if vanished {
            PodInput::Vanished(pod)
        } else {
            PodInput::Seen(pod)
        };
        let resource_version = number(&version).map_err(Some)?;
        self.failures = 0;
        tell(&inputs, PodInput::WatchedTo { resource_version }).await;
        tell(&inputs, input).await;
        *from = version;
        Ok(())
    }

    async fn pause(&self) {
        let ceiling = Duration::from_millis(200)
            .saturating_mul(1 << self.failures.min(10))
            .min(BACKOFF_CAP);
        sleep(ceiling.mul_f64(rand::random::<f64>())).await;
    }
}

/// A node that ended hears nothing more, and its route goes with it.
async fn tell(inputs: &mpsc::Sender<PodInput>, input: PodInput) {
    let _ = inputs.send(input).await;
}

fn provider_id_of(node: &Value) -> Option<&str> {
    node.get("spec")?.get("providerID")?.as_str()
}

fn node_of(pod: &Value) -> Option<&str> {
    pod.get("spec")?.get("nodeName")?.as_str()
}

/// Resource versions of built-in kinds are numbers (KEP-5504 makes that a promise).
fn number(version: &str) -> Result<u64, Error> {
    version.parse().map_err(|_| Error::Malformed {
        path: "/api/v1/pods".to_owned(),
        what: "a numeric resourceVersion",
    })
}
