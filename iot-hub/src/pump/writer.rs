//! The commit under way: at most one, on a task of its own, so that the machine goes on while the disk works.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_protocol::v1::DeviceEvent;
use edge_protocol::{DeviceId, TxId};
use iot_hub_core::{Change, Write};
use iot_hub_store::{HubStore as _, Job, LogEntry, StoreError};
use tokio::task::JoinSet;

use crate::Store;
use crate::feed::Recent;

/// A batch that is on disk.
pub(super) struct Done {
    pub(super) txs: Vec<TxId>,
    /// What it appended to the log, in order.
    pub(super) entries: Vec<Recent>,
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
            let mut events = events(&jobs);
            let entries = store.commit(jobs).await?;
            let recent = |entry: LogEntry| Recent {
                revision: entry.revision,
                event: match &entry.change {
                    Change::DeviceEvent { device, seq } => events.remove(&(device.clone(), *seq)),
                    _ => None,
                },
                change: entry.change,
            };
            Ok(Done {
                txs,
                entries: entries.into_iter().flatten().map(recent).collect(),
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

/// The events that a batch writes, for those who watch.
fn events(jobs: &[Job]) -> BTreeMap<(DeviceId, u64), Arc<DeviceEvent>> {
    let writes = jobs.iter().flat_map(|job| &job.tx.writes);
    let events = writes.filter_map(|write| match write {
        Write::PutEvent { device, event } => Some(((device.clone(), event.seq), Arc::new(event.clone()))),
        _ => None,
    });
    events.collect()
}
