//! What can go wrong while images are built and pushed.

use std::path::PathBuf;

/// Each variant names the file, command or request that it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A layer could not be packed.
    #[error("packing {entry} into a layer")]
    Pack {
        entry: String,
        #[source]
        source: std::io::Error,
    },
    /// `cargo build` of the server, or `busybox --list`, could not be run or failed.
    #[error("{command}: {reason}")]
    Command { command: String, reason: String },
    /// The registry could not be reached or the exchange was cut.
    #[error("{request} at {registry}")]
    Exchange {
        registry: String,
        request: String,
        #[source]
        source: std::io::Error,
    },
    /// The registry answered with a status that the distribution API does not foresee for success.
    #[error("{request} at {registry}: status {status}, {body}")]
    Refused {
        registry: String,
        request: String,
        status: u16,
        body: String,
    },
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
