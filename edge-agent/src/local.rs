//! `/healthz`, `/readyz`, `/metrics` and `/streams` on a local socket, which is root's alone: the device has no inbound port.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use edge_agent_core::Note;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::streams::desk::Desk;

/// One local client may take this long for its whole visit.
const VISIT: Duration = Duration::from_secs(5);
/// Local clients served at a time; more wait in the socket's backlog.
const VISITORS: usize = 8;

/// The pause after a visitor who could not be let in.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What the process shows about itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vitals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    decisions: Family<Decision, Counter>,
    session: Gauge,
    looked: AtomicBool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    decision: &'static str,
}

impl Default for Vitals {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("outrigger_agent");
        let decisions = Family::<Decision, Counter>::default();
        registry.register(
            "decisions",
            "Decisions of the machine, by kind",
            decisions.clone(),
        );
        let session = Gauge::default();
        registry.register(
            "session",
            "1 while a session with the hub is established",
            session.clone(),
        );
        Self(Arc::new(Inner {
            registry,
            decisions,
            session,
            looked: AtomicBool::new(false),
        }))
    }
}

impl Vitals {
    /// Counts a decision.
    pub fn note(&self, note: &Note) {
        self.0
            .decisions
            .get_or_create(&Decision {
                decision: note.kind(),
            })
            .inc();
        if let Note::SessionBegan { .. } = note {
            self.0.session.set(1);
        }
    }

    pub fn link_down(&self) {
        self.0.session.set(0);
    }

    /// Whether the runtime answers; the agent is ready to work when it does, with or without a hub.
    pub fn runtime_answers(&self, answers: bool) {
        self.0.looked.store(answers, Ordering::Relaxed);
    }

    fn answer(&self, path: &str) -> (StatusCode, String) {
        match path {
            "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" if self.0.looked.load(Ordering::Relaxed) => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the container runtime does not answer\n".to_owned(),
            ),
            "/metrics" => {
                let mut text = String::new();
                match prometheus_client::encoding::text::encode(&mut text, &self.0.registry) {
                    Ok(()) => (StatusCode::OK, text),
                    Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
                }
            }
            _ => (
                StatusCode::NOT_FOUND,
                "there are /healthz, /readyz, /metrics and /streams\n".to_owned(),
            ),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {path}")]
pub struct LocalError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// A bound socket, not yet served.
#[derive(Debug)]
pub struct LocalServer {
    listener: UnixListener,
    shown: Shown,
}

/// What is served.
#[derive(Debug, Clone)]
struct Shown {
    vitals: Vitals,
    desk: Desk,
}

impl LocalServer {
    /// Binds the socket, for its owner alone. A socket file left by an earlier process is replaced.
    ///
    /// # Errors
    /// [`LocalError`] names the path.
    pub fn bind(path: &Path, vitals: Vitals, desk: Desk) -> Result<Self, LocalError> {
        let error = |source| LocalError {
            path: path.to_owned(),
            source,
        };
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(error(source)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(error)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(error)?;
        let shown = Shown { vitals, desk };
        Ok(Self { listener, shown })
    }

    pub async fn run(self, token: CancellationToken) {
        let mut visits = JoinSet::new();
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                Some(_) = visits.join_next() => {}
                accepted = self.listener.accept(), if visits.len() < VISITORS => {
                    let Ok((stream, _)) = accepted else {
                        // Such as no descriptor left: it would fail again at once.
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                        continue;
                    };
                    let shown = self.shown.clone();
                    visits.spawn(async move {
                        let service = service_fn(|request| std::future::ready(shown.visit(&request)));
                        let visit = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service);
                        // A visitor who breaks off has no one to tell.
                        drop(tokio::time::timeout(VISIT, visit).await);
                    });
                }
            }
        }
    }
}

impl Shown {
    fn visit(&self, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
        let (status, text) = self.answer(request.method(), request.uri().path());
        Response::builder()
            .status(status)
            .body(Full::new(Bytes::from(text)))
    }

    fn answer(&self, method: &Method, path: &str) -> (StatusCode, String) {
        let Some(stream) = path.strip_prefix("/streams") else {
            return self.vitals.answer(path);
        };
        match (method, stream.trim_start_matches('/').split_once('/')) {
            (&Method::GET, None) if stream.is_empty() => match serde_json::to_string(&self.desk.shown()) {
                Ok(text) => (StatusCode::OK, text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            (&Method::POST, Some((id, verb @ ("allow" | "deny")))) => {
                if self.desk.decide(id, verb == "allow") {
                    (StatusCode::OK, String::new())
                } else {
                    (StatusCode::NOT_FOUND, "no such stream asks\n".to_owned())
                }
            }
            _ => (
                StatusCode::NOT_FOUND,
                "there are GET /streams, POST /streams/{id}/allow and POST /streams/{id}/deny\n".to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_follows_the_runtime_and_metrics_count_decisions() {
        let vitals = Vitals::default();
        assert_eq!(vitals.answer("/readyz").0, StatusCode::SERVICE_UNAVAILABLE);
        vitals.runtime_answers(true);
        assert_eq!(vitals.answer("/readyz").0, StatusCode::OK);
        vitals.note(&Note::FrameRefused { why: "x".into() });
        let (_, text) = vitals.answer("/metrics");
        assert!(
            text.contains("outrigger_agent_decisions_total{decision=\"frame_refused\"} 1"),
            "{text}"
        );
    }
}
