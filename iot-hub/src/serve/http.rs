//! One HTTP/1.1 connection over any stream.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::stall::StallGuard;
use super::upgrade::{Handover, Next};

/// From the end of one request to the end of the next one's headers: how long an idle connection is kept.
const HEADERS: Duration = Duration::from_secs(30);
const MAX_HEADERS: usize = 32 << 10;

/// What a peer is waited for, beside heads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How long a whole body may take to come.
    pub(crate) body: Duration,
    /// How long a peer may take nothing of an answer.
    pub(crate) answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            body: Duration::from_secs(30),
            answer: Duration::from_mins(1),
        }
    }
}

/// Serves requests until the peer leaves; on `stop` the request under way is finished. What is to follow if the last one was an upgrade.
pub(crate) async fn serve_connection<S>(stream: S, router: Router, stop: CancellationToken) -> Option<Next>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_patiently(stream, router, stop, Patience::default()).await
}

async fn serve_patiently<S>(
    stream: S,
    router: Router,
    stop: CancellationToken,
    patience: Patience,
) -> Option<Next>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handover = Handover::default();
    let slot = handover.clone();
    let service = tower::util::ServiceExt::map_request(
        router,
        move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(patience);
            request.extensions_mut().insert(slot.clone());
            request.map(Body::new)
        },
    );
    let stream = StallGuard::new(stream, patience.answer);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
        return None;
    }
    handover.take::<S>().await
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::rest::problem;

    /// More than any pipe below holds.
    const LARGE: usize = 1 << 20;

    fn router() -> Router {
        let take = |problem::Body(_): problem::Body<serde_json::Value>| async {};
        Router::new()
            .route("/take", post(take))
            .route("/give", get(|| async { "x".repeat(LARGE) }))
    }

    /// Says `request` and no more; what became of the connection.
    async fn say(request: &str, reads: bool) -> Vec<u8> {
        let (near, mut far) = tokio::io::duplex(4096);
        let patience = Patience {
            body: Duration::from_millis(50),
            answer: Duration::from_millis(50),
        };
        let served = serve_patiently(near, router(), CancellationToken::new(), patience);
        far.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let limit = Duration::from_secs(10);
        if reads {
            let read = async { far.read_to_end(&mut answer).await };
            let both = async { tokio::join!(served, read) };
            tokio::time::timeout(limit, both).await.unwrap().1.unwrap();
        } else {
            tokio::time::timeout(limit, served).await.unwrap();
        }
        answer
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_ends_the_request() {
        let head =
            "POST /take HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
        let answer = say(head, true).await;
        assert!(
            answer.starts_with(b"HTTP/1.1 400"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_ends_the_connection() {
        say("GET /give HTTP/1.1\r\nhost: a\r\n\r\n", false).await;
    }
}
