//! The seam to whoever knows the pods of a node and reaches their containers.

use std::sync::Arc;

use bytes::Bytes;
use edge_streams::remote_command::{Options, Running};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::log_options::LogOptions;
use crate::stats::Summary;
use crate::user::User;

/// A pod's object as the API server sent it. `metadata` has namespace, name and UID.
pub type Pod = Arc<Value>;

/// Bytes both ways; shutting it down ends one direction, dropping it before resets.
pub trait BytePipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> BytePipe for T {}

/// A log as it comes. Its end is the log's; an error is told to the reader, who has what came before.
pub type LogStream = BoxStream<'static, Result<Bytes, StreamsError>>;

/// One of a node's pods, which exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTarget {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// A container that the pod's spec names: an ordinary, init or ephemeral one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerTarget {
    pub pod: PodTarget,
    pub container: String,
}

/// The pods of one node. Every call may be cancelled by dropping its future; what it began then ends.
///
/// A call that waits for something far away has its own time limit and says [`StreamsError::Unavailable`] at the end of it.
pub trait PodStreams: Send + Sync + 'static {
    /// The pod of this name that is bound to the node. Does not wait.
    fn pod(&self, namespace: &str, name: &str) -> Option<Pod>;

    /// All pods bound to the node. Does not wait.
    fn pods(&self) -> Vec<Pod>;

    /// The pods that run by the word of whoever runs them: one that is being deleted goes when its containers have.
    fn running_pods(&self) -> BoxFuture<'_, Result<Vec<Pod>, StreamsError>>;

    /// Starts `command` in a container, no shell around it; `who` is told to whoever keeps a record. What is in `options` is there in the
    /// command's streams.
    fn exec(
        &self,
        target: ContainerTarget,
        command: Vec<String>,
        options: Options,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<Running, StreamsError>>;

    /// Joins the first process of a container. `options.tty` is as the container's spec has it.
    fn attach(
        &self,
        target: ContainerTarget,
        options: Options,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<Running, StreamsError>>;

    /// One TCP connection to a port of the pod, from inside its network.
    fn port_forward(
        &self,
        pod: PodTarget,
        port: u16,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<Box<dyn BytePipe>, StreamsError>>;

    /// What a container wrote, as asked for: chosen, cut and with times before lines already.
    fn logs(
        &self,
        target: ContainerTarget,
        options: LogOptions,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<LogStream, StreamsError>>;

    /// What node and pods use. Figures may be old: each has its time.
    fn stats(&self) -> BoxFuture<'_, Result<Arc<Summary>, StreamsError>>;

    /// What a client is told when a command's streams end and nobody knows how it went.
    fn lost(&self) -> &'static str {
        "the link to the container was lost"
    }

    /// Whether whatever keeps the node goes on, as the check `syncloop` of `/healthz` tells; the words are for the log.
    ///
    /// # Errors
    /// Why not.
    fn keeps_on(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Why something of a pod cannot be had. The words go to the client as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamsError {
    /// No such container where the pod runs.
    #[error("{message}")]
    NotFound { message: String },
    /// The container does not run, or has no such log.
    #[error("{message}")]
    NotRunning { message: String },
    /// Whoever runs the pod does not allow it.
    #[error("{message}")]
    Forbidden { message: String },
    /// As many streams are open as somebody allows.
    #[error("{message}")]
    Busy { message: String },
    /// Whoever runs the pod is out of reach.
    #[error("{message}")]
    Unavailable { message: String },
    /// It cannot be done there at all.
    #[error("{message}")]
    Unsupported { message: String },
    /// It was tried, and did not work.
    #[error("{message}")]
    Failed { message: String },
}

impl StreamsError {
    /// The status of an answer, as `streaming.WriteError` of the kubelet has it where it knows the case.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::NotRunning { .. } | Self::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
