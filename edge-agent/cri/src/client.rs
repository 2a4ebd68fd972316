//! The connection, and the one way every call takes through it.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::error::{CriError, Operation};
use crate::options::{CriOptions, Deadlines};
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::v1::{StatusRequest, StatusResponse, VersionRequest, VersionResponse};

/// The id that errors carry when a call is about the runtime as a whole.
pub(crate) const WHOLE_RUNTIME: &str = "-";

/// A handle to one container runtime. Clones share one connection.
#[derive(Debug, Clone)]
pub struct CriClient {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    deadlines: Arc<Deadlines>,
}

impl CriClient {
    /// A client for the runtime at `options.socket`.
    ///
    /// Nothing is connected yet: the first call does, and so does the first call after the connection broke. Must be
    /// called inside a tokio runtime, which drives the connection.
    pub fn new(options: CriOptions) -> Self {
        let CriOptions {
            socket,
            deadlines,
            max_message,
        } = options;
        let socket: Arc<std::path::Path> = socket.into();
        let connect = deadlines.connect;
        let connector = tower::service_fn(move |_: Uri| {
            let socket = Arc::clone(&socket);
            async move {
                // tonic's own connect timeout wraps a connector of its own, not this one.
                tokio::time::timeout(connect, UnixStream::connect(socket))
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
                    .map(TokioIo::new)
            }
        });
        // The authority is required by HTTP/2 and means nothing on a unix socket.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(max_message),
            images: ImageServiceClient::new(channel).max_decoding_message_size(max_message),
            deadlines: Arc::new(deadlines),
        }
    }

    /// Name and version of the runtime; also the cheapest proof that it speaks CRI v1.
    ///
    /// # Errors
    /// `Unimplemented` when the peer is a gRPC server without CRI v1.
    pub async fn version(&self) -> Result<VersionResponse, CriError> {
        let request = VersionRequest {
            version: "v1".to_owned(),
        };
        self.query(Operation::Version, WHOLE_RUNTIME, self.runtime().version(request))
            .await
    }

    /// Conditions and features of the runtime. `info` is filled only by a verbose question; this one is not.
    pub async fn status(&self) -> Result<StatusResponse, CriError> {
        let request = StatusRequest { verbose: false };
        self.query(Operation::Status, WHOLE_RUNTIME, self.runtime().status(request))
            .await
    }

    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    pub(crate) fn images(&self) -> ImageServiceClient<Channel> {
        self.images.clone()
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Runs a call that only asks.
    pub(crate) async fn query<T>(
        &self,
        operation: Operation,
        id: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CriError> {
        within(self.deadlines.query, operation, id, call).await
    }

    /// Runs a call that changes something.
    pub(crate) async fn change<T>(
        &self,
        operation: Operation,
        id: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CriError> {
        within(self.deadlines.change, operation, id, call).await
    }
}

/// Runs `call` under its deadline and gives its failure the name of the operation and the id.
pub(crate) async fn within<T>(
    limit: Duration,
    operation: Operation,
    id: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CriError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CriError::from_status(operation, id, status, limit)),
        Err(_) => Err(CriError::timed_out(operation, id, limit)),
    }
}

/// The outcome of a stop or removal whose object may be gone already. CRI asks runtimes to call that success;
/// containerd 1.6 answers `NotFound` to some of them.
pub(crate) fn absent_is_done<T>(outcome: Result<T, CriError>) -> Result<(), CriError> {
    match outcome {
        Err(error) if !error.is_not_found() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
