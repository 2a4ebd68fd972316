//! Binary messages as a stream of bytes that ends with the WebSocket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::binary::{Binary, Heard};

/// `SPDY/3.1+portforward.k8s.io`: the bytes of a SPDY connection in binary messages, cut anywhere (client-go's `TunnelingConnection`).
/// Either role; the end is a Close with code 1000.
pub struct Tunnel<T> {
    messages: Binary<T>,
    ended: bool,
    closing: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Tunnel<T> {
    pub fn new(socket: WebSocketStream<T>) -> Self {
        Self {
            messages: Binary::new(socket),
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
        while !self.ended {
            match ready!(self.messages.poll_read(cx, buffer))? {
                None => break,
                // The answer to a Close goes out while the end is waited for.
                Some(Heard::Nothing | Heard::Close(_)) => {}
                Some(Heard::End) => self.ended = true,
                Some(Heard::Cut) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.messages.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.messages.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            let (code, reason) = (CloseCode::Normal, Utf8Bytes::default());
            let close = || Message::Close(Some(CloseFrame { code, reason }));
            ready!(self.messages.poll_send(cx, close))?;
            self.closing = true;
        }
        self.poll_flush(cx)
    }
}
