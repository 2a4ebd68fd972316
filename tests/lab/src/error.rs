//! What can go wrong in a lab.

use std::path::PathBuf;
use std::time::Duration;

/// Each variant names the path, process or command that it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, written or removed.
    #[error("{path}", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A command could not be started, or failed; `reason` holds its exit status and the end of its error output.
    #[error("{command}: {reason}")]
    Command { command: String, reason: String },
    /// What was waited for did not happen in time.
    #[error("not within {limit:?}: {what}")]
    Deadline { what: String, limit: Duration },
    /// A process ended while it was needed; `tail` is the end of its log.
    #[error("{name} ended, see {log}: {tail}", log = log.display())]
    Ended {
        name: String,
        log: PathBuf,
        tail: String,
    },
    /// The state file is not one of ours or of another version.
    #[error("state file {path}", path = path.display())]
    State {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// There is a lab in this directory already; `down` removes it.
    #[error("{directory} holds a lab already", directory = directory.display())]
    Taken { directory: PathBuf },
    /// There is no lab in this directory.
    #[error("{directory} holds no lab", directory = directory.display())]
    NoLab { directory: PathBuf },
    /// The lab was started without this part.
    #[error("this lab has no {part}")]
    NoPart { part: String },
    /// A name that cannot be used for a device or a process.
    #[error("{name:?}: {reason}")]
    Name { name: String, reason: &'static str },
    /// Every network number of this machine is claimed by a lab that exists.
    #[error("all {count} lab networks of this machine are in use")]
    NoNetwork { count: u8 },
    /// A certificate could not be made.
    #[error("certificate of {name}")]
    Certificate {
        name: String,
        #[source]
        source: rcgen::Error,
    },
    /// The test images could not be built or pushed.
    #[error("test images")]
    Images(#[source] test_images::Error),
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn no_part(part: impl Into<String>) -> Self {
        Self::NoPart { part: part.into() }
    }
}
