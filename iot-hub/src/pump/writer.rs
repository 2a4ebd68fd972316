//! The commit under way: at most one, on a task of its own, so that the machine goes on while the disk works.

use std::time::{Duration, Instant};

use edge_protocol::TxId;
use iot_hub_store::{HubStore as _, Job, StoreError};
use tokio::task::JoinSet;

use crate::Store;

/// A batch that is on disk.
pub(super) struct Done {
    pub(super) txs: Vec<TxId>,
    /// The last one appended, if the batch changed anything that watchers see.
    pub(super) revision: Option<u64>,
    pub(super) took: Duration,
}

pub(super) struct Writer {
    store: Store,
    running: JoinSet<Result<Done, StoreError>>,
}

impl Writer {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            running: JoinSet::new(),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Begins a commit; call only while not busy.
    pub(super) fn begin(&mut self, jobs: Vec<Job>) {
        debug_assert!(!self.is_busy());
        let store = self.store.clone();
        self.running.spawn(async move {
            let begun = Instant::now();
            let txs = super::ids(&jobs);
            let entries = store.commit(jobs).await?;
            let revision = entries.iter().flatten().map(|entry| entry.revision).max();
            Ok(Done {
                txs,
                revision,
                took: begun.elapsed(),
            })
        });
    }

    /// Waits for the commit under way; for ever if there is none. Cancelling loses nothing.
    pub(super) async fn done(&mut self) -> Result<Done, StoreError> {
        match self.running.join_next().await {
            None => std::future::pending().await,
            Some(Ok(done)) => done,
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => unreachable!("the commit is never aborted: {error}"),
            },
        }
    }
}
