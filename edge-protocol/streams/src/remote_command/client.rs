//! The client's role: an agent's, over SPDY towards its container runtime; a kubelet's, over a pipe towards the agent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::outcome::{Outcome, OutcomeError};
use super::output::Output;
use super::resize::ResizeSender;
use super::{Kind, Options, Role, STREAM_TYPE, pipe};
use crate::error::{ConnectionError, OpenError, StreamError};
use crate::limits::Limits;
use crate::mux::{Activity, Connection, Gone, ReadHalf, Stream, WriteHalf};
use crate::spdy::{Headers, Session};

/// A command that a runtime runs. Each stream is there if it was asked for.
///
/// Read `stdout` and `stderr`, or drop them: what nobody reads holds up the rest, the outcome too.
pub struct Running {
    /// Dropping it is the end of the command's input.
    pub stdin: Option<Output>,
    pub stdout: Option<Received>,
    pub stderr: Option<Received>,
    pub resize: Option<ResizeSender>,
    pub verdict: Verdict,
}

/// Output of the command. The runtime resets its streams when the command has ended (`ServeExec`), so a reset reads as the end; whether
/// it was one in order is told by the [`Verdict`].
#[derive(Debug)]
pub struct Received(ReadHalf);

/// Tells the outcome. Dropped, it drops the connection.
pub struct Verdict {
    connection: Connection,
    error: Option<ReadHalf>,
    status: Vec<u8>,
    /// Writing directions that the runtime does not read. They stay: one dropped unfinished would reset its stream.
    kept: Vec<WriteHalf>,
}

impl Running {
    /// On a connection that was upgraded to SPDY with [`REMOTE_COMMAND`](crate::negotiate::REMOTE_COMMAND): opens the streams in the order
    /// of client-go. The caller gives it a time limit.
    ///
    /// # Errors
    /// [`OpenError`] of the first stream that could not be opened.
    pub async fn start(session: Session, options: Options) -> Result<Self, OpenError> {
        let mut streams = Vec::new();
        for kind in options.kinds() {
            let headers = Headers::new([(STREAM_TYPE, kind.name())]).expect("one short header");
            streams.push((kind, session.open(headers).await?));
        }
        Ok(Self::new(session.into_connection(), streams))
    }

    /// Over a pipe whose other end is [`Command::over_pipe`](super::Command::over_pipe) with the same options; there is no round trip. Dropping
    /// `stdout` or `stderr` tells the server, whose writing fails then.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn over_pipe<T>(io: T, options: Options, limits: Limits) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (connection, streams) = pipe::open(io, Role::Client, options, limits);
        let mut running = Self::new(connection, streams);
        // A pipe's channels have no other directions.
        running.verdict.kept.clear();
        running
    }

    fn new(connection: Connection, streams: Vec<(Kind, Stream)>) -> Self {
        let verdict = Verdict {
            connection,
            error: None,
            status: Vec::new(),
            kept: Vec::new(),
        };
        let mut running = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            resize: None,
            verdict,
        };
        for (kind, stream) in streams {
            running.add(kind, stream);
        }
        running
    }

    fn add(&mut self, kind: Kind, stream: Stream) {
        let (read, write) = stream.into_split();
        match kind {
            Kind::Stdin => {
                self.stdin = Some(Output::new(write));
                return;
            }
            Kind::Resize => {
                self.resize = Some(ResizeSender::new(Output::new(write)));
                return;
            }
            Kind::Stdout => self.stdout = Some(Received(read)),
            Kind::Stderr => self.stderr = Some(Received(read)),
            Kind::Error => self.verdict.error = Some(read),
        }
        self.verdict.kept.push(write);
    }
}

impl Verdict {
    /// Waits for the outcome. Cancelling loses nothing; once there, it is given once.
    ///
    /// # Errors
    /// [`OutcomeError`]: the runtime went without a word, or told none.
    pub async fn outcome(&mut self) -> Result<Outcome, OutcomeError> {
        let mut chunk = [0; 1024];
        let failed = loop {
            let Some(error) = &mut self.error else {
                return Err(OutcomeError::Missing(None));
            };
            match error.read(&mut chunk).await {
                Ok(0) => break None,
                Ok(length) => self.status.extend_from_slice(&chunk[..length]),
                Err(error) => break Some(error),
            }
            if self.status.len() > Outcome::MAX_STATUS {
                return Err(OutcomeError::TooLarge);
            }
        };
        self.error = None;
        let status = std::mem::take(&mut self.status);
        if status.is_empty() {
            return Err(OutcomeError::Missing(failed));
        }
        Outcome::from_status(&status)
    }

    /// Ends the connection: finishes what is open, says so, and waits until the runtime has gone. Give it a time limit; cancelling
    /// drops the connection.
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn close(self) -> Result<(), ConnectionError> {
        let Self { connection, kept, .. } = self;
        let closed = connection.close().await;
        drop(kept);
        closed
    }

    pub fn activity(&self) -> Activity {
        self.connection.activity()
    }

    pub fn gone(&self) -> Gone {
        self.connection.gone()
    }
}

impl AsyncRead for Received {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buffer) {
            Poll::Ready(Err(error)) if matches!(StreamError::of(&error), Some(StreamError::Reset(_))) => {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}
