//! A hub's end of the tunnel: TLS, WebSocket, yamux, and what the device says first on each stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use edge_protocol::v1::{StreamAnswer, StreamOpening, StreamRefusal};
use edge_streams::websocket;
use rustls::ClientConfig;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};

use crate::dial::Endpoint;
use crate::test_tls;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Stream = Compat<yamux::Stream>;

pub(super) struct Hub {
    pub(super) endpoint: Endpoint,
    pub(super) tls: Arc<ClientConfig>,
    streams: mpsc::UnboundedReceiver<Stream>,
    /// One word for each tunnel that was made, and one for each that ended.
    pub(super) tunnels: mpsc::UnboundedReceiver<&'static str>,
    freeze: Arc<Notify>,
    accepting: JoinHandle<()>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Hub {
    pub(super) async fn new() -> Self {
        let (acceptor, tls) = test_tls::pair();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::direct("localhost", listener.local_addr().unwrap().port());
        let (give, streams) = mpsc::unbounded_channel();
        let (tell, tunnels) = mpsc::unbounded_channel();
        let freeze = Arc::new(Notify::new());
        let frozen = Arc::clone(&freeze);
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let stream = acceptor.accept(socket).await.unwrap();
                let socket = tokio_tungstenite::accept_hdr_async(stream, is_tunnel)
                    .await
                    .unwrap();
                tell.send("up").unwrap();
                let carrier = websocket::Tunnel::new(socket).compat();
                let mut connection =
                    yamux::Connection::new(carrier, yamux::Config::default(), yamux::Mode::Server);
                loop {
                    tokio::select! {
                        stream = poll_fn(|cx| connection.poll_next_inbound(cx)) => match stream {
                            Some(Ok(stream)) => drop(give.send(stream.compat())),
                            _ => break,
                        },
                        () = frozen.notified() => std::future::pending().await,
                    }
                }
                let _ = tell.send("down");
            }
        });
        Self {
            endpoint,
            tls,
            streams,
            tunnels,
            freeze,
            accepting,
        }
    }

    /// The hub's process dies.
    pub(super) fn die(&self) {
        self.accepting.abort();
    }

    /// It is there, and neither reads nor writes.
    pub(super) fn freeze(&self) {
        self.freeze.notify_one();
    }

    /// The next stream, and the device's first words on it.
    pub(super) async fn next(&mut self) -> (StreamOpening, Stream) {
        let mut stream = in_time(self.streams.recv()).await.unwrap();
        let opening = async {
            let length = stream.read_u32().await.unwrap();
            let mut json = vec![0; length.try_into().unwrap()];
            stream.read_exact(&mut json).await.unwrap();
            serde_json::from_slice(&json).unwrap()
        };
        let opening = in_time(opening).await;
        (opening, stream)
    }

    pub(super) async fn begun(&mut self) -> Stream {
        let (opening, stream) = self.next().await;
        assert_eq!(opening.answer, StreamAnswer::Begun);
        stream
    }

    /// What was refused, which is also the stream's end.
    pub(super) async fn refused(&mut self) -> (StreamRefusal, String) {
        let (opening, mut stream) = self.next().await;
        let StreamAnswer::Refused { why, message } = opening.answer else {
            panic!("{opening:?}");
        };
        assert_eq!(in_time(stream.read(&mut [0])).await.unwrap(), 0);
        (why, message)
    }

    pub(super) fn has_no_stream(&mut self) -> bool {
        self.streams.is_empty()
    }
}

#[expect(clippy::result_large_err, reason = "the signature of the callback")]
fn is_tunnel(request: &Request, answer: Response) -> Result<Response, ErrorResponse> {
    if request.uri().path() == "/tunnel" {
        Ok(answer)
    } else {
        Err(ErrorResponse::new(None))
    }
}

pub(super) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Until it is so.
pub(super) async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time(waiting).await;
}
