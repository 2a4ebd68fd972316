//! The one port for devices: MQTT by ALPN, else the device API.
//!
//! * [`gate`]: whose certificate it is; asked for MQTT and for every HTTP connection alike.
//! * `enrol`: the one route without a client certificate.
//! * `blobs`: content for devices, scoped to what their own set names.
//! * `rate`: attempts per address.

mod blobs;
mod enrol;
pub(crate) mod gate;
mod rate;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use edge_protocol::DeviceId;
use iot_hub_api::{Problem, ProblemCode};
use iot_hub_mqtt::{Accepted, OtherHandler};

use crate::Store;
use crate::ca::Authority;
use crate::pump::PumpHandle;
use crate::rest::problem::Refusal;
use crate::serve::http;

use rate::RateLimit;

/// An enrolment request with a generous certificate request.
const MAX_BODY: usize = 16 << 10;

/// What the device API needs.
#[derive(Clone)]
pub(crate) struct DevicePort {
    pub(crate) pump: PumpHandle,
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority>,
    /// The public keys that sign statements, 32 bytes in hex, the present one first.
    pub(crate) signing_keys: Vec<String>,
    pub(crate) certificate_days: u32,
    rate: Arc<RateLimit>,
    endpoint: iot_hub_mqtt::EndpointHandle,
}

/// Whose connection it is.
#[derive(Debug, Clone)]
struct Peer {
    address: std::net::SocketAddr,
    /// Absent without a client certificate.
    device: Option<DeviceId>,
}

/// What a [`DevicePort`] is made of.
pub(crate) struct Parts {
    pub(crate) pump: PumpHandle,
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority>,
    pub(crate) signing_keys: Vec<String>,
    pub(crate) options: crate::options::DeviceOptions,
    pub(crate) endpoint: iot_hub_mqtt::EndpointHandle,
}

impl DevicePort {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            pump,
            store,
            authority,
            signing_keys,
            options,
            endpoint,
        } = parts;
        let rate = Arc::new(RateLimit::new(options.enroll_per_minute));
        Self {
            pump,
            store,
            authority,
            signing_keys,
            certificate_days: options.certificate_days,
            rate,
            endpoint,
        }
    }

    /// Serves connections that do not speak MQTT.
    pub(crate) fn handler(self) -> OtherHandler {
        let router = Router::new()
            .route("/enroll", post(enrol::enrol))
            .route("/blobs/{digest}", get(blobs::blob))
            .fallback(|| async { Refusal(Problem::new(ProblemCode::NotFound, "there is no such route")) })
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self.clone());
        OtherHandler::new(move |accepted| self.clone().serve(accepted, router.clone()))
    }

    async fn serve(self, accepted: Accepted, router: Router) {
        let Accepted {
            stream,
            peer: address,
            certificates,
            stop,
        } = accepted;
        let device = if certificates.end_entity().is_some() {
            match gate::identify(&self.pump, &certificates).await {
                Ok(identity) => Some(identity.device),
                Err(refusal) => {
                    tracing::info!(peer = %address, ?refusal, "refused on the device API");
                    return;
                }
            }
        } else {
            None
        };
        let router = router.layer(axum::Extension(Peer { address, device }));
        http::serve_connection(stream, router, stop).await;
    }
}
