//! The other half of the seam: what a runtime makes for one who waits for it, and looks on.

use std::error::Error;
use std::future::Future;

use edge_protocol::v1::{LogQuery, Stdio, StreamRefusal};
use edge_streams::remote_command::Running;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::logs::LogFault;
use super::{CriRuntime, LogTarget, OpenLog, StreamFault};

/// What serves streams. Clones are handles to the same runtime. It decides nothing: who may have what is decided before.
///
/// What is returned ends with its drop; so does a future that is dropped.
pub trait StreamRuntime: Clone + Send + Sync + 'static {
    type Log: Log;

    /// Runs a command in a container of ours, as it is: no shell sees it.
    ///
    /// # Errors
    /// Nothing runs then.
    fn exec(
        &self,
        container_id: &str,
        command: Vec<String>,
        stdio: Stdio,
    ) -> impl Future<Output = Result<Running, Unserved>> + Send;

    /// The streams of the first process of a container of ours. `tty` is as the container was made.
    ///
    /// # Errors
    /// The container has no such streams, or does not run.
    fn attach(
        &self,
        container_id: &str,
        stdio: Stdio,
    ) -> impl Future<Output = Result<Running, Unserved>> + Send;

    /// A connection to a port, from inside the network of a sandbox of ours.
    ///
    /// # Errors
    /// Nobody listens there, or the sandbox is gone.
    fn connect_to(
        &self,
        sandbox_id: &str,
        port: u16,
    ) -> impl Future<Output = Result<TcpStream, Unserved>> + Send;

    /// Finds a container's log, and where in it the query begins; nothing of it is told yet.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    fn open_log(
        &self,
        target: LogTarget,
        query: &LogQuery,
    ) -> impl Future<Output = Result<Self::Log, Unserved>> + Send;
}

/// A log that was found.
pub trait Log: Send + 'static {
    /// Tells it as log frames, to its end, which is the last of them. A reader that is slow is waited for.
    ///
    /// # Errors
    /// [`LogFault::Unsent`]; any other fault has been told in the last frame.
    fn serve(
        self,
        to: &mut (impl AsyncWrite + Unpin + Send),
    ) -> impl Future<Output = Result<(), LogFault>> + Send;
}

/// A runtime does not serve what was asked: nothing was begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unserved {
    pub why: StreamRefusal,
    /// For whoever asked.
    pub message: String,
}

impl From<LogFault> for Unserved {
    fn from(fault: LogFault) -> Self {
        let why = match fault {
            LogFault::Missing { .. } => StreamRefusal::NotFound,
            _ => StreamRefusal::Failed,
        };
        let message = with_cause(&fault);
        Self { why, message }
    }
}

impl From<StreamFault> for Unserved {
    fn from(fault: StreamFault) -> Self {
        Self {
            why: fault.refusal(),
            message: fault.message(),
        }
    }
}

/// An error with what caused it.
pub(crate) fn with_cause(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl StreamRuntime for CriRuntime {
    type Log = OpenLog;

    async fn exec(
        &self,
        container_id: &str,
        command: Vec<String>,
        stdio: Stdio,
    ) -> Result<Running, Unserved> {
        Ok(self.exec(container_id, command, stdio).await?)
    }

    async fn attach(&self, container_id: &str, stdio: Stdio) -> Result<Running, Unserved> {
        Ok(self.attach(container_id, stdio).await?)
    }

    async fn connect_to(&self, sandbox_id: &str, port: u16) -> Result<TcpStream, Unserved> {
        Ok(self.connect_to(sandbox_id, port).await?)
    }

    async fn open_log(&self, target: LogTarget, query: &LogQuery) -> Result<OpenLog, Unserved> {
        Ok(self.open_log(target, query).await?)
    }
}

impl Log for OpenLog {
    async fn serve(self, to: &mut (impl AsyncWrite + Unpin + Send)) -> Result<(), LogFault> {
        self.serve(to).await
    }
}
