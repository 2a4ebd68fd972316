//! A writer that cannot lose its tail.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use crate::mux::WriteHalf;

/// A writing direction that dropping finishes: what was written still goes out, then its end.
#[derive(Debug)]
pub struct Output(WriteHalf);

impl Output {
    pub(crate) fn new(write: WriteHalf) -> Self {
        Self(write)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl AsyncWrite for Output {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
