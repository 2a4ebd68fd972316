//! Serving HTTP/1.1 on the REST and health ports: accept loops that never wait for a peer.

pub(crate) mod http;
mod stall;
pub(crate) mod upgrade;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use upgrade::Next;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long requests may take to end after the stop.
const DRAIN: Duration = Duration::from_secs(5);

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    pub address: SocketAddr,
    #[source]
    pub source: io::Error,
}

/// An open port that accepts nothing yet.
pub(crate) struct Port {
    listener: TcpListener,
    local: SocketAddr,
    /// Each handshake uses the newest value; without it the port speaks plain HTTP.
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    max_connections: usize,
}

impl Port {
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: Option<watch::Receiver<Arc<ServerConfig>>>,
        max_connections: usize,
    ) -> Result<Self, BindError> {
        let error = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(error)?;
        let local = listener.local_addr().map_err(error)?;
        Ok(Self {
            listener,
            local,
            tls,
            max_connections,
        })
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Accepts until `stop`, then lets requests end.
    pub(crate) async fn run(self, router: Router, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.max_connections));
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            while tasks.try_join_next().is_some() {}
            let tcp = match accepted {
                Ok((tcp, _)) => tcp,
                Err(error) => {
                    // Out of file descriptors, mostly: a pause lets connections end, a loop would spin.
                    tracing::warn!(%error, port = %self.local, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // At the limit the connection is closed: a caller that tries again is better off than one that hangs.
            if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                let tls = self
                    .tls
                    .as_ref()
                    .map(|tls| TlsAcceptor::from(Arc::clone(&tls.borrow())));
                let (router, stop) = (router.clone(), stop.clone());
                tasks.spawn(async move {
                    let next = serve(tcp, tls, router, stop).await;
                    // What follows has places of its own: streams that stay for hours must not take those of calls.
                    drop(place);
                    if let Some(next) = next {
                        next.await;
                    }
                });
            }
        }
        drop(self.listener);
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!(left = tasks.len(), port = %self.local, "requests did not end in time and are dropped");
            tasks.shutdown().await;
        }
    }
}

async fn serve(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) -> Option<Next> {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let Some(tls) = tls else {
        return http::serve_connection(tcp, router, stop).await;
    };
    match tokio::time::timeout(HANDSHAKE, tls.accept(tcp)).await {
        Ok(Ok(stream)) => http::serve_connection(stream, router, stop).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, "handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("handshake timed out");
            None
        }
    }
}
