//! `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use prometheus_client::registry::Registry;

use crate::metrics::Metrics;

#[derive(Clone)]
struct Health {
    metrics: Metrics,
    registry: Arc<Registry>,
}

/// What tells the figures as text, with its content type.
pub(crate) fn text(metrics: &Metrics) -> Arc<dyn Fn() -> (&'static str, String) + Send + Sync> {
    let registry = registry(metrics);
    Arc::new(move || daemon::metrics::text(&registry))
}

fn registry(metrics: &Metrics) -> Registry {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    registry
}

pub(crate) fn router(metrics: Metrics) -> Router {
    let registry = Arc::new(registry(&metrics));
    let health = Health { metrics, registry };
    Router::new()
        // A loop that ends takes the process with it, so a process that answers is alive.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(health)
}

/// A standby is ready to take over; a leader is once it knows both sides of all its nodes.
async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    let Metrics {
        leads, nodes, ready, ..
    } = &health.metrics;
    match (leads.get(), nodes.get() > ready.get()) {
        (0, _) => (StatusCode::OK, "standing by\n"),
        (_, true) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "pods or deployments are not yet known\n",
        ),
        _ => (StatusCode::OK, "ok\n"),
    }
}

async fn metrics_text(State(health): State<Health>) -> Response {
    daemon::metrics::response(&health.registry)
}
