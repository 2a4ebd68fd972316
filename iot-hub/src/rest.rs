//! The REST API, `/api/v1`.
//!
//! * [`problem`]: refusals as RFC 9457 documents, extractors that refuse in this form.
//! * `auth`: bearer tokens → [`Principal`](crate::grant::Principal).
//! * `devices`, `stats`, `deployments`, `keys`, `tokens`, `events`: the routes.
//! * `streams`: what devices do while somebody looks on, over a WebSocket.
//! * `watch`: server-sent events from log and feed.
//! * `view`: the machine's views as API documents.
//! * `validate`: limits on what people type.

mod auth;
mod change;
mod deployments;
mod devices;
mod events;
mod keys;
pub mod problem;
mod stats;
mod streams;
mod tokens;
pub(crate) mod validate;
mod view;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use iot_hub_api::{Problem, ProblemCode, StreamCall};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::Store;
use crate::ca::Authority;
use crate::metrics::StreamMetrics;
use crate::pump::PumpHandle;

use problem::Refusal;

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 1 << 20;
/// That of a deployment: the largest manifest and all the objects that it may have, escaped.
const MAX_DEPLOYMENT: usize = 12 << 20;
/// Requests under way at a time, watches aside.
const MAX_CALLS: usize = 128;
/// Watches at a time.
const MAX_WATCHES: usize = 256;

/// What every route has at hand.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) pump: PumpHandle,
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority>,
    /// Ends watches when the process stops.
    pub(crate) stop: CancellationToken,
    pub(crate) watches: Arc<Semaphore>,
    pub(crate) calls: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) stream_metrics: StreamMetrics,
}

/// What an [`Api`] is made of.
pub(crate) struct Parts {
    pub(crate) pump: PumpHandle,
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority>,
    pub(crate) stop: CancellationToken,
    /// Streams at a time.
    pub(crate) max_streams: usize,
    pub(crate) stream_metrics: StreamMetrics,
}

impl Api {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            pump,
            store,
            authority,
            stop,
            max_streams,
            stream_metrics,
        } = parts;
        let limit = |places| Arc::new(Semaphore::new(places));
        Self {
            pump,
            store,
            authority,
            stop,
            watches: limit(MAX_WATCHES),
            calls: limit(MAX_CALLS),
            streams: limit(max_streams),
            stream_metrics,
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Outrigger hub",
        description = "Devices, deployments and what the devices say. Lists are complete and carry the revision they were read at; \
                       refusals are RFC 9457 problems.",
    ),
    modifiers(&BearerToken),
    components(schemas(StreamCall)),
    security(("token" = [])),
)]
struct Document;

struct BearerToken;

impl utoipa::Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", scheme);
    }
}

fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(devices::list))
        .routes(routes!(devices::one))
        .routes(routes!(devices::set_tags))
        .routes(routes!(devices::set_link))
        .routes(routes!(devices::set_state))
        .routes(routes!(devices::workloads))
        .routes(routes!(devices::forget))
        .routes(routes!(streams::open))
        .routes(routes!(stats::of_device))
        .routes(routes!(deployments::list))
        .routes(
            routes!(deployments::one, deployments::put, deployments::delete)
                .layer(DefaultBodyLimit::max(MAX_DEPLOYMENT)),
        )
        .routes(routes!(deployments::release))
        .routes(routes!(keys::wanted))
        .routes(routes!(keys::put))
        .routes(routes!(deployments::assignments))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(events::list))
        .routes(routes!(events::audit))
        .routes(routes!(watch::watch))
}

/// The OpenAPI document of this build.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().into_openapi()
}

pub(crate) fn router(api: Api) -> Router {
    let (router, document) = routes().split_for_parts();
    let document = Arc::new(document.to_json().expect("the document has only string keys"));
    let serve_document = move || {
        let document = document.to_string();
        async move { ([("content-type", "application/json")], document) }
    };
    router
        .route("/api/v1/openapi.json", get(serve_document))
        .fallback(|| async { Refusal(Problem::new(ProblemCode::NotFound, "there is no such route")) })
        .method_not_allowed_fallback(|| async {
            Refusal(Problem::new(
                ProblemCode::MethodNotAllowed,
                "the route does not know this method",
            ))
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}
