//! A pipe that tells how it fares to whoever holds its [`Activity`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What passed through a pipe, and when. Times count from its beginning.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    read: AtomicU64,
    written: AtomicU64,
    read_at_ms: AtomicU64,
    written_at_ms: AtomicU64,
    over: AtomicBool,
}

impl Activity {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            read_at_ms: AtomicU64::new(0),
            written_at_ms: AtomicU64::new(0),
            over: AtomicBool::new(false),
        })
    }

    /// Bytes that came, and bytes that went.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (
            self.read.load(Ordering::Relaxed),
            self.written.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Since something came.
    pub(crate) fn silence(&self) -> Duration {
        self.since(self.read_at_ms.load(Ordering::Relaxed))
    }

    /// Since something came or went.
    pub(crate) fn idleness(&self) -> Duration {
        let written_at = self.written_at_ms.load(Ordering::Relaxed);
        self.since(written_at.max(self.read_at_ms.load(Ordering::Relaxed)))
    }

    /// Whether nothing comes any more: the pipe ended, failed, or is given up.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    fn since(&self, at_ms: u64) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(at_ms))
    }

    fn moved(&self, count: usize, sum: &AtomicU64, at_ms: &AtomicU64) {
        sum.fetch_add(count as u64, Ordering::Relaxed);
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        at_ms.store(now, Ordering::Relaxed);
    }
}

/// A pipe with its [`Activity`].
#[derive(Debug)]
pub(crate) struct Watched<T> {
    pipe: T,
    activity: Arc<Activity>,
}

impl<T> Watched<T> {
    pub(crate) fn new(pipe: T) -> Self {
        let activity = Activity::new();
        Self { pipe, activity }
    }

    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (into.filled().len(), into.remaining());
        let step = Pin::new(&mut self.pipe).poll_read(context, into);
        let count = into.filled().len() - before;
        let activity = &self.activity;
        match &step {
            Poll::Ready(Ok(())) if count > 0 => activity.moved(count, &activity.read, &activity.read_at_ms),
            Poll::Ready(Ok(())) if room == 0 => {}
            Poll::Ready(_) => activity.end(),
            Poll::Pending => {}
        }
        step
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let step = Pin::new(&mut self.pipe).poll_write(context, bytes);
        let activity = &self.activity;
        match &step {
            Poll::Ready(Ok(count)) => activity.moved(*count, &activity.written, &activity.written_at_ms),
            Poll::Ready(Err(_)) => activity.end(),
            Poll::Pending => {}
        }
        step
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(context)
    }
}
