//! The owner of a connection's two tasks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::shared::Shared;
use crate::error::ConnectionError;

/// Dropped, it ends the tasks and with them every stream ([`ConnectionError::Dropped`]).
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Connection {
    /// Runs the tasks that read and write the connection until it has ended. A peer that broke the protocol is still told.
    pub(crate) fn spawn(
        shared: Arc<Shared>,
        reading: impl Future<Output = ()> + Send + 'static,
        writing: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let (mut ended, mut silenced) = (shared.ended(), shared.ended());
        let (reader, writer) = (
            EndsWithTask(Arc::clone(&shared)),
            EndsWithTask(Arc::clone(&shared)),
        );
        tasks.spawn(async move {
            let _reader = reader;
            tokio::select! {
                () = reading => {}
                _ = ended.wait_for(Option::is_some) => {}
            }
        });
        tasks.spawn(async move {
            let _writer = writer;
            let silent = |reason: &Option<_>| {
                reason
                    .as_ref()
                    .is_some_and(|reason| !ConnectionError::is_told(reason))
            };
            tokio::select! {
                () = writing => {}
                _ = silenced.wait_for(silent) => {}
            }
        });
        Self {
            shared,
            _tasks: tasks,
        }
    }

    /// Finishes every stream, writes what is queued, says that this side goes, and waits until the peer has gone. A caller that does not
    /// trust the peer to go gives it a time limit; dropped, it drops the connection.
    pub(crate) async fn close(self) -> Result<(), ConnectionError> {
        self.shared.close();
        match self.gone().wait().await {
            ConnectionError::Closed => Ok(()),
            reason => Err(reason),
        }
    }

    pub(crate) fn activity(&self) -> Activity {
        Activity(self.shared.touched())
    }

    pub(crate) fn gone(&self) -> Gone {
        Gone(self.shared.ended())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.end(ConnectionError::Dropped);
    }
}

/// A task that ends without having said why, or is ended, must not leave streams that wait for it.
struct EndsWithTask(Arc<Shared>);

impl Drop for EndsWithTask {
    fn drop(&mut self) {
        self.0.end(ConnectionError::Dropped);
    }
}

/// When something last passed on a connection, in either direction. It outlives the connection.
#[derive(Debug, Clone)]
pub struct Activity(watch::Receiver<Instant>);

impl Activity {
    pub fn last(&self) -> Instant {
        *self.0.borrow()
    }

    /// Waits until nothing has passed for as long as `limit`.
    pub async fn idle_for(&self, limit: Duration) {
        loop {
            let due = self.last() + limit;
            if Instant::now() >= due {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// Tells when a connection has ended, to as many as ask.
#[derive(Debug, Clone)]
pub struct Gone(watch::Receiver<Option<ConnectionError>>);

impl Gone {
    /// Waits for the end of the connection; why it ended.
    pub async fn wait(&mut self) -> ConnectionError {
        match self.0.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(ConnectionError::Dropped),
            // The connection and all its streams are no more.
            Err(_) => ConnectionError::Dropped,
        }
    }
}
