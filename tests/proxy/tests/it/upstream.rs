//! A server with a list, a watch and an echo in the two dialects, behind TLS.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use futures_util::stream::once;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::BroadcastStream;

pub const FIRST_EVENT: &str = "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\"}}\n";
pub const FIRST_SSE: &str = "id: 1\ndata: {\"revision\":1,\"change\":{\"kind\":\"device\"}}\n\n";

#[derive(Clone)]
struct Shared {
    events: broadcast::Sender<String>,
    /// Method, path and query of each request.
    seen: Arc<Mutex<Vec<String>>>,
}

pub struct Upstream {
    pub url: String,
    pub ca_pem: String,
    shared: Shared,
    serving: JoinHandle<()>,
}

impl Upstream {
    pub async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", tcp.local_addr().unwrap());
        let shared = Shared {
            events: broadcast::channel(64).0,
            seen: Arc::default(),
        };
        let router = Router::new()
            .route("/api/v1/pods", get(pods))
            .route("/api/v1/devices", get(devices))
            .route("/api/v1/watch", get(sse))
            .route("/echo", any(echo))
            .layer(axum::middleware::from_fn_with_state(shared.clone(), note))
            .with_state(shared.clone());
        let listener = Tls {
            tcp,
            acceptor: TlsAcceptor::from(Arc::new(tls)),
        };
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            ca_pem: made.cert.pem(),
            shared,
            serving,
        }
    }

    /// Sends this to all open watches.
    pub fn send(&self, event: &str) {
        self.shared
            .events
            .send(event.to_owned())
            .expect("a watch is open");
    }

    pub fn open_watches(&self) -> usize {
        self.shared.events.receiver_count()
    }

    pub fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn note(State(shared): State<Shared>, request: Request, next: axum::middleware::Next) -> Response {
    shared
        .seen
        .lock()
        .unwrap()
        .push(format!("{} {}", request.method(), request.uri()));
    next.run(request).await
}

async fn pods(State(shared): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    if query.contains_key("watch") {
        return stream("application/json", FIRST_EVENT, &shared);
    }
    Json(json!({
        "kind": "PodList", "apiVersion": "v1",
        "metadata": { "resourceVersion": "700", "continue": "more", "remainingItemCount": 8 },
        "items": [{ "metadata": { "name": "a" } }, { "metadata": { "name": "b" } }],
    }))
    .into_response()
}

async fn devices() -> Response {
    Json(json!({ "revision": 90, "items": [{ "id": "edge" }] })).into_response()
}

async fn sse(State(shared): State<Shared>) -> Response {
    stream("text/event-stream", FIRST_SSE, &shared)
}

fn stream(kind: &'static str, first: &'static str, shared: &Shared) -> Response {
    let later = BroadcastStream::new(shared.events.subscribe()).map(|event| event.unwrap());
    let events = once(async move { first.to_owned() })
        .chain(later)
        .map(Ok::<_, Infallible>);
    ([(CONTENT_TYPE, kind)], Body::from_stream(events)).into_response()
}

/// Status 202, the caller's token as a header, and its body as it comes.
async fn echo(headers: HeaderMap, request: Request) -> Response {
    let token = headers
        .get("authorization")
        .cloned()
        .into_iter()
        .map(|value| ("x-token", value));
    let mut response = Response::new(request.into_body());
    *response.status_mut() = StatusCode::ACCEPTED;
    for (name, value) in token {
        response.headers_mut().insert(name, value);
    }
    response
}

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = self.tcp.accept().await.unwrap();
            // A client that does not trust us ends its handshake; the next may.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
