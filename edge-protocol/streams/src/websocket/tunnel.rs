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
use super::liveness::Liveness;

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

    /// One that fails when its peer has been silent for long. It is watched while it is read or written; any message counts, and the answer to a
    /// Ping is one. Must be called inside a tokio runtime.
    pub fn watched(socket: WebSocketStream<T>, liveness: Liveness) -> Self {
        let mut tunnel = Self::new(socket);
        tunnel.messages.watch(liveness);
        tunnel
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio::io::{AsyncReadExt as _, DuplexStream};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn pair(liveness: Liveness) -> (Tunnel<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (near, far) = tokio::io::duplex(1024);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        (Tunnel::watched(near, liveness), far)
    }

    #[tokio::test]
    async fn a_peer_that_answers_lives_however_little_it_says() {
        let liveness = Liveness {
            ask_after: Duration::from_millis(10),
            dead_after: PATIENCE,
        };
        let (mut tunnel, mut far) = pair(liveness).await;
        let answering = async {
            for _ in 0..3 {
                let asked = far.next().await.unwrap().unwrap();
                assert!(matches!(asked, Message::Ping(_)), "{asked:?}");
            }
            far.send(Message::Binary(Bytes::from_static(b"x"))).await.unwrap();
        };
        let mut byte = [0];
        let (read, ()) = tokio::join!(tunnel.read_exact(&mut byte), answering);
        assert_eq!((read.unwrap(), byte), (1, *b"x"));
    }

    #[tokio::test]
    async fn a_peer_that_is_silent_is_gone() {
        let liveness = Liveness {
            ask_after: Duration::from_millis(10),
            dead_after: Duration::from_millis(100),
        };
        let (mut tunnel, _far) = pair(liveness).await;
        let read = tokio::time::timeout(PATIENCE, tunnel.read_u8()).await;
        assert_eq!(read.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut tunnel, _far) = pair(liveness).await;
        let write = async {
            let mut buffer = [0; 1024];
            loop {
                buffer[0] = 1;
                if let Err(error) = tokio::io::AsyncWriteExt::write_all(&mut tunnel, &buffer).await {
                    return error.kind();
                }
            }
        };
        let write = tokio::time::timeout(PATIENCE, write).await;
        assert_eq!(write.unwrap(), io::ErrorKind::TimedOut);
    }
}
