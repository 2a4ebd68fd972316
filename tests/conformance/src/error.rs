//! Why the suite, not a case, failed.

use std::path::{Path, PathBuf};

/// What keeps a case from being played, or the suite from being run.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: {problem}", path.display())]
    Case { path: PathBuf, problem: String },
    #[error("{what}")]
    Cluster {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// A step did not come true in time.
    #[error("after {seconds} s not true on the {side}: {wanted}\n{state}")]
    Deadline {
        side: &'static str,
        wanted: String,
        seconds: u64,
        state: String,
    },
    /// The API server took what a case says that it refuses.
    #[error("the API server takes on the {side} what it should refuse")]
    NotRefused { side: &'static str },
    /// An entry of `faults.yaml` that cannot be planted.
    #[error("fault {fault:?}: {problem}")]
    Fault { fault: String, problem: String },
    #[error("no case is called {0:?}")]
    NoCase(String),
}

impl ConformanceError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// The API server would not, as it is asked for something that may not be.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Cluster { source, .. } = self else {
            return false;
        };
        matches!(&**source, kube::Error::Api(status) if matches!(status.code, 403 | 422))
    }

    pub(crate) fn cluster(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Cluster {
            what,
            source: Box::new(source),
        }
    }
}
