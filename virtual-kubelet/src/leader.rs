//! Which of several processes for one node writes: it holds a coordination lease in its own namespace.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use virtual_kubelet_core::leader::{Leader, LeaderStep, MEMORY, RETRY_MS};
use virtual_kubelet_core::lease::{LeaseAction, LeaseFacts};

use crate::cluster::Cluster;
use crate::error::Error;

#[derive(Debug, Clone)]
pub struct LeaderOptions {
    /// Where the lease is: the namespace that the process runs in.
    pub namespace: String,
    pub name: String,
    /// Unique to this process.
    pub identity: String,
}

/// How one try ended.
enum Turn {
    /// With what the lease carried before the write.
    Leads {
        memory: Option<String>,
    },
    Stands {
        holder: String,
    },
}

/// One candidate.
#[derive(Debug)]
pub struct LeaderTask {
    cluster: Cluster,
    options: LeaderOptions,
    leader: Leader,
    started: Instant,
}

impl LeaderTask {
    pub fn new(cluster: Cluster, options: LeaderOptions) -> Self {
        let leader = Leader::new(&options.namespace, &options.name, &options.identity);
        Self {
            cluster,
            options,
            leader,
            started: Instant::now(),
        }
    }

    /// Waits as a standby until this process leads, and gives what the leader before it remembered last: of the very lease that was
    /// taken over, since the write names its version. Dropping the future loses nothing.
    pub async fn lead(&mut self) -> Option<String> {
        let mut told = String::new();
        loop {
            match self.try_once().await {
                Ok(Turn::Leads { memory }) => return memory,
                Ok(Turn::Stands { holder }) if holder != told => {
                    tracing::info!(lease = self.options.name, holder, "standing by");
                    told = holder;
                }
                Ok(Turn::Stands { .. }) => {}
                Err(error) => tracing::warn!(error = error.chain(), "looking at the leader lease failed"),
            }
            pause().await;
        }
    }

    /// Renews until `token` is cancelled, then gives the lease up. Each write leaves the newest `memory` to the next leader.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] once the lease could not be renewed in time: nothing may be written from then on.
    pub async fn hold(
        mut self,
        memory: watch::Receiver<Option<String>>,
        token: CancellationToken,
    ) -> Result<(), Error> {
        loop {
            tokio::select! {
                () = pause() => {}
                () = token.cancelled() => {
                    self.remember(&memory);
                    self.resign().await;
                    return Ok(());
                }
            }
            self.remember(&memory);
            // No renewal may hang past the moment at which leading ends.
            let renewal = tokio::time::timeout(Duration::from_millis(RETRY_MS), self.try_once()).await;
            match renewal {
                Ok(Ok(Turn::Leads { .. })) => continue,
                Ok(Ok(Turn::Stands { .. })) => return Err(self.lost()),
                Ok(Err(error)) => tracing::warn!(error = error.chain(), "renewing the leader lease failed"),
                Err(_) => tracing::warn!("renewing the leader lease took too long"),
            }
            if !self.leader.leads(self.mono_ms()) {
                return Err(self.lost());
            }
        }
    }

    fn remember(&mut self, memory: &watch::Receiver<Option<String>>) {
        if let Some(memory) = memory.borrow().clone() {
            self.leader.remember(memory);
        }
    }

    fn lost(&self) -> Error {
        Error::LeaseLost {
            lease: self.options.name.clone(),
        }
    }

    /// One look and, if it is ours or free, one write.
    async fn try_once(&mut self) -> Result<Turn, Error> {
        let path = self.path();
        let lease = self.read().await?;
        let begun = self.mono_ms();
        match self.leader.look(lease.as_ref(), begun, Timestamp::now()) {
            LeaderStep::Wait { holder } => return Ok(Turn::Stands { holder }),
            LeaderStep::Write(LeaseAction::Create(body)) => {
                self.cluster.post(&self.collection(), &body).await?;
            }
            LeaderStep::Write(LeaseAction::Put(body)) => {
                self.cluster.put(&path, &body).await?;
            }
        }
        self.leader.written(begun);
        let memory = lease.and_then(|mut lease| lease.metadata.annotations.remove(MEMORY));
        Ok(Turn::Leads { memory })
    }

    async fn read(&self) -> Result<Option<LeaseFacts>, Error> {
        let path = self.path();
        self.cluster
            .get(&path)
            .await?
            .map(|lease| parse(path, lease))
            .transpose()
    }

    /// So that a standby need not wait for silence. When it fails the standby does wait, which is right too.
    async fn resign(&self) {
        let given_up = async {
            if let Some(lease) = self.read().await?
                && let Some(body) = self.leader.resignation(&lease, Timestamp::now())
            {
                self.cluster.put(&self.path(), &body).await?;
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = given_up.await {
            tracing::warn!(error = error.chain(), "giving the leader lease up failed");
        }
    }

    fn collection(&self) -> String {
        format!(
            "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
            self.options.namespace
        )
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.options.name)
    }

    fn mono_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

pub(crate) fn parse(path: String, lease: Value) -> Result<LeaseFacts, Error> {
    serde_json::from_value(lease).map_err(|_| Error::Malformed {
        path,
        what: "a lease",
    })
}

async fn pause() {
    sleep(Duration::from_millis(RETRY_MS)).await;
}
