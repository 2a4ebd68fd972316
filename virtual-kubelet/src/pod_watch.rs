//! Complete lists and changes of the pods bound to one node.
//!
//! A list is read page by page to its end from a quorum, with the UIDs of the cluster and of the Node read after it; what fails
//! half way is nothing. A watch resumes where it broke; only when the server no longer knows that version is the list read again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, encode};
use crate::error::Error;
use crate::provider::{PodInput, PodSnapshot};
use crate::references::References;

const PAGE: usize = 500;
/// The server ends a watch after this long; bookmarks come about once a minute, so longer silence means a dead connection.
const WATCH_S: u32 = 290;
const WATCH_SILENCE: Duration = Duration::from_secs(150);
/// A list is read at least this often, since only lists show what a lost change would have said.
const RELIST: Duration = Duration::from_mins(5);
const BACKOFF_CAP: Duration = Duration::from_secs(30);

/// Sole owner of the watch. Ends when its receiver does.
#[derive(Debug)]
pub struct PodWatch {
    cluster: Cluster,
    node: String,
    references: References,
    inputs: mpsc::Sender<PodInput>,
    /// Wishes for a list; many at once are one.
    list_asked: mpsc::Receiver<()>,
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
        node: impl Into<String>,
        inputs: mpsc::Sender<PodInput>,
        list_asked: mpsc::Receiver<()>,
    ) -> Self {
        Self {
            references: References::new(cluster.clone()),
            cluster,
            node: node.into(),
            inputs,
            list_asked,
            failures: 0,
        }
    }

    /// Lists and watches for ever; dropping the future ends it.
    pub async fn run(mut self) {
        loop {
            let mut from = match self.list().await {
                Ok(from) => from,
                Err(error) => {
                    tracing::warn!(node = self.node, error = error.chain(), "listing pods failed");
                    self.pause().await;
                    continue;
                }
            };
            if self.inputs.is_closed() {
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
        let (raw, version) = self.read_pages().await?;
        let system = self.cluster.get("/api/v1/namespaces/kube-system").await?;
        let cluster_uid = system.as_ref().and_then(uid_of).ok_or(Error::Malformed {
            path: "/api/v1/namespaces/kube-system".to_owned(),
            what: "metadata.uid",
        })?;
        let node = self.cluster.get(&format!("/api/v1/nodes/{}", self.node)).await?;
        let mut pods = Vec::with_capacity(raw.len());
        for pod in raw {
            pods.push(Arc::new(self.references.resolve(pod).await?));
        }
        self.failures = 0;
        let snapshot = PodSnapshot {
            cluster_uid,
            resource_version: number(&version)?,
            node_uid: node.as_ref().and_then(uid_of),
            pods,
        };
        self.tell(PodInput::Listed(snapshot)).await;
        Ok(version)
    }

    /// All pages of one consistent list. A continue token that expired is an error, never a shorter list.
    async fn read_pages(&self) -> Result<(Vec<Value>, String), Error> {
        let base = self.path();
        let mut items = Vec::new();
        let mut token = String::new();
        loop {
            let path = format!("{base}&limit={PAGE}{token}");
            let malformed = |what| Error::Malformed {
                path: base.clone(),
                what,
            };
            let mut page = self.cluster.get(&path).await?.ok_or(malformed("a list"))?;
            if page.get("kind").and_then(Value::as_str) != Some("PodList") {
                return Err(malformed("kind PodList"));
            }
            match page.get_mut("items").map(Value::take) {
                Some(Value::Array(page)) => items.extend(page),
                Some(Value::Null) => {}
                _ => return Err(malformed("items")),
            }
            let metadata = page.get("metadata");
            let text = |key: &str| metadata.and_then(|metadata| metadata.get(key)?.as_str());
            let Some(next) = text("continue").filter(|next| !next.is_empty()) else {
                let version = text("resourceVersion").ok_or(malformed("metadata.resourceVersion"))?;
                return Ok((items, version.to_owned()));
            };
            token = format!("&continue={}", encode(next));
        }
    }

    fn path(&self) -> String {
        format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.node)
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
                () = tokio::time::sleep_until(relist_at) => {
                    relist_at = Instant::now() + RELIST;
                    while self.list_asked.try_recv().is_ok() {}
                    // The watch goes on from its own version: a list must not hide the deletions before it.
                    if let Err(error) = self.list().await {
                        tracing::warn!(node = self.node, error = error.chain(), "listing pods failed");
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
                    if self.inputs.is_closed() {
                        return Ended::Unheard;
                    }
                }
            }
        }
    }

    fn broken(&mut self, error: &Error, from: String) -> Ended {
        self.failures = self.failures.saturating_add(1);
        tracing::warn!(node = self.node, error = error.chain(), "watching pods broke");
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
                self.tell(PodInput::WatchedTo { resource_version }).await;
                return Ok(());
            }
            WatchEvent::Error(status) => {
                tracing::info!(
                    node = self.node,
                    code = status.code,
                    message = status.message,
                    "the watch expired"
                );
                return Err(None);
            }
        };
        let version = object
            .get("metadata")
            .and_then(|metadata| metadata.get("resourceVersion")?.as_str());
        let version = version.unwrap_or(from.as_str()).to_owned();
        let pod = Arc::new(self.references.resolve(object).await.map_err(Some)?);
        let input = if vanished {
            PodInput::Vanished(pod)
        } else {
            PodInput::Seen(pod)
        };
        let resource_version = number(&version).map_err(Some)?;
        self.failures = 0;
        self.tell(PodInput::WatchedTo { resource_version }).await;
        self.tell(input).await;
        *from = version;
        Ok(())
    }

    async fn tell(&self, input: PodInput) {
        // A closed channel is looked for after each list and each change.
        let _ = self.inputs.send(input).await;
    }

    async fn pause(&self) {
        let ceiling = Duration::from_millis(200)
            .saturating_mul(1 << self.failures.min(10))
            .min(BACKOFF_CAP);
        sleep(ceiling.mul_f64(rand::random::<f64>())).await;
    }
}

fn uid_of(object: &Value) -> Option<String> {
    Some(object.get("metadata")?.get("uid")?.as_str()?.to_owned())
}

/// Resource versions of built-in kinds are numbers (KEP-5504 makes that a promise).
fn number(version: &str) -> Result<u64, Error> {
    version.parse().map_err(|_| Error::Malformed {
        path: "/api/v1/pods".to_owned(),
        what: "a numeric resourceVersion",
    })
}
