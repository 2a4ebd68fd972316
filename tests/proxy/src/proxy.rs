//! The proxy as a component: options, addresses, and the loop that takes connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authority::{self, Identity};
use crate::control;
use crate::ledger::Ledger;
use crate::relay::{Common, Relay};
use crate::rule::Dialect;
use crate::socket::Socket;
use crate::upstream::{Line, Tasks, Upstream};

const MAX_CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// Where clients come in. The serving certificate is for this address and for `localhost`.
    pub listen: SocketAddr,
    /// Where tests come in: plain HTTP, loopback only.
    pub control: SocketAddr,
    /// `https://host:port` of the real server.
    pub upstream: String,
    /// The certificates (PEM) that the real server is verified against.
    pub upstream_ca: Vec<u8>,
    pub dialect: Dialect,
}

/// Where a running proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    pub proxy: SocketAddr,
    pub control: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("cannot listen at {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the control endpoint has no authentication; {address} is not on loopback")]
    ControlNotLoopback { address: IpAddr },
    #[error("upstream {url}: {problem}")]
    Upstream { url: String, problem: String },
    #[error("{path}", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("the control endpoint failed")]
    Control(#[source] io::Error),
}

/// A proxy that listens and does not answer yet.
pub struct Bound {
    listener: TcpListener,
    control: TcpListener,
    addresses: Addresses,
    upstream: Upstream,
    identity: Identity,
    dialect: Dialect,
}

impl Bound {
    /// Makes the authority and takes both ports.
    ///
    /// # Errors
    /// [`ProxyError`]: a port is taken, the control endpoint would not be on loopback, the upstream's URL or authority is not usable.
    pub async fn new(options: ProxyOptions) -> Result<Self, ProxyError> {
        let ProxyOptions {
            listen,
            control,
            upstream,
            upstream_ca,
            dialect,
        } = options;
        if !control.ip().is_loopback() {
            return Err(ProxyError::ControlNotLoopback {
                address: control.ip(),
            });
        }
        let upstream = Upstream::new(&upstream, &upstream_ca)?;
        let identity = authority::create(listen.ip())?;
        let (listener, proxy) = bind(listen).await?;
        let (control_listener, control) = bind(control).await?;
        let addresses = Addresses { proxy, control };
        Ok(Self {
            listener,
            control: control_listener,
            addresses,
            upstream,
            identity,
            dialect,
        })
    }

    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The certificate of the proxy's own authority; clients must trust it.
    pub fn ca_pem(&self) -> &str {
        &self.identity.ca_pem
    }

    /// Serves until `stop`, then breaks all connections off.
    ///
    /// # Errors
    /// [`ProxyError::Control`].
    pub async fn run(self, stop: CancellationToken) -> Result<(), ProxyError> {
        let tasks = Tasks {
            tracker: TaskTracker::new(),
            stop: stop.clone(),
        };
        let common = Arc::new(Common {
            dialect: self.dialect,
            ledger: Ledger::default(),
            rewriting: Semaphore::new(1),
        });
        let front = Front {
            listener: self.listener,
            acceptor: TlsAcceptor::from(self.identity.tls),
            upstream: self.upstream,
            common: Arc::clone(&common),
            tasks: tasks.clone(),
        };
        let served = tokio::select! {
            () = front.run() => Ok(()),
            served = control::serve(self.control, common.ledger.clone(), stop.clone()) => served,
        };
        stop.cancel();
        tasks.tracker.close();
        if timeout(STOP, tasks.tracker.wait()).await.is_err() {
            tracing::warn!(left = tasks.tracker.len(), "connections did not end in time");
        }
        served.map_err(ProxyError::Control)
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ProxyError> {
    let failed = |source| ProxyError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

struct Front {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    upstream: Upstream,
    common: Arc<Common>,
    tasks: Tasks,
}

impl Front {
    async fn run(self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Some((stream, place)) = self.accept(&places).await {
            let (acceptor, stop) = (self.acceptor.clone(), self.tasks.stop.clone());
            let line = Line::new(self.upstream.clone(), self.tasks.clone());
            let common = Arc::clone(&self.common);
            self.tasks.tracker.spawn(async move {
                let _place = place;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = serve(stream, acceptor, common, line) => {}
                }
            });
        }
    }

    /// The next connection, once there is a place for it; `None` at the end.
    async fn accept(&self, places: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let accept = async {
            let place = Arc::clone(places)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            loop {
                match self.listener.accept().await {
                    Ok((stream, _)) => return (stream, place),
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be taken");
                        // Without a pause, a lack of file descriptors would be asked about without end.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        tokio::select! {
            () = self.tasks.stop.cancelled() => None,
            accepted = accept => Some(accepted),
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, common: Arc<Common>, line: Line) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "small answers may be late");
    }
    let (socket, reset) = Socket::new(stream);
    let stream = match timeout(HANDSHAKE, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a handshake failed"),
        Err(_) => return tracing::debug!("a handshake took too long"),
    };
    let relay = Arc::new(Relay { common, line, reset });
    let service = service_fn(move |request| {
        let relay = Arc::clone(&relay);
        async move { relay.answer(request).await }
    });
    if let Err(error) = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "a connection ended");
    }
}
