//! What users hold of a stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::Shared;
use crate::spdy::Headers;

/// A stream of a connection, both ways. Errors carry a [`StreamError`](crate::StreamError).
///
/// Shutting it down finishes the writing direction; the peer reads to the end and may go on writing. Dropped before that, it is reset:
/// what was written and not flushed is lost, and the peer gets an error. Dropped after that, what was written still goes out. Flushing
/// waits until what was written is on its way: it leaves before anything that this side says later, as long as the connection is held.
#[derive(Debug)]
pub struct Stream {
    headers: Headers,
    read: ReadHalf,
    write: WriteHalf,
}

/// The reading direction. Dropped, what still comes is discarded; that alone does not reset the stream.
#[derive(Debug)]
pub struct ReadHalf(Half);

/// The writing direction. Dropped without being shut down, it resets the stream, both ways.
#[derive(Debug)]
pub struct WriteHalf(Half);

struct Half {
    shared: Arc<Shared>,
    id: u32,
}

impl std::fmt::Debug for Half {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Half").field(&self.id).finish()
    }
}

impl Stream {
    /// The one handle of a stream that the table has just begun to hold.
    pub(super) fn new(shared: &Arc<Shared>, id: u32, headers: Headers) -> Self {
        let half = || Half {
            shared: Arc::clone(shared),
            id,
        };
        Self {
            headers,
            read: ReadHalf(half()),
            write: WriteHalf(half()),
        }
    }

    /// Its id on the connection: SPDY's stream id, or the number of a WebSocket channel.
    pub fn id(&self) -> u32 {
        self.read.0.id
    }

    /// What it was opened with; WebSocket channels have none.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }
}

impl WriteHalf {
    /// Says that nothing more will be written, without waiting until it is out.
    pub fn finish(&mut self) {
        self.0.shared.finish(self.0.id);
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.shared.poll_read(self.0.id, cx, buffer).map_err(Into::into)
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.shared.poll_write(self.0.id, cx, bytes).map_err(Into::into)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.shared.poll_flush(self.0.id, cx).map_err(Into::into)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.shared.finish(self.0.id);
        self.poll_flush(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        self.0.shared.drop_reader(self.0.id);
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.0.shared.drop_writer(self.0.id);
    }
}
