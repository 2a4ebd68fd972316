//! Keeps the logs of containers from growing for ever.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::runtime::CriRuntime;

/// As the kubelet (`containerLogMonitorInterval`).
const EVERY: Duration = Duration::from_secs(10);

/// Sole owner of the rhythm.
pub(crate) struct LogsTask {
    pub(crate) runtime: CriRuntime,
}

impl LogsTask {
    pub(crate) async fn run(self, token: CancellationToken) {
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = self.runtime.tend_logs().await {
                debug!(%error, "logs are not rotated: the container runtime does not say what runs");
            }
        }
    }
}
