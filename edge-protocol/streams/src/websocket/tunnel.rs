//! Binary messages as a stream of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// Bytes in one message at most.
const CHUNK: usize = 32 * 1024;

/// `SPDY/3.1+portforward.k8s.io`: the bytes of a SPDY connection in binary messages, cut anywhere (client-go's `TunnelingConnection`).
/// Either role; the end is a Close with code 1000.
pub struct Tunnel<T> {
    socket: WebSocketStream<T>,
    /// What is left of the last message.
    left: Bytes,
    ended: bool,
    closing: bool,
}

impl<T> Tunnel<T> {
    pub fn new(socket: WebSocketStream<T>) -> Self {
        Self {
            socket,
            left: Bytes::new(),
            ended: false,
            closing: false,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.left = bytes,
                Some(Ok(Message::Text(_))) => {
                    let error =
                        io::Error::new(io::ErrorKind::InvalidData, "a text message in a tunnel of bytes");
                    return Poll::Ready(Err(error));
                }
                // Its answer goes out while the end is waited for.
                Some(Ok(Message::Close(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => match into_io(error) {
                    Some(error) => return Poll::Ready(Err(error)),
                    None => self.ended = true,
                },
                None => self.ended = true,
            }
        }
        let count = self.left.len().min(buffer.remaining());
        buffer.put_slice(&self.left.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(failed)?;
        let count = bytes.len().min(CHUNK);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        Pin::new(&mut self.socket).start_send(message).map_err(failed)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(failed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(failed)?;
            let (code, reason) = (CloseCode::Normal, Utf8Bytes::default());
            let close = Message::Close(Some(CloseFrame { code, reason }));
            Pin::new(&mut self.socket).start_send(close).map_err(failed)?;
            self.closing = true;
        }
        self.poll_flush(cx)
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
