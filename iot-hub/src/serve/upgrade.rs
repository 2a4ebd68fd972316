//! Connections that HTTP hands over to a WebSocket, as raw as the crates that speak on it want it.
//!
//! A route leaves with the connection what is to follow its HTTP; whoever serves the connection runs that, in the connection's own task.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use iot_hub_api::ProblemCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::stall::StallGuard;
use crate::rest::problem::Refusal;

/// Both directions of a connection, whatever carries it.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(crate) type Socket = WebSocketStream<Box<dyn Duplex>>;

/// What follows on a connection after its HTTP; dropping it closes the connection.
pub(crate) type Next = Pin<Box<dyn Future<Output = ()> + Send>>;

type Then = Box<dyn FnOnce(Box<dyn Duplex>, Bytes) -> Next + Send>;

/// Where a route leaves what is to follow. One per connection.
#[derive(Clone, Default)]
pub(super) struct Handover(Arc<Mutex<Option<(OnUpgrade, Then)>>>);

impl Handover {
    fn leave(&self, upgrade: OnUpgrade, then: Then) {
        let mut left = self.0.lock().expect("nothing panics under this lock");
        *left = Some((upgrade, then));
    }

    /// What was left for this connection, whose HTTP has ended. The limits of HTTP end with it: a peer may now take nothing for as long as it likes.
    pub(super) async fn take<S>(&self) -> Option<Next>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let left = self.0.lock().expect("nothing panics under this lock").take();
        let (upgrade, then) = left?;
        let upgraded: Upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                tracing::debug!(%error, "a connection ended before it was handed over");
                return None;
            }
        };
        let parts = upgraded
            .downcast::<TokioIo<StallGuard<S>>>()
            .expect("it is what this connection was made of");
        Some(then(Box::new(parts.io.into_inner().into_inner()), parts.read_buf))
    }
}

/// A request that wants to become a WebSocket; refuses others.
pub(crate) struct WebSocketUpgrade {
    response: Response,
    offered: Vec<String>,
    upgrade: OnUpgrade,
    handover: Handover,
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade")
            .field("offered", &self.offered)
            .finish_non_exhaustive()
    }
}

impl<S: Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let mut request = Request::new(());
        *request.method_mut() = parts.method.clone();
        *request.version_mut() = parts.version;
        request.headers_mut().clone_from(&parts.headers);
        let response = create_response(&request).map_err(|error| {
            let detail = format!("this route is a WebSocket: {error}");
            Refusal::new(ProblemCode::BadRequest, detail)
        })?;
        let cannot = || Refusal::new(ProblemCode::Internal, "this connection cannot be handed over");
        Ok(Self {
            response: response.map(|()| Body::empty()),
            offered: offered(parts),
            upgrade: parts.extensions.remove().ok_or_else(cannot)?,
            handover: parts.extensions.get().cloned().ok_or_else(cannot)?,
        })
    }
}

/// The subprotocols that the client would speak.
fn offered(parts: &Parts) -> Vec<String> {
    let lines = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    lines
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|name| name.trim().to_owned())
        .collect()
}

impl WebSocketUpgrade {
    pub(crate) fn offers(&self, protocol: &str) -> bool {
        self.offered.iter().any(|offered| offered == protocol)
    }

    /// The answer that agrees; `follow` goes on with the socket once it is sent, and may never run if the client leaves before.
    pub(crate) fn agree<R>(
        mut self,
        protocol: Option<&'static str>,
        config: WebSocketConfig,
        follow: impl FnOnce(Socket) -> R + Send + 'static,
    ) -> Response
    where
        R: Future<Output = ()> + Send + 'static,
    {
        if let Some(protocol) = protocol {
            let protocol = HeaderValue::from_static(protocol);
            let headers = self.response.headers_mut();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let then = move |io: Box<dyn Duplex>, read: Bytes| -> Next {
            Box::pin(async move {
                let socket =
                    WebSocketStream::from_partially_read(io, read.into(), Role::Server, Some(config)).await;
                follow(socket).await;
            })
        };
        self.handover.leave(self.upgrade, Box::new(then));
        self.response
    }
}
