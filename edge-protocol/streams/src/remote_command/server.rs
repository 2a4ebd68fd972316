//! The server's role: the kubelet's, towards `kubectl exec` and `attach`.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;

use super::outcome::Outcome;
use super::output::Output;
use super::resize::Resizes;
use super::{Kind, Options, Role, STREAM_TYPE, pipe};
use crate::error::ConnectionError;
use crate::limits::Limits;
use crate::mux::{Activity, Connection, Direction, Gone, ReadHalf, Stream, WriteHalf};
use crate::spdy::Session;
use crate::websocket::{ChannelProtocol, Channels, Opening};

/// A command that a client waits for. Each stream is there if it was asked for.
///
/// Read `stdin` and `resizes`, or drop them: what nobody reads holds up the rest.
pub struct Command {
    /// Ends where the client's input ends; where the protocol cannot say that (before v5 of WebSocket), with an error at the end of the
    /// connection.
    pub stdin: Option<ReadHalf>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    pub resizes: Option<Resizes>,
    pub ending: Ending,
}

/// Tells the outcome. Dropped instead, it drops the connection: the client hears of no outcome.
pub struct Ending {
    connection: Connection,
    error: Option<WriteHalf>,
    outputs: Vec<u32>,
    /// The other directions of the client's own streams. client-go takes their end for the end of its input, so they stay.
    kept: Vec<WriteHalf>,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Status,
    Text,
}

impl Command {
    /// Over SPDY with [`REMOTE_COMMAND`](crate::negotiate::REMOTE_COMMAND): waits until the client has opened the streams. The caller
    /// gives it a time limit (the kubelet's: 30 s).
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn over_spdy(mut session: Session, options: Options) -> Result<Self, ConnectionError> {
        let mut expected: Vec<Kind> = options.kinds().collect();
        let mut streams = Vec::new();
        while !expected.is_empty() {
            let stream = session.accept().await?;
            let kind = stream.headers().get(STREAM_TYPE).unwrap_or_default();
            if let Some(index) = expected.iter().position(|expected| expected.name() == kind) {
                streams.push((expected.swap_remove(index), stream));
            } else {
                tracing::debug!(kind, "a stream that was not asked for is reset");
            }
        }
        let connection = session.into_connection();
        connection.shared.stop_accepting();
        Ok(Self::new(connection, streams, Form::Status))
    }

    /// Over a WebSocket that was made with [`config`](crate::websocket::config). Its first message, an empty one on the first stream
    /// that is written, tells the client that the command has begun.
    pub fn over_websocket<T>(
        socket: WebSocketStream<T>,
        protocol: ChannelProtocol,
        options: Options,
        limits: Limits,
    ) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut kinds: Vec<Kind> = options.kinds().collect();
        kinds.sort();
        let greeted = kinds
            .iter()
            .find(|kind| Role::Server.direction(**kind) == Direction::Out)
            .copied();
        let opening = |kind: &Kind| Opening {
            channel: *kind as u8,
            direction: Role::Server.direction(*kind),
            greeting: (greeted == Some(*kind)).then(Vec::new),
        };
        let openings = kinds.iter().map(opening).collect();
        let (channels, streams) = Channels::server(socket, protocol, openings, limits);
        let form = if protocol.has_status() {
            Form::Status
        } else {
            Form::Text
        };
        let streams = kinds.into_iter().zip(streams).collect();
        Self::new(channels.into_connection(), streams, form)
    }

    /// Over a pipe whose other end is [`Running::over_pipe`](super::Running::over_pipe) with the same options; there is no round trip.
    /// Dropping `stdin` tells the client, whose writing fails then.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn over_pipe<T>(io: T, options: Options, limits: Limits) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (connection, streams) = pipe::open(io, Role::Server, options, limits);
        let mut command = Self::new(connection, streams, Form::Status);
        // A pipe's channels have no other directions.
        command.ending.kept.clear();
        command
    }

    fn new(connection: Connection, streams: Vec<(Kind, Stream)>, form: Form) -> Self {
        let ending = Ending {
            connection,
            error: None,
            outputs: Vec::new(),
            kept: Vec::new(),
            form,
        };
        let mut command = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            resizes: None,
            ending,
        };
        for (kind, stream) in streams {
            command.add(kind, stream);
        }
        command
    }

    fn add(&mut self, kind: Kind, stream: Stream) {
        let id = stream.id();
        let (read, write) = stream.into_split();
        match kind {
            Kind::Stdin => self.stdin = Some(read),
            Kind::Resize => self.resizes = Some(Resizes::new(read)),
            Kind::Stdout | Kind::Stderr => {
                self.ending.outputs.push(id);
                let output = if kind == Kind::Stdout {
                    &mut self.stdout
                } else {
                    &mut self.stderr
                };
                *output = Some(Output::new(write));
                return;
            }
            Kind::Error => {
                self.ending.error = Some(write);
                return;
            }
        }
        self.ending.kept.push(write);
    }
}

impl Ending {
    /// Writes out what stdout and stderr were given, then the outcome, and ends the connection: waits until the client has gone. A caller
    /// gives it a time limit, since a client may not read; cancelling drops the connection.
    ///
    /// # Errors
    /// The connection ended before the client could know.
    pub async fn finish(mut self, outcome: &Outcome) -> Result<(), ConnectionError> {
        // Some clients stop reading at the outcome.
        self.connection.shared.write_out(&self.outputs).await;
        let text = match self.form {
            Form::Status => outcome.to_status(),
            Form::Text => outcome.to_text(),
        };
        if let Some(error) = &mut self.error
            && let Err(error) = error.write_all(text.as_bytes()).await
        {
            tracing::debug!(%error, "the client takes no outcome");
        }
        let Self {
            connection,
            error,
            kept,
            ..
        } = self;
        let closed = connection.close().await;
        // Only now: a writer that is dropped unfinished resets its stream.
        drop((error, kept));
        closed
    }

    pub fn activity(&self) -> Activity {
        self.connection.activity()
    }

    /// Tells when the client has gone; a command that writes nothing would not notice.
    pub fn gone(&self) -> Gone {
        self.connection.gone()
    }
}
