//! Binary messages as pieces of bytes: what carriers of bytes share.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::liveness::{Liveness, Watch};

/// Bytes in one message at most.
const CHUNK: usize = 32 * 1024;

/// A WebSocket, and what is left of its last message.
pub(super) struct Binary<T> {
    socket: WebSocketStream<T>,
    left: Bytes,
    watch: Option<Watch>,
}

/// What came instead of bytes.
pub(super) enum Heard {
    /// A message without bytes.
    Nothing,
    Close(Option<CloseFrame>),
    /// The WebSocket ended in order.
    End,
    /// It ended without a Close.
    Cut,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Binary<T> {
    pub(super) fn new(socket: WebSocketStream<T>) -> Self {
        Self {
            socket,
            left: Bytes::new(),
            watch: None,
        }
    }

    pub(super) fn watch(&mut self, liveness: Liveness) {
        self.watch = Some(Watch::new(liveness));
    }

    /// Asks a peer that has been silent whether it is there.
    ///
    /// # Errors
    /// It has been silent for too long, or the connection failed.
    fn mind(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        while let Poll::Ready(due) = watch.poll(cx) {
            due?;
            // A socket that takes nothing has enough on its way to be answered.
            let ready = Pin::new(&mut self.socket).poll_ready(cx).map_err(failed)?;
            if ready.is_ready() {
                let ping = Message::Ping(Bytes::new());
                Pin::new(&mut self.socket).start_send(ping).map_err(failed)?;
                let _ = Pin::new(&mut self.socket).poll_flush(cx).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Reads bytes into `buffer`: `None` if there were some, or there is no room.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Option<Heard>>> {
        if self.left.is_empty() {
            match ready!(self.poll_message(cx))? {
                Ok(bytes) => self.left = bytes,
                Err(heard) => return Poll::Ready(Ok(Some(heard))),
            }
        }
        let count = self.left.len().min(buffer.remaining());
        buffer.put_slice(&self.left.split_to(count));
        Poll::Ready(Ok(None))
    }

    /// The bytes of the next message, at least one. Pings are answered meanwhile.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Result<Bytes, Heard>>> {
        let heard = loop {
            let Poll::Ready(message) = Pin::new(&mut self.socket).poll_next(cx) else {
                self.mind(cx)?;
                return Poll::Pending;
            };
            if let Some(watch) = &mut self.watch {
                watch.heard();
            }
            match message {
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => break Err(Heard::Nothing),
                Some(Ok(Message::Binary(bytes))) => break Ok(bytes),
                Some(Ok(Message::Text(_))) => {
                    let error =
                        io::Error::new(io::ErrorKind::InvalidData, "a text message in a pipe of bytes");
                    return Poll::Ready(Err(error));
                }
                Some(Ok(Message::Close(frame))) => break Err(Heard::Close(frame)),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(Error::Protocol(ResetWithoutClosingHandshake))) => break Err(Heard::Cut),
                Some(Err(error)) => match into_io(error) {
                    Some(error) => return Poll::Ready(Err(error)),
                    None => break Err(Heard::End),
                },
                None => break Err(Heard::End),
            }
        };
        Poll::Ready(Ok(heard))
    }

    /// Queues the first bytes as a message: how many. None are no message.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let count = bytes.len().min(CHUNK);
        let message = || Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        self.poll_send(cx, message).map_ok(|()| count)
    }

    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        message: impl FnOnce() -> Message,
    ) -> Poll<io::Result<()>> {
        self.mind(cx)?;
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(failed)?;
        let sent = Pin::new(&mut self.socket).start_send(message());
        Poll::Ready(sent.map_err(failed))
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.mind(cx)?;
        Pin::new(&mut self.socket).poll_flush(cx).map_err(failed)
    }
}

/// `None` is the end in order.
fn into_io(error: Error) -> Option<io::Error> {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => None,
        Error::Io(error) => Some(error),
        error => Some(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

fn failed(error: Error) -> io::Error {
    into_io(error).unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
}
