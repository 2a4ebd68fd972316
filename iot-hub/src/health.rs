//! `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use prometheus_client::registry::Registry;

use crate::pump::PumpHandle;

/// A pump that does not answer in this time does not do its work.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Health {
    pump: PumpHandle,
    registry: Arc<Registry>,
}

pub(crate) fn router(pump: PumpHandle, registry: Arc<Registry>) -> Router {
    // Alive and ready are the same here: what the process cannot do without, it ends without.
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(alive))
        .route("/metrics", get(metrics_text))
        .with_state(Health { pump, registry })
}

async fn alive(State(health): State<Health>) -> (StatusCode, &'static str) {
    match tokio::time::timeout(ANSWER, health.pump.read(|_| ())).await {
        Ok(Ok(())) => (StatusCode::OK, "ok\n"),
        Ok(Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the hub's machine does not answer\n",
        ),
    }
}

async fn metrics_text(State(health): State<Health>) -> Response {
    daemon::metrics::response(&health.registry)
}
