//! One stream of the tunnel, as tokio reads and writes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

/// Whether the tunnel is there still. Every stream of it holds one, by which they are counted.
#[derive(Debug, Default)]
pub(super) struct Life {
    over: AtomicBool,
}

impl Life {
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// What passed over a stream.
#[derive(Debug)]
pub struct Traffic {
    began: Instant,
    /// Milliseconds after the beginning.
    last_ms: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Traffic {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// Bytes from the hub, and to it.
    pub fn bytes(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.received), load(&self.sent))
    }

    /// When something passed last, or else when it began.
    pub fn last(&self) -> Instant {
        self.began + std::time::Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    fn count(&self, counter: &AtomicU64, bytes: usize) {
        if bytes > 0 {
            counter.fetch_add(bytes as u64, Ordering::Relaxed);
            let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last_ms.store(passed, Ordering::Relaxed);
        }
    }
}

/// A stream of bytes with an end for each direction. Dropped before both have ended, it is reset.
///
/// A reset, and the end of the tunnel, is an error of reading, where yamux shows the same end as that of the other side's direction. Only once this
/// side has ended its own direction they cannot be told apart, unless it is the tunnel that ended.
#[derive(Debug)]
pub struct TunnelStream {
    inner: Compat<yamux::Stream>,
    life: Arc<Life>,
    traffic: Arc<Traffic>,
    shut: bool,
    ended: bool,
}

impl TunnelStream {
    pub(super) fn new(stream: yamux::Stream, life: Arc<Life>) -> Self {
        Self {
            inner: stream.compat(),
            life,
            traffic: Arc::new(Traffic::new()),
            shut: false,
            ended: false,
        }
    }

    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        if self.life.over.load(Ordering::Relaxed) {
            let lost = io::Error::new(io::ErrorKind::ConnectionAborted, "the tunnel was lost");
            return Err(lost);
        }
        if self.inner.get_ref().is_closed() && !self.shut {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the hub reset the stream",
            ));
        }
        self.ended = true;
        Ok(())
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let count = buffer.filled().len() - before;
        if count == 0 && room > 0 {
            return Poll::Ready(self.end());
        }
        self.traffic.count(&self.traffic.received, count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes)).map_err(broken)?;
        self.traffic.count(&self.traffic.sent, count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.inner).poll_shutdown(cx)).map_err(broken)?;
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}

/// yamux' word for a stream that is over.
fn broken(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WriteZero {
        io::Error::new(io::ErrorKind::BrokenPipe, error)
    } else {
        error
    }
}
