//! Calls that prepare streams to a container.
//!
//! The answer is a URL of the runtime's own HTTP server, good for one connection within a minute (containerd's `request_cache.go`). Who dials
//! it, and what is spoken there, is decided above.

use crate::client::CriClient;
use crate::error::{CriError, Operation};
use crate::v1::{AttachRequest, ExecRequest};

impl CriClient {
    /// Where to run a command in a running container with its streams. Nothing runs before that URL is dialled.
    ///
    /// # Errors
    /// containerd reports a container that does not run as `Failed`, with its state in the detail.
    pub async fn exec(&self, request: ExecRequest) -> Result<String, CriError> {
        let id = request.container_id.clone();
        let operation = Operation::Exec;
        let answer = self.query(operation, &id, self.runtime().exec(request)).await?;
        given(operation, &id, answer.url)
    }

    /// Where to reach the streams of a running container's first process.
    ///
    /// # Errors
    /// As of [`exec`](Self::exec).
    pub async fn attach(&self, request: AttachRequest) -> Result<String, CriError> {
        let id = request.container_id.clone();
        let operation = Operation::Attach;
        let answer = self.query(operation, &id, self.runtime().attach(request)).await?;
        given(operation, &id, answer.url)
    }
}

fn given(operation: Operation, id: &str, url: String) -> Result<String, CriError> {
    if url.is_empty() {
        return Err(CriError::malformed(operation, id, "url"));
    }
    Ok(url)
}
