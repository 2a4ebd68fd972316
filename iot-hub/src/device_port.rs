//! The one port for devices: MQTT by ALPN, else the device API.
//!
//! * [`gate`]: whose certificate it is; asked for MQTT and for every HTTP connection alike.
//! * `enrol`: the one route without a client certificate.
//! * `blobs`: content for devices, scoped to what their own set names.
//! * `tunnel`: where a device's streams come in.
//! * `rate`: attempts per address.
//! * `quota`: connections per address or device. Those without a certificate have few places of their own and a short
//!   life, so that they never take the places of devices.

mod blobs;
mod enrol;
pub(crate) mod gate;
mod quota;
mod rate;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use edge_protocol::DeviceId;
use iot_hub_api::{Problem, ProblemCode};
use iot_hub_mqtt::{Accepted, OtherHandler};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Store;
use crate::ca::Authority;
use crate::pump::PumpHandle;
use crate::rest::problem::Refusal;
use crate::serve::http;
use crate::tunnel::Tunnels;

use quota::Quota;
use rate::{RateLimit, Source};

/// An enrolment request with a generous certificate request.
const MAX_BODY: usize = 16 << 10;
/// Connections without a certificate, a fraction of what the port gives to HTTP; and of one address, behind which a whole
/// site may enrol.
const STRANGERS: usize = 512;
const STRANGERS_EACH: usize = 64;
/// How long a connection without a certificate may live: one enrolment over a slow link.
const STRANGER_LIFE: Duration = Duration::from_mins(1);
/// Connections of devices, and of one device. With the strangers' they are what the port gives to HTTP.
const DEVICES: usize = 1_536;
const DEVICES_EACH: usize = 8;

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
    strangers: Arc<Quota<Source>>,
    devices: Arc<Quota<DeviceId>>,
    /// Held by the one enrolment under way.
    turn: Arc<Semaphore>,
    endpoint: iot_hub_mqtt::EndpointHandle,
    tunnels: Arc<Tunnels>,
}

/// Whose connection it is.
#[derive(Debug, Clone)]
struct Peer {
    address: std::net::SocketAddr,
    /// Whom the client certificate names, if there is one.
    named: Option<gate::Named>,
    /// Cancelled when the port stops.
    stop: CancellationToken,
}

/// What a [`DevicePort`] is made of.
pub(crate) struct Parts {
    pub(crate) pump: PumpHandle,
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority>,
    pub(crate) signing_keys: Vec<String>,
    pub(crate) options: crate::options::DeviceOptions,
    pub(crate) endpoint: iot_hub_mqtt::EndpointHandle,
    pub(crate) tunnels: Arc<Tunnels>,
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
            tunnels,
        } = parts;
        let rate = Arc::new(RateLimit::new(options.enroll_per_minute));
        Self {
            pump,
            store,
            authority,
            signing_keys,
            certificate_days: options.certificate_days,
            rate,
            strangers: Quota::new(STRANGERS, STRANGERS_EACH),
            devices: Quota::new(DEVICES, DEVICES_EACH),
            turn: Arc::new(Semaphore::new(1)),
            endpoint,
            tunnels,
        }
    }

    /// Serves connections that do not speak MQTT.
    pub(crate) fn handler(self) -> OtherHandler {
        let router = Router::new()
            .route("/enroll", post(enrol::enrol))
            .route("/blobs/{digest}", get(blobs::blob))
            .route("/tunnel", get(tunnel::tunnel))
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
        let full = || tracing::debug!(peer = %address, "no place on the device API");
        if certificates.end_entity().is_none() {
            let Some(_place) = self.strangers.take(Source::from(address.ip())) else {
                return full();
            };
            let peer = Peer {
                address,
                named: None,
                stop: stop.clone(),
            };
            let router = router.layer(axum::Extension(peer));
            let served = http::serve_connection(stream, router, stop);
            if tokio::time::timeout(STRANGER_LIFE, served).await.is_err() {
                tracing::debug!(peer = %address, "a connection without a certificate outlived its time");
            }
            return;
        }
        let named = match gate::identify(&self.pump, &certificates).await {
            Ok(named) => named,
            Err(refusal) => {
                tracing::info!(peer = %address, ?refusal, "refused on the device API");
                return;
            }
        };
        let Some(_place) = self.devices.take(named.device.clone()) else {
            return full();
        };
        let peer = Peer {
            address,
            named: Some(named),
            stop: stop.clone(),
        };
        let router = router.layer(axum::Extension(peer));
        if let Some(next) = http::serve_connection(stream, router, stop).await {
            next.await;
        }
    }
}
