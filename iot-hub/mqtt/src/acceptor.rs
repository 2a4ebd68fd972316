//! The port: accepts TCP, bounds TLS handshakes, dispatches by ALPN.
//!
//! The accept loop never waits for a peer. A handshake runs in its own task with a deadline; when all places for
//! handshakes are taken, the oldest one that has had its fair time gives way (K3 in rumqttd: one silent connection
//! blocked all others).

mod handshakes;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use self::handshakes::{Handshakes, Place};
use crate::endpoint::EndpointHandle;
use crate::reason::RefuseReason;
use crate::tls::{ALPN_MQTT, PeerCertificates, ServerTls};

/// Limits and times of the port.
#[derive(Clone, Debug)]
pub struct AcceptorOptions {
    /// Connections of all kinds; above it new ones are closed. Keep it above the endpoint's `max_sessions`.
    pub max_connections: usize,
    /// Connections given to the other handler, so that they cannot use up the port.
    pub max_other: usize,
    /// Handshakes at a time.
    pub max_handshakes: usize,
    pub handshake_timeout: Duration,
    /// When all handshake places are taken, one that is older than this gives way to a newer connection.
    pub handshake_grace: Duration,
    /// How long connections may take to end after the stop.
    pub drain_timeout: Duration,
    /// Length of the kernel's queue of connections not accepted yet.
    pub backlog: u32,
}

impl Default for AcceptorOptions {
    fn default() -> Self {
        Self {
            max_connections: 24_576,
            max_other: 2_048,
            max_handshakes: 256,
            handshake_timeout: Duration::from_secs(10),
            handshake_grace: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(8),
            backlog: 4_096,
        }
    }
}

/// A connection that does not speak MQTT, after its handshake.
#[derive(Debug)]
pub struct Accepted {
    pub stream: TlsStream<TcpStream>,
    pub peer: SocketAddr,
    pub certificates: PeerCertificates,
    /// Cancelled when the port stops; the connection is dropped a drain timeout later.
    pub stop: CancellationToken,
}

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A shared asynchronous function that serves every connection whose ALPN is not `mqtt`, or that has none.
#[derive(Clone)]
pub struct OtherHandler(Arc<dyn Fn(Accepted) -> Serving + Send + Sync>);

impl OtherHandler {
    pub fn new<F, R>(serve: F) -> Self
    where
        F: Fn(Accepted) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move |accepted| Box::pin(serve(accepted))))
    }
}

impl fmt::Debug for OtherHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtherHandler")
    }
}

/// The port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    pub address: SocketAddr,
    #[source]
    pub source: io::Error,
}

/// An open port that accepts nothing yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    local: SocketAddr,
    options: AcceptorOptions,
}

impl Bound {
    /// Opens the port; with port 0 the system chooses one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`], also when the address is in use.
    pub fn new(address: SocketAddr, options: AcceptorOptions) -> Result<Self, BindError> {
        let error = |source| BindError { address, source };
        let listener = listen(address, options.backlog).map_err(error)?;
        let local = listener.local_addr().map_err(error)?;
        Ok(Self {
            listener,
            local,
            options,
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Accepts until `stop`, then closes the port, waits for connections to end and drops the rest. MQTT connections
    /// end when the endpoint's own run is stopped, which should be done by the same token. Each handshake uses the
    /// newest value of `tls`.
    pub async fn run(
        self,
        tls: watch::Receiver<ServerTls>,
        endpoint: EndpointHandle,
        other: OtherHandler,
        stop: CancellationToken,
    ) {
        let Self {
            listener, options, ..
        } = self;
        let port = Arc::new(Port {
            connections: Arc::new(Semaphore::new(options.max_connections)),
            others: Arc::new(Semaphore::new(options.max_other)),
            handshakes: Handshakes::new(options.max_handshakes, options.handshake_grace),
            options,
            tls,
            endpoint,
            other,
            stop,
        });
        let mut tasks = JoinSet::new();
        port.accept(&listener, &mut tasks).await;
        drop(listener);
        let all = async { while tasks.join_next().await.is_some() {} };
        if timeout(port.options.drain_timeout, all).await.is_err() {
            tracing::warn!(
                left = tasks.len(),
                "connections did not end in time and are dropped"
            );
            tasks.shutdown().await;
        }
    }
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

struct Port {
    options: AcceptorOptions,
    connections: Arc<Semaphore>,
    others: Arc<Semaphore>,
    handshakes: Handshakes,
    tls: watch::Receiver<ServerTls>,
    endpoint: EndpointHandle,
    other: OtherHandler,
    stop: CancellationToken,
}

impl Port {
    async fn accept(self: &Arc<Self>, listener: &TcpListener, tasks: &mut JoinSet<()>) {
        loop {
            let next = async {
                let accepted = listener.accept().await?;
                Ok::<_, io::Error>((accepted, self.handshakes.place().await))
            };
            let next = tokio::select! {
                () = self.stop.cancelled() => return,
                next = next => next,
            };
            reap(tasks);
            match next {
                Ok(((tcp, peer), place)) => self.take(tcp, peer, place, tasks),
                Err(error) => {
                    // Out of file descriptors, mostly: a pause lets connections end, a loop would spin.
                    tracing::warn!(%error, "accept failed");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, tcp: TcpStream, peer: SocketAddr, place: Place, tasks: &mut JoinSet<()>) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            self.refuse(peer, RefuseReason::Capacity);
            return;
        };
        let port = Arc::clone(self);
        tasks.spawn(async move {
            let _counted: OwnedSemaphorePermit = permit;
            // Boxed, so that the handshake's state is freed before the connection's long life.
            let handshake = Box::pin(port.handshake(tcp, peer, place)).await;
            match handshake {
                Ok(accepted) => port.dispatch(accepted).await,
                Err(reason) => port.refuse(peer, reason),
            }
        });
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        place: Place,
    ) -> Result<Accepted, RefuseReason> {
        let _counted = self.endpoint.metrics().handshake();
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let tls = self.tls.borrow().clone();
        let handshake = TlsAcceptor::from(Arc::clone(&tls.config)).accept(tcp);
        let done = tokio::select! {
            done = timeout(self.options.handshake_timeout, handshake) => done,
            () = place.evicted() => return Err(RefuseReason::HandshakeEvicted),
            () = self.stop.cancelled() => return Err(RefuseReason::Stopping),
        };
        let stream = match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "handshake failed");
                return Err(RefuseReason::Handshake);
            }
            Err(_) => return Err(RefuseReason::Handshake),
        };
        let certificates = tls.peer_certificates(stream.get_ref().1).map_err(|error| {
            tracing::debug!(%peer, %error, "certificate of a resumed session no longer verifies");
            RefuseReason::CertificateNotValid
        })?;
        Ok(Accepted {
            stream,
            peer,
            certificates,
            stop: self.stop.clone(),
        })
    }

    async fn dispatch(&self, accepted: Accepted) {
        let peer = accepted.peer;
        if accepted.stream.get_ref().1.alpn_protocol() == Some(ALPN_MQTT) {
            let Accepted {
                stream,
                peer,
                certificates,
                ..
            } = accepted;
            self.endpoint.serve(stream, peer, certificates).await;
        } else if let Ok(_counted) = self.others.try_acquire() {
            (self.other.0)(accepted).await;
        } else {
            self.refuse(peer, RefuseReason::Capacity);
        }
    }

    fn refuse(&self, peer: SocketAddr, reason: RefuseReason) {
        tracing::debug!(%peer, reason = reason.as_str(), "refused");
        self.endpoint.refused(reason);
    }
}

/// Drops ended tasks and reports those that panicked.
fn reap(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.try_join_next() {
        if let Err(error) = ended {
            tracing::error!(%error, "a connection's task failed");
        }
    }
}
