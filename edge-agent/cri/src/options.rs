//! Where the runtime listens, and how long it may take.

use std::path::PathBuf;
use std::time::Duration;

/// How a [`CriClient`](crate::CriClient) reaches its runtime.
#[derive(Debug, Clone)]
pub struct CriOptions {
    /// Path of the runtime's unix socket.
    pub socket: PathBuf,
    /// How long each class of call may take.
    pub deadlines: Deadlines,
    /// Largest answer that is decoded, in bytes; a larger one is an error of that call. The kubelet's own limit,
    /// 16 MiB, is the default.
    pub max_message: usize,
}

impl CriOptions {
    /// Options with the default deadlines and limits for the runtime at `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            deadlines: Deadlines::default(),
            max_message: 16 << 20,
        }
    }
}

/// How long each class of call may take, from the first byte sent to the last byte of the answer.
///
/// The defaults for changes follow the kubelet (`runtimeRequestTimeout` 2 min, twice that for a sandbox, because its
/// network plugins run inside the call). Questions have less: a runtime that does not answer those is not well.
#[derive(Debug, Clone)]
pub struct Deadlines {
    /// Connecting to the socket.
    pub connect: Duration,
    /// Version, status, lists, statistics.
    pub query: Duration,
    /// Create, start, remove, update of containers; removal of images. Also added to the grace of a stop and to the
    /// time limit of a command, so that the runtime's own limit strikes first.
    pub change: Duration,
    /// Running, stopping and removing sandboxes.
    pub sandbox: Duration,
    /// Pulling an image. CRI reports no progress, so this bounds the whole pull; containerd keeps the layers that
    /// are complete, so a repeated pull gets further.
    pub pull: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            query: Duration::from_secs(20),
            change: Duration::from_mins(2),
            sandbox: Duration::from_mins(4),
            pull: Duration::from_mins(30),
        }
    }
}
