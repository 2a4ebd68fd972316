//! Fail points: places in the pump where a test lets the process die as a power cut would.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

/// A place in the pump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailPoint {
    /// The machine asked for a commit; nothing is written.
    BeforeCommit,
    /// It is on disk; nobody was told.
    AfterCommit,
    /// A frame for a device is about to be queued.
    BeforeSend,
}

/// `[fail]` in the configuration: dies at the `hits`-th time the point is reached. For tests only.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailOptions {
    pub point: FailPoint,
    pub hits: u64,
}

#[derive(Debug, Default)]
pub(crate) struct FailPoints {
    armed: Option<FailOptions>,
    seen: AtomicU64,
}

impl FailPoints {
    pub(crate) fn new(armed: Option<FailOptions>) -> Self {
        Self {
            armed,
            seen: AtomicU64::new(0),
        }
    }

    /// Dies here if the test said so.
    pub(crate) fn hit(&self, point: FailPoint) {
        if let Some(armed) = self.armed
            && armed.point == point
            && self.seen.fetch_add(1, Ordering::Relaxed) + 1 == armed.hits
        {
            tracing::error!(?point, "fail point reached");
            std::process::abort();
        }
    }
}
