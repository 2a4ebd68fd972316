//! Port-forwarding, the same whatever carries it: the server's role, towards `kubectl port-forward`.
//!
//! * [`PortForwards`]: the connections that a client forwards, one by one, over SPDY (raw or through a
//!   [`Tunnel`](crate::websocket::Tunnel)) or over WebSocket channels, two per port.
//! * `pairs`: which data stream belongs to which error stream.

mod pairs;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;

use crate::error::ConnectionError;
use crate::limits::Limits;
use crate::mux::{Activity, Connection, Direction, Gone, Stream};
use crate::remote_command::Output;
use crate::spdy::Session;
use crate::websocket::{ChannelProtocol, Channels, Opening};
use pairs::Pairs;

/// One connection to be forwarded to a port.
pub struct Forward {
    pub port: u16,
    /// Both ways; shut down, it tells the client of the end of one direction (not over WebSocket channels, which cannot). Dropped before
    /// that, it is reset: what becomes of the client's connection when the port's is.
    pub data: Stream,
    /// Text for the person at the client. Dropping it is its end.
    pub error: Output,
}

impl Forward {
    /// Tells why the connection failed and resets it, as the kubelet does for a port that is closed or was reset.
    pub async fn fail(self, message: &str) {
        let Self { data, mut error, .. } = self;
        let told = async {
            error.write_all(message.as_bytes()).await?;
            error.shutdown().await
        };
        if let Err(error) = told.await {
            tracing::debug!(%error, message, "the client was not told");
        }
        drop(data);
    }
}

/// What a client forwards over one connection.
pub struct PortForwards {
    carrier: Carrier,
}

enum Carrier {
    Spdy {
        session: Session,
        pairs: Pairs,
    },
    /// What is forwarded exists from the start.
    Channels {
        connection: Connection,
        forwards: VecDeque<Forward>,
    },
}

/// Why the ports of a WebSocket cannot be forwarded. The kubelet answers 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    #[error("no port is named")]
    None,
    #[error("port 0 cannot be forwarded")]
    Zero,
    /// Each takes two channels, whose numbers are few.
    #[error("{0} ports on one connection")]
    TooMany(usize),
}

impl PortForwards {
    /// Over a SPDY session. A stream whose other half has not come after `pair_within` (the kubelet's: 30 s) is reset.
    pub fn over_spdy(session: Session, pair_within: Duration) -> Self {
        let pairs = Pairs::new(pair_within);
        let carrier = Carrier::Spdy { session, pairs };
        Self { carrier }
    }

    /// Over WebSocket channels: 2i for the data of the i-th port, 2i + 1 for its errors; each begins with a message of the port as two
    /// bytes, the lower one first. One connection per port and WebSocket.
    ///
    /// # Errors
    /// [`PortsError`].
    pub fn over_websocket<T>(
        socket: WebSocketStream<T>,
        protocol: ChannelProtocol,
        ports: &[u16],
        limits: Limits,
    ) -> Result<Self, PortsError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match ports {
            [] => return Err(PortsError::None),
            _ if ports.contains(&0) => return Err(PortsError::Zero),
            _ if 2 * ports.len() > usize::from(protocol.max_channel()) + 1 => {
                return Err(PortsError::TooMany(ports.len()));
            }
            _ => {}
        }
        let opening = |channel, direction, port: u16| Opening {
            channel,
            direction,
            greeting: Some(port.to_le_bytes().to_vec()),
        };
        let openings = (0_u8..).step_by(2).zip(ports).flat_map(|(channel, port)| {
            [
                opening(channel, Direction::Both, *port),
                opening(channel + 1, Direction::Out, *port),
            ]
        });
        let (channels, streams) = Channels::server(socket, protocol, openings.collect(), limits);
        let mut streams = streams.into_iter();
        let mut forwards = VecDeque::new();
        for port in ports {
            if let (Some(data), Some(error)) = (streams.next(), streams.next()) {
                forwards.push_back(forward(*port, data, error));
            }
        }
        let connection = channels.into_connection();
        let carrier = Carrier::Channels { connection, forwards };
        Ok(Self { carrier })
    }

    /// The next connection to forward. Cancelling loses nothing. Several are served at once by tasks of the caller; each has to be read,
    /// or dropped, lest it holds up the others.
    ///
    /// # Errors
    /// Why there are no more: the connection ended, over WebSocket channels also after every port's forward has.
    pub async fn accept(&mut self) -> Result<Forward, ConnectionError> {
        match &mut self.carrier {
            Carrier::Spdy { session, pairs } => loop {
                pairs.expire(Instant::now());
                let stream = tokio::select! {
                    stream = session.accept() => stream?,
                    () = until(pairs.due()) => continue,
                };
                if let Some((port, data, error)) = pairs.add(stream, Instant::now()) {
                    return Ok(forward(port, data, error));
                }
            },
            Carrier::Channels { connection, forwards } => {
                if let Some(forward) = forwards.pop_front() {
                    return Ok(forward);
                }
                connection.shared.quiet().await;
                connection.shared.close();
                Err(connection.gone().wait().await)
            }
        }
    }

    /// Ends what is forwarded in order: see [`Session::close`].
    ///
    /// # Errors
    /// The connection ended before all was written.
    pub async fn close(self) -> Result<(), ConnectionError> {
        match self.carrier {
            Carrier::Spdy { session, .. } => session.close().await,
            Carrier::Channels { connection, .. } => connection.close().await,
        }
    }

    pub fn activity(&self) -> Activity {
        match &self.carrier {
            Carrier::Spdy { session, .. } => session.activity(),
            Carrier::Channels { connection, .. } => connection.activity(),
        }
    }

    pub fn gone(&self) -> Gone {
        match &self.carrier {
            Carrier::Spdy { session, .. } => session.gone(),
            Carrier::Channels { connection, .. } => connection.gone(),
        }
    }
}

fn forward(port: u16, data: Stream, error: Stream) -> Forward {
    // The client says nothing on the error stream.
    let (_, write) = error.into_split();
    let error = Output::new(write);
    Forward { port, data, error }
}

/// Never resolves without a deadline.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
