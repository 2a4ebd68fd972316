//! Which of several processes for one node writes: it holds a coordination lease in its own namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use virtual_kubelet_core::leader::{Leader, LeaderStep, LeftTexts, PROCESS, RETRY_MS, TRY_MS, memories};
use virtual_kubelet_core::lease::{LeaseAction, LeaseFacts};

use crate::cluster::Cluster;
use crate::error::Error;

const RETRY: Duration = Duration::from_millis(RETRY_MS);

#[derive(Debug, Clone)]
pub struct LeaderOptions {
    /// Where the lease is: the namespace that the process runs in.
    pub namespace: String,
    pub name: String,
    /// Unique to this process.
    pub identity: String,
}

/// What a leader leaves to the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Counts up with every change; 0 while nothing was left.
    pub seq: u64,
    /// By annotation of the lease.
    pub texts: LeftTexts,
}

/// What the process before this one left, once this one leads.
#[derive(Debug, Clone, Default)]
pub(crate) enum Restored {
    #[default]
    StandsBy,
    Leads(Option<String>),
}

/// What the process itself leaves to the next one, beside the memories of its nodes.
#[derive(Debug)]
pub struct ProcessMemory {
    left: watch::Sender<Left>,
    restored: watch::Receiver<Restored>,
}

impl ProcessMemory {
    pub(crate) fn new(left: watch::Sender<Left>, restored: watch::Receiver<Restored>) -> Self {
        Self { left, restored }
    }

    /// Waits until this process leads: what the one before it left last, if anything. `None` too when it never will lead.
    pub async fn restored(&mut self) -> Option<String> {
        let leads = |restored: &Restored| matches!(restored, Restored::Leads(_));
        match self.restored.wait_for(leads).await.as_deref() {
            Ok(Restored::Leads(text)) => text.clone(),
            Ok(Restored::StandsBy) | Err(_) => None,
        }
    }

    /// Goes with the next renewal of the lease; it is no reason for a write of its own.
    pub fn leave(&self, text: String) {
        self.left.send_if_modified(|left| {
            left.texts.insert(PROCESS.to_owned(), Some(text));
            false
        });
    }
}

/// For a process that leads without a lease: there is nowhere to keep anything. Ends when nobody remembers any more.
pub async fn keep_nothing(mut left: watch::Receiver<Left>, kept: watch::Sender<u64>) {
    while left.changed().await.is_ok() {
        kept.send_replace(left.borrow_and_update().seq);
    }
}

/// How one try ended.
enum Turn {
    /// With what the lease carried before the write.
    Leads {
        memory: BTreeMap<String, String>,
    },
    Stands {
        holder: String,
    },
}

/// One candidate. Its calls are few and small, and what it writes must not wait behind anything: it is given a cluster of its own,
/// whose connections nothing else uses.
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

    /// Waits as a standby until this process leads, and gives what the leader before it remembered last, by annotation: of the very
    /// lease that was taken over, since the write names its version. Dropping the future loses nothing.
    pub async fn lead(&mut self) -> BTreeMap<String, String> {
        let mut told = String::new();
        loop {
            match self.try_in_time().await {
                Ok(Turn::Leads { memory }) => return memory,
                Ok(Turn::Stands { holder }) if holder != told => {
                    tracing::info!(lease = self.options.name, holder, "standing by");
                    told = holder;
                }
                Ok(Turn::Stands { .. }) => {}
                Err(error) => tracing::warn!(error = error.chain(), "looking at the leader lease failed"),
            }
            sleep(RETRY).await;
        }
    }

    /// Renews until `token` is cancelled, then gives the lease up. Each write leaves the newest memory to the next leader, a new one
    /// makes a write at once, and `kept` tells which one was written.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] once the lease could not be renewed in time: nothing may be written from then on.
    pub async fn hold(
        mut self,
        mut left: watch::Receiver<Left>,
        kept: watch::Sender<u64>,
        token: CancellationToken,
    ) -> Result<(), Error> {
        let mut rest = RETRY;
        loop {
            let ends = tokio::select! {
                () = sleep(rest) => false,
                Ok(()) = left.changed() => false,
                () = token.cancelled() => true,
            };
            let seq = self.remember(&mut left);
            if ends {
                self.resign().await;
                return Ok(());
            }
            let tried = self.try_in_time().await;
            rest = match tried {
                // It has waited long enough.
                Err(Error::Timeout { .. }) => Duration::ZERO,
                _ => RETRY,
            };
            match tried {
                Ok(Turn::Leads { .. }) => {
                    kept.send_if_modified(|kept| std::mem::replace(kept, seq) != seq);
                    continue;
                }
                Ok(Turn::Stands { .. }) => return Err(self.lost()),
                Err(error) => tracing::warn!(error = error.chain(), "renewing the leader lease failed"),
            }
            if !self.leader.leads(self.mono_ms()) {
                return Err(self.lost());
            }
        }
    }

    /// Takes the newest memory; its number is 0 while there is none.
    fn remember(&mut self, left: &mut watch::Receiver<Left>) -> u64 {
        let left = left.borrow_and_update();
        self.leader.remember(left.texts.clone());
        left.seq
    }

    fn lost(&self) -> Error {
        Error::LeaseLost {
            lease: self.options.name.clone(),
        }
    }

    /// No try may hang past the moment at which leading ends, nor for so long that there is no second one before it.
    async fn try_in_time(&mut self) -> Result<Turn, Error> {
        let time_ms = TRY_MS.min(self.leader.time_left_ms(self.mono_ms()).unwrap_or(TRY_MS));
        let path = self.path();
        let tried = tokio::time::timeout(Duration::from_millis(time_ms), self.try_once()).await;
        tried.unwrap_or_else(|_| {
            self.leader.unanswered();
            Err(Error::Timeout {
                method: "PUT",
                path,
                seconds: time_ms.div_ceil(1_000),
            })
        })
    }

    /// A renewal is one write on top of the last one. Only when that meets another's, or there is none, is the lease read first.
    async fn try_once(&mut self) -> Result<Turn, Error> {
        if let Some(body) = self.leader.renewal(Timestamp::now()) {
            let begun = self.mono_ms();
            match self.cluster.put(&self.path(), &body).await {
                Ok(lease) => {
                    self.leader.written(begun, parse(self.path(), lease)?);
                    return Ok(Turn::Leads {
                        memory: BTreeMap::new(),
                    });
                }
                Err(error) if matches!(error.code(), Some(404 | 409)) => {
                    tracing::info!(
                        error = error.chain(),
                        "the leader lease is not as it was last written"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        let lease = self.read().await?;
        let begun = self.mono_ms();
        let written = match self.leader.look(lease.as_ref(), begun, Timestamp::now()) {
            LeaderStep::Wait { holder } => return Ok(Turn::Stands { holder }),
            LeaderStep::Write(LeaseAction::Create(body)) => {
                self.cluster.post(&self.collection(), &body).await?
            }
            LeaderStep::Write(LeaseAction::Put(body)) => self.cluster.put(&self.path(), &body).await?,
        };
        self.leader.written(begun, parse(self.path(), written)?);
        let memory = lease
            .map(|lease| memories(lease.metadata.annotations))
            .unwrap_or_default();
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
