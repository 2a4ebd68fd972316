//! One connection: HTTP/1.1, which can be upgraded, or HTTP/2.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Api, Nodes, tls};
use crate::handle;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// From the end of one request to the end of the next one's headers, as the kubelet's `IdleTimeout`.
const HEADERS: Duration = Duration::from_secs(90);
/// A command comes in the query. The HTTP library's own limit for path and query is 64 KiB, and answers 414. HTTP/1 looks at this between
/// reads, so that up to twice as much is held.
const MAX_HEADERS: usize = 128 << 10;
/// Requests at once on a connection of HTTP/2: what Go's server allows.
const MAX_REQUESTS: u32 = 250;
/// A peer that vanished is found out, so that a followed log ends.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

/// What requests of one connection have in common.
#[derive(Clone)]
pub(crate) struct Visit {
    pub(crate) api: Arc<Api>,
    pub(crate) nodes: Nodes,
    /// Streams outlive the HTTP connection that they began on.
    pub(crate) streams: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// The connection's; a stream that it was upgraded to holds it too.
    pub(crate) place: Arc<OwnedSemaphorePermit>,
}

pub(super) async fn serve(tcp: TcpStream, config: Arc<ServerConfig>, visit: Visit) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let handshake = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(tcp));
    let stream = tokio::select! {
        handshake = handshake => handshake,
        () = visit.stop.cancelled() => return,
    };
    match stream {
        Ok(Ok(stream)) => speak(stream, visit).await,
        Ok(Err(error)) => tracing::debug!(%error, "handshake failed"),
        Err(_) => tracing::debug!("handshake timed out"),
    }
}

async fn speak(stream: TlsStream<TcpStream>, visit: Visit) {
    let session = stream.get_ref().1;
    let certificates: Arc<[CertificateDer<'static>]> = session.peer_certificates().unwrap_or_default().into();
    let speaks_h2 = session.alpn_protocol() == Some(tls::ALPN_H2);
    let stop = visit.stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (visit, certificates) = (visit.clone(), Arc::clone(&certificates));
        async move { Ok::<_, Infallible>(handle::answer(request, &visit, &certificates).await) }
    });
    let io = TokioIo::new(stream);
    // Both are driven the same way, and have no type in common.
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = std::pin::pin!($connection);
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }};
    }
    let ended = if speaks_h2 {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(MAX_REQUESTS)
            .max_header_list_size(u32::try_from(MAX_HEADERS).unwrap_or(u32::MAX))
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG);
        drive!(http.serve_connection(io, service))
    } else {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .max_buf_size(MAX_HEADERS);
        drive!(http.serve_connection(io, service).with_upgrades())
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
