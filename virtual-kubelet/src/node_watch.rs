//! The Nodes of our names as the API server has them: one list and one watch, however many nodes there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use virtual_kubelet_core::node::kubelet_port;

use crate::cluster::{Cluster, stripped};
use crate::error::Error;
use crate::lists::{read_to_end, version_of};
use crate::pod_watch::Selection;

/// As those of the pod watch.
const WATCH_S: u32 = 290;
const WATCH_SILENCE: Duration = Duration::from_secs(150);
const RELIST: Duration = Duration::from_mins(5);
const BACKOFF_CAP: Duration = Duration::from_secs(10);

/// The Node of one name, or that there is none.
pub type Seen = Option<Arc<Value>>;

/// Where the sight of each node's Node goes; absent until the first list.
pub type NodeRoutes = BTreeMap<String, watch::Sender<Option<Seen>>>;

/// A Node of ours that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundNode {
    pub provider_id: String,
    /// Where its kubelet API was last; `None` while it was nowhere.
    pub kubelet_port: Option<u16>,
}

/// The Nodes that are there with a provider id of this beginning and their own name after it, by name.
///
/// # Errors
/// The list could not be read to its end.
pub async fn nodes_of(
    cluster: &Cluster,
    provider_prefix: &str,
) -> Result<BTreeMap<String, FoundNode>, Error> {
    let (nodes, _) = read_to_end(cluster, "/api/v1/nodes", "NodeList").await?;
    let ours = nodes.iter().filter_map(|node| {
        let provider_id = node.pointer("/spec/providerID")?.as_str()?;
        let name = name_of(node)?;
        let is_ours = provider_id.strip_prefix(provider_prefix) == Some(name);
        let found = || FoundNode {
            provider_id: provider_id.to_owned(),
            kubelet_port: kubelet_port(node.get("status")).filter(|port| *port != 0),
        };
        is_ours.then(|| (name.to_owned(), found()))
    });
    Ok(ours.collect())
}

/// Sole owner of the watch. Ends when nobody can change the routes any more.
#[derive(Debug)]
pub struct NodeWatch {
    cluster: Cluster,
    selection: Selection,
    routes: watch::Receiver<NodeRoutes>,
    failures: u32,
}

/// Why a stretch of watching ended.
enum Ended {
    /// Watch again from this version.
    Broken(String),
    /// Only a list can tell what was missed, or who is new.
    List,
    Unheard,
}

impl NodeWatch {
    pub fn new(cluster: Cluster, selection: Selection, routes: watch::Receiver<NodeRoutes>) -> Self {
        Self {
            cluster,
            selection,
            routes,
            failures: 0,
        }
    }

    /// Lists and watches for ever; dropping the future ends it.
    pub async fn run(mut self) {
        loop {
            let mut from = match self.list().await {
                Ok(from) => from,
                Err(error) => {
                    self.note("listing nodes failed", &error);
                    self.pause().await;
                    continue;
                }
            };
            loop {
                match self.watch(from).await {
                    Ended::Broken(resume) => from = resume,
                    Ended::List => break,
                    Ended::Unheard => return,
                }
                self.pause().await;
            }
        }
    }

    fn path(&self) -> String {
        match &self.selection {
            Selection::Node(name) => format!("/api/v1/nodes?fieldSelector=metadata.name%3D{name}"),
            Selection::Bound => "/api/v1/nodes?fieldSelector=".to_owned(),
        }
    }

    async fn list(&mut self) -> Result<String, Error> {
        let routes = self.routes.borrow_and_update().clone();
        let (nodes, version) = read_to_end(&self.cluster, &self.path(), "NodeList").await?;
        let mut by_name: BTreeMap<String, Arc<Value>> = BTreeMap::new();
        for node in nodes {
            if let Some(name) = name_of(&node).filter(|name| routes.contains_key(*name)) {
                by_name.insert(name.to_owned(), Arc::new(stripped(node)));
            }
        }
        for (name, route) in &routes {
            show(route, by_name.remove(name));
        }
        self.failures = 0;
        Ok(version)
    }

    async fn watch(&mut self, mut from: String) -> Ended {
        let path = format!(
            "{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}&resourceVersion={from}",
            self.path()
        );
        let mut stream = match self.cluster.watch(&path).await {
            Ok(stream) => stream,
            Err(error) if error.code() == Some(410) => return Ended::List,
            Err(error) => return self.broken(&error, from),
        };
        let relist_at = Instant::now() + RELIST;
        loop {
            tokio::select! {
                changed = self.routes.changed() => {
                    return if changed.is_err() { Ended::Unheard } else { Ended::List };
                }
                () = sleep_until(relist_at) => return Ended::List,
                event = timeout(WATCH_SILENCE, stream.next()) => match event {
                    Ok(Some(Ok(WatchEvent::Error(_)))) => return Ended::List,
                    Ok(Some(Ok(event))) => self.take(event, &mut from),
                    Ok(Some(Err(error))) if error.code() == Some(410) => return Ended::List,
                    Ok(Some(Err(error))) => return self.broken(&error, from),
                    Ok(None) | Err(_) => return Ended::Broken(from),
                },
            }
        }
    }

    fn take(&mut self, event: WatchEvent<Value>, from: &mut String) {
        self.failures = 0;
        let (node, gone) = match event {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => (node, false),
            WatchEvent::Deleted(node) => (node, true),
            WatchEvent::Bookmark(bookmark) => {
                *from = bookmark.metadata.resource_version;
                return;
            }
            WatchEvent::Error(_) => return,
        };
        if let Some(version) = version_of(&node) {
            version.clone_into(from);
        }
        let route = name_of(&node).and_then(|name| self.routes.borrow().get(name).cloned());
        if let Some(route) = route {
            show(&route, (!gone).then(|| Arc::new(stripped(node))));
        }
    }

    fn broken(&mut self, error: &Error, from: String) -> Ended {
        self.note("watching nodes broke", error);
        Ended::Broken(from)
    }

    fn note(&mut self, what: &str, error: &Error) {
        self.failures = self.failures.saturating_add(1);
        tracing::warn!(error = error.chain(), "{what}");
    }

    async fn pause(&self) {
        let ceiling = Duration::from_millis(200)
            .saturating_mul(1 << self.failures.min(10))
            .min(BACKOFF_CAP);
        sleep(ceiling.mul_f64(rand::random::<f64>())).await;
    }
}

fn show(route: &watch::Sender<Option<Seen>>, seen: Seen) {
    route.send_if_modified(|shown| shown.replace(seen.clone()) != Some(seen));
}

fn name_of(node: &Value) -> Option<&str> {
    node.get("metadata")?.get("name")?.as_str()
}
