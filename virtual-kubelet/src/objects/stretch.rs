//! One stretch of a watch, and the pauses between tries: what all that follows something here does alike.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::memory::{Held, Key};
use super::wanted::Read;
use crate::cluster::Cluster;
use crate::error::Error;

/// The server ends a watch after this long or twice as long, as the kubelet asks for (`MinWatchTimeout` of
/// `pkg/kubelet/util/manager/watch_based_manager.go`).
const WATCH_S: u32 = 30 * 60;
/// Bookmarks come about once a minute, so longer silence means a dead connection.
const WATCH_SILENCE: Duration = Duration::from_secs(150);
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_CAP: Duration = Duration::from_secs(30);

/// What one follower has: whom to ask, and where to tell.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) cluster: Cluster,
    pub(super) key: Key,
    pub(super) id: u64,
    pub(super) shared: Arc<Shared>,
    /// Calls at the same time, of all followers; an open watch is none.
    pub(super) permits: Arc<Semaphore>,
    pub(super) failures: u32,
}

impl Run {
    pub(super) fn tell(&self, read: Read<Held>) {
        self.shared.memory().tell(&self.key, self.id, read);
    }

    /// Notes a failed try, and waits before the next. The node authorizer learns of a pod a little after us, so that the first answers may
    /// be refusals: the first pauses are short.
    pub(super) async fn failed(&mut self, error: &Error) {
        self.failures = self.failures.saturating_add(1);
        let why = error.chain();
        // The first few may be the authorizer's lag.
        if self.failures == 5 {
            tracing::warn!(error = why, failures = self.failures, "an object cannot be read");
        }
        self.shared.memory().trouble(&self.key, self.id, &why);
        self.pause().await;
    }

    pub(super) async fn pause(&self) {
        let ceiling = BACKOFF
            .saturating_mul(1 << self.failures.min(10))
            .min(BACKOFF_CAP);
        // Half of it at least: where failing costs the API server something, trying at once helps nobody.
        sleep(ceiling.mul_f64(rand::random_range(0.5..1.0))).await;
    }

    pub(super) async fn get(&self, path: &str) -> Result<Option<Value>, Error> {
        let _permit = self.permit().await;
        self.cluster.get(path).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let _permit = self.permit().await;
        self.cluster.post(path, body).await
    }

    async fn permit(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.permits
            .acquire()
            .await
            .expect("the semaphore is never closed")
    }

    /// Watches from a version until the server, the network or `seen` ends it. `from` moves with what was seen.
    ///
    /// # Errors
    /// What broke it; it may go on from `from`.
    pub(super) async fn watch(
        &mut self,
        query: &str,
        from: &mut String,
        seen: &mut (impl FnMut(&Self, Change) -> Next + Send),
    ) -> Result<Ended, Error> {
        let seconds = rand::random_range(WATCH_S..2 * WATCH_S);
        let path = format!(
            "{query}watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={from}"
        );
        let opened = {
            let _permit = self
                .permits
                .acquire()
                .await
                .expect("the semaphore is never closed");
            self.cluster.watch(&path).await
        };
        let mut stream = match opened {
            Err(error) if error.code() == Some(410) => return Ok(Ended::Expired),
            opened => opened?,
        };
        // One that ends without a word failed, whatever it says: else a proxy that closes each would be asked without a pause.
        self.failures = self.failures.saturating_add(1);
        while let Ok(Some(event)) = timeout(WATCH_SILENCE, stream.next()).await {
            if event.is_ok() {
                self.failures = 0;
            }
            let (object, change): (_, fn(Value) -> Change) = match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => (object, Change::Present),
                Ok(WatchEvent::Deleted(object)) => (object, Change::Gone),
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    *from = bookmark.metadata.resource_version;
                    continue;
                }
                Ok(WatchEvent::Error(_)) => return Ok(Ended::Expired),
                Err(error) if error.code() == Some(410) => return Ok(Ended::Expired),
                Err(error) => return Err(error),
            };
            if let Some(version) = version(&object) {
                version.clone_into(from);
            }
            if seen(self, change(object)) == Next::Enough {
                return Ok(Ended::Enough);
            }
        }
        Ok(Ended::Closed)
    }
}

/// Why a stretch ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It goes on from where it was.
    Closed,
    /// The version is gone: list.
    Expired,
    /// Nothing more is wanted.
    Enough,
}

/// One change that a watch tells.
#[derive(Debug)]
pub(super) enum Change {
    Present(Value),
    Gone(Value),
}

/// Whether to watch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Watch,
    Enough,
}

pub(super) fn version(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("resourceVersion")?.as_str()
}
