//! What can go wrong in a measurement.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Lab(#[from] lab::Error),
    #[error(transparent)]
    Site(#[from] site::SiteError),
    /// The API server refused or did not answer.
    #[error("{what}")]
    Cluster {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path}", path = path.display())]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// `missing` names the pods that it was waited for, `state` says what the API server knew of the first of them.
    #[error("not {wanted} within {limit:?}: {missing}\n{state}")]
    Deadline {
        wanted: &'static str,
        limit: Duration,
        missing: String,
        state: String,
    },
    /// A burst would wait for ever.
    #[error("node {node} takes {room} pods, and {pods} are to run on it at a time")]
    NoRoom { node: String, room: u32, pods: u32 },
    /// Memory with fewer pods than asked for would flatter.
    #[error("of {side}: {failed} pods are not Ready")]
    NotAllReady { side: &'static str, failed: usize },
    /// What is not whole is not measured.
    #[error("{what} of pod {pod}: {why}")]
    Stream {
        what: &'static str,
        pod: String,
        why: String,
    },
    /// The watch of the pods ended, which it does only with its task.
    #[error("the watch of the pods ended")]
    WatchEnded,
    #[error("{path}", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file of `/proc` or the output of a tool that is not as documented.
    #[error("{path}: {problem}")]
    Unreadable { path: String, problem: &'static str },
    /// A process that is measured does not run.
    #[error("{process} does not run")]
    NotRunning { process: String },
    /// Another measurement runs; two would disturb each other.
    #[error("another measurement holds {path}", path = path.display())]
    Busy { path: PathBuf },
}

impl BenchError {
    /// For `map_err` on file operations.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// For `map_err` on requests.
    pub(crate) fn cluster(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Cluster {
            what,
            source: Box::new(source),
        }
    }
}
