//! A stream with its two buffers: bytes in, bytes out, one at a time and neither starving the other.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::codec::{READ_CHUNK, WRITE_BATCH};

/// A peer that takes this much counts as making progress.
const PROGRESS: usize = 4 * 1024;
/// How long the end of the stream may take to be sent.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// Idle buffers hold no memory.
pub(crate) struct Wire<S> {
    stream: S,
    pub(crate) input: BytesMut,
    pub(crate) output: BytesMut,
    /// Written into the stream (into TLS), not flushed to the socket yet.
    unflushed: bool,
    read_first: bool,
    /// Since when the peer owes progress, and how much it took since then.
    stalled: Option<(Instant, usize)>,
}

/// What moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Read,
    Wrote,
    /// The peer ended its side.
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            read_first: false,
            stalled: None,
        }
    }

    /// Moves some bytes in either direction; reads only if `reading`. Cancel-safe.
    pub(crate) async fn turn(&mut self, reading: bool) -> io::Result<Moved> {
        if !self.output.is_empty() && self.stalled.is_none() {
            self.stalled = Some((Instant::now(), 0));
        }
        poll_fn(|cx| {
            self.read_first = !self.read_first;
            if self.read_first
                && reading
                && let Poll::Ready(moved) = self.poll_read(cx)
            {
                return Poll::Ready(moved);
            }
            if let Poll::Ready(moved) = self.poll_write(cx) {
                return Poll::Ready(moved);
            }
            if !self.read_first && reading {
                self.poll_read(cx)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Moved>> {
        // Grows by what has arrived, whatever length a packet declares.
        self.input.reserve(READ_CHUNK);
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
        if read.is_pending() && self.input.is_empty() {
            self.input = BytesMut::new();
        }
        read.map_ok(|count| if count == 0 { Moved::End } else { Moved::Read })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Moved>> {
        if !self.output.is_empty() {
            return Pin::new(&mut self.stream)
                .poll_write(cx, &self.output)
                .map(|written| {
                    let count = written?;
                    if count == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    self.wrote(count);
                    Ok(Moved::Wrote)
                });
        }
        if !self.unflushed {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| {
            self.unflushed = false;
            self.stalled = None;
            Moved::Wrote
        })
    }

    fn wrote(&mut self, count: usize) {
        self.output.advance(count);
        self.unflushed = true;
        if self.output.is_empty() && self.output.capacity() > WRITE_BATCH {
            self.output = BytesMut::new();
        }
        self.stalled = match self.stalled {
            Some((since, taken)) if taken + count < PROGRESS => Some((since, taken + count)),
            _ => Some((Instant::now(), 0)),
        };
    }

    /// When the peer must have made progress, if it owes any.
    pub(crate) fn write_deadline(&self, limit: Duration) -> Option<Instant> {
        self.stalled.map(|(since, _)| since + limit)
    }

    /// Whether more may be collected for writing, and so whether packets that cause answers may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.output.len() < WRITE_BATCH
    }

    /// Writes what waits and ends the stream, within a second; a peer that does not take it is left alone.
    pub(crate) async fn finish(mut self) {
        let end = async {
            self.stream.write_all(&self.output).await?;
            self.stream.shutdown().await
        };
        bounded(end).await;
    }

    /// Ends the stream without writing what waits, within a second.
    pub(crate) async fn close(&mut self) {
        bounded(self.stream.shutdown()).await;
    }
}

async fn bounded(end: impl Future<Output = io::Result<()>>) {
    if let Ok(Err(error)) = timeout(SHUTDOWN, end).await {
        tracing::debug!(%error, "the stream did not end cleanly");
    }
}
