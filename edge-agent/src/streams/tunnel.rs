//! The tunnel: one WebSocket on the hub's device port, dialled when a stream is wanted and none is there, closed when no stream has been for a while.
//!
//! yamux makes streams of it, each with a window of its own, so that one that nobody reads holds up no other. One task owns the connection; the
//! device opens all streams, and one that the hub opens is reset.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use edge_streams::websocket::{self, Liveness};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::stream::{Life, TunnelStream};
use crate::dial::{DialError, Endpoint, dial};

/// One endpoint: TCP, TLS and the upgrade. The ticket that a stream is opened for is good for 30 s.
const DIAL: Duration = Duration::from_secs(10);
/// How long a last goodbye may take.
const CLOSE: Duration = Duration::from_secs(2);
/// Streams that yamux knows. It forgets one that is dropped when it has told the hub so, which may take a while; the bound on open ones is the agent's
/// own, and is lower.
const KNOWN: usize = 2048;
/// By how much the windows of all streams together may grow beyond yamux' 256 KiB each.
const GROWTH: usize = 16 << 20;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    #[error("the hub was not reached")]
    Dial(#[from] DialError),
    #[error("the hub at {host}:{port} makes no tunnel")]
    Upgrade {
        host: String,
        port: u16,
        #[source]
        source: Box<tungstenite::Error>,
    },
    #[error("{host}:{port} does not answer within {} s", DIAL.as_secs())]
    Late { host: String, port: u16 },
    #[error("the tunnel was lost")]
    Lost(#[source] yamux::ConnectionError),
    #[error("the agent is stopping")]
    Stopping,
}

/// How the hub is reached.
#[derive(Debug, Clone)]
pub struct TunnelOptions {
    /// At least one, tried in order from the one that served last.
    pub endpoints: Vec<Endpoint>,
    pub tls: Arc<ClientConfig>,
    /// A tunnel that has had no stream for so long is closed.
    pub idle: Duration,
}

type Opened = Result<TunnelStream, Arc<TunnelError>>;

/// Opens streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TunnelHandle(mpsc::Sender<oneshot::Sender<Opened>>);

impl TunnelHandle {
    /// A new stream, which begins with nothing. Dials if need be; the caller gives it a time limit. Cancelling is safe.
    ///
    /// # Errors
    /// [`TunnelError`]: no endpoint answers as a hub.
    pub async fn open(&self) -> Opened {
        let (answer, opened) = oneshot::channel();
        let stopping = || Arc::new(TunnelError::Stopping);
        self.0.send(answer).await.map_err(|_| stopping())?;
        opened.await.map_err(|_| stopping())?
    }
}

/// Owns the connection.
pub struct TunnelTask {
    options: TunnelOptions,
    wanted: mpsc::Receiver<oneshot::Sender<Opened>>,
    /// Of the link: silence of half as much more means that the hub is gone.
    keep_alive: watch::Receiver<Duration>,
    /// The endpoint that served last.
    endpoint: usize,
}

type Carrier = Compat<websocket::Tunnel<TlsStream<TcpStream>>>;

/// What woke the task.
enum Woken {
    /// The connection is over.
    Over(Option<yamux::ConnectionError>),
    Opened(oneshot::Sender<Opened>, yamux::Stream),
    /// Nobody can want a stream any more.
    Unwanted,
    Tick,
}

impl TunnelTask {
    pub fn new(options: TunnelOptions, keep_alive: watch::Receiver<Duration>) -> (Self, TunnelHandle) {
        let (want, wanted) = mpsc::channel(1);
        let task = Self {
            options,
            wanted,
            keep_alive,
            endpoint: 0,
        };
        (task, TunnelHandle(want))
    }

    /// Runs until cancelled, or until nobody can want a stream. What is open then is cut.
    pub async fn run(mut self, token: CancellationToken) {
        let cancelled = token.clone();
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        while let Some(first) = self.wanted.recv().await {
            if first.is_closed() {
                continue;
            }
            match self.dial().await {
                Ok(carrier) => {
                    info!("tunnel up");
                    self.drive(carrier, first).await;
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(DialError::whole);
                    warn!(%error, cause, "no tunnel");
                    let error = Arc::new(error);
                    // Who has waited meanwhile need not wait for the same again.
                    let waiting = std::iter::from_fn(|| self.wanted.try_recv().ok());
                    for answer in std::iter::once(first).chain(waiting) {
                        drop(answer.send(Err(Arc::clone(&error))));
                    }
                }
            }
        }
    }

    /// One try at every endpoint; the last error if all fail.
    async fn dial(&mut self) -> Result<Carrier, TunnelError> {
        let mut failed = TunnelError::Stopping;
        for _ in 0..self.options.endpoints.len() {
            let endpoint = &self.options.endpoints[self.endpoint % self.options.endpoints.len()];
            let late = || TunnelError::Late {
                host: endpoint.host.clone(),
                port: endpoint.port,
            };
            let keep_alive = *self.keep_alive.borrow();
            let upgrade = upgrade(endpoint, Arc::clone(&self.options.tls), keep_alive);
            match tokio::time::timeout(DIAL, upgrade).await {
                Ok(Ok(carrier)) => return Ok(carrier),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = late(),
            }
            self.endpoint = self.endpoint.wrapping_add(1);
        }
        Err(failed)
    }

    async fn drive(&mut self, carrier: Carrier, first: oneshot::Sender<Opened>) {
        let mut connection = yamux::Connection::new(carrier, config(), yamux::Mode::Client);
        let life = Arc::new(Life::default());
        let mut wanting = Some(first);
        let mut tick = tokio::time::interval(self.options.idle / 4);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle_since = None;
        loop {
            let woken = poll_fn(|cx| self.poll(cx, &mut connection, &mut wanting, &mut tick)).await;
            match woken {
                Woken::Over(error) => {
                    life.end();
                    let cause = error.map(|error| error.to_string());
                    info!(cause, "tunnel down");
                    if let Some(answer) = wanting {
                        let lost = TunnelError::Lost(yamux::ConnectionError::Closed);
                        drop(answer.send(Err(Arc::new(lost))));
                    }
                    return;
                }
                Woken::Opened(answer, stream) => {
                    idle_since = None;
                    // Dropped with its answer if nobody waits any more, which resets it.
                    drop(answer.send(Ok(TunnelStream::new(stream, Arc::clone(&life)))));
                }
                Woken::Unwanted => break,
                Woken::Tick => {
                    let now = tokio::time::Instant::now();
                    // One is this task's own.
                    if Arc::strong_count(&life) > 1 {
                        idle_since = None;
                    } else if now.duration_since(*idle_since.get_or_insert(now)) >= self.options.idle {
                        debug!("the tunnel is idle");
                        break;
                    }
                }
            }
        }
        life.end();
        let close = poll_fn(|cx| connection.poll_close(cx));
        match tokio::time::timeout(CLOSE, close).await {
            Ok(Ok(())) => info!("tunnel closed"),
            Ok(Err(error)) => info!(%error, "tunnel closed"),
            Err(_) => info!("the tunnel was left without a goodbye"),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut yamux::Connection<Carrier>,
        wanting: &mut Option<oneshot::Sender<Opened>>,
        tick: &mut Interval,
    ) -> Poll<Woken> {
        loop {
            match connection.poll_next_inbound(cx) {
                // The hub opens no stream towards a device.
                Poll::Ready(Some(Ok(stream))) => drop(stream),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Woken::Over(Some(error))),
                Poll::Ready(None) => return Poll::Ready(Woken::Over(None)),
                Poll::Pending => break,
            }
        }
        if wanting.is_none() {
            match self.wanted.poll_recv(cx) {
                Poll::Ready(None) => return Poll::Ready(Woken::Unwanted),
                Poll::Ready(some) => *wanting = some,
                Poll::Pending => {}
            }
        }
        if wanting.is_some() {
            match connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    if let Some(answer) = wanting.take() {
                        return Poll::Ready(Woken::Opened(answer, stream));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Woken::Over(Some(error))),
                // As many streams wait for the hub's word as may.
                Poll::Pending => {}
            }
        }
        tick.poll_tick(cx).map(|_| Woken::Tick)
    }
}

fn config() -> yamux::Config {
    let mut config = yamux::Config::default();
    // In this order: the window must hold for the streams at any time.
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(KNOWN);
    config.set_max_connection_receive_window(Some(KNOWN * yamux::DEFAULT_CREDIT as usize + GROWTH));
    config
}

async fn upgrade(
    endpoint: &Endpoint,
    tls: Arc<ClientConfig>,
    keep_alive: Duration,
) -> Result<Carrier, TunnelError> {
    let (host, port) = (&endpoint.host, endpoint.port);
    let stream = dial(endpoint, tls).await?;
    let request = format!("wss://{}/tunnel", endpoint.authority());
    let upgraded = client_async_with_config(request, stream, Some(websocket::config())).await;
    let (socket, _answer) = upgraded.map_err(|error| TunnelError::Upgrade {
        host: host.clone(),
        port,
        source: Box::new(error),
    })?;
    let liveness = Liveness {
        ask_after: keep_alive,
        dead_after: keep_alive + keep_alive / 2,
    };
    Ok(websocket::Tunnel::watched(socket, liveness).compat())
}
