//! Binary messages as a pipe of bytes whose directions end apart.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::binary::{Binary, Heard};

/// A WebSocket as a pipe, either role: binary messages are bytes, cut anywhere, and an empty one ends its direction. Shutting down sends
/// that; the other direction goes on. Dropped before, it is an error of reading for the peer, as is a Close.
///
/// Pings are answered while the pipe is read, and after the peer's end while it is written.
pub struct Pipe<T> {
    messages: Binary<T>,
    /// The peer has ended its direction.
    ended: bool,
    /// This side has ended its own.
    finished: bool,
}

/// Why a pipe ended before its bytes. It travels inside an [`io::Error`]: [`PipeError::of`] finds it there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PipeError {
    /// The code and reason of the Close, if it had any; the reason is the peer's text.
    #[error("the peer closed the pipe before its end ({code:?}, {reason:?})")]
    Closed { code: Option<u16>, reason: String },
    #[error("the pipe was cut")]
    Cut,
    #[error("the peer sent bytes after their end")]
    AfterEnd,
}

impl PipeError {
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    fn closed(frame: Option<CloseFrame>) -> io::Error {
        let code = frame.as_ref().map(|frame| frame.code.into());
        let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
        Self::Closed { code, reason }.into()
    }
}

impl From<PipeError> for io::Error {
    fn from(error: PipeError) -> Self {
        let kind = match error {
            PipeError::Closed { .. } => io::ErrorKind::ConnectionAborted,
            PipeError::Cut => io::ErrorKind::ConnectionReset,
            PipeError::AfterEnd => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Pipe<T> {
    /// Of a WebSocket that was made with [`config`](super::config).
    pub fn new(socket: WebSocketStream<T>) -> Self {
        Self {
            messages: Binary::new(socket),
            ended: false,
            finished: false,
        }
    }

    /// After the peer's end nobody reads, but pings want answers, and a peer that goes wants no more bytes.
    fn poll_aside(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.ended {
            let mut byte = [0];
            match self.messages.poll_read(cx, &mut ReadBuf::new(&mut byte)) {
                Poll::Pending => break,
                Poll::Ready(Ok(Some(Heard::Nothing))) => {}
                Poll::Ready(Ok(None)) => return Err(PipeError::AfterEnd.into()),
                Poll::Ready(Ok(Some(Heard::Close(frame)))) => return Err(PipeError::closed(frame)),
                Poll::Ready(Ok(Some(Heard::End | Heard::Cut))) => return Err(PipeError::Cut.into()),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Pipe<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        match ready!(self.messages.poll_read(cx, buffer))? {
            None => {}
            Some(Heard::Nothing) => self.ended = true,
            Some(Heard::Close(frame)) => return Poll::Ready(Err(PipeError::closed(frame))),
            Some(Heard::End | Heard::Cut) => return Poll::Ready(Err(PipeError::Cut.into())),
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Pipe<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.poll_aside(cx)?;
        self.messages.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            self.poll_aside(cx)?;
        }
        self.messages.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            ready!(self.messages.poll_send(cx, || Message::Binary(Bytes::new())))?;
            self.finished = true;
        }
        self.messages.poll_flush(cx)
    }
}
