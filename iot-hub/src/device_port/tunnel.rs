//! `GET /tunnel`: a WebSocket that carries the streams of the device whose certificate it is.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use iot_hub_api::ProblemCode;

use super::{DevicePort, Peer, gate};
use crate::rest::problem::Refusal;
use crate::serve::upgrade::WebSocketUpgrade;
use crate::tunnel::{Carrier, config};

pub(super) async fn tunnel(
    State(port): State<DevicePort>,
    Extension(peer): Extension<Peer>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let named = peer
        .named
        .ok_or_else(|| Refusal::new(ProblemCode::Unauthenticated, "show the device's certificate"))?;
    let (asked, tunnels) = (named.clone(), Arc::clone(&port.tunnels));
    // Between two steps of the machine: what it cuts afterwards finds the tunnel in its place.
    let entered = port.pump.read(move |reading| {
        gate::admitted(reading.hub, &asked)?;
        let link = reading.hub.device(&asked.device).map(|view| view.record.link);
        Ok(tunnels.enter(&asked.device).zip(link))
    });
    let entered = entered.await?.map_err(|_: iot_hub_mqtt::Refusal| {
        Refusal::new(ProblemCode::Forbidden, "the device is not admitted (any more)")
    })?;
    let (place, link) = entered.ok_or_else(|| {
        Refusal::new(
            ProblemCode::TooManyRequests,
            "as many devices have a tunnel as the hub allows",
        )
    })?;
    let carrier = Carrier {
        pump: port.pump,
        device: named.device,
        enrolment: named.serial,
        deadline: Duration::from_millis(link.deadline_ms()),
        place,
        stop: peer.stop,
    };
    Ok(upgrade.agree(None, config(), move |socket| Arc::new(carrier).carry(socket)))
}
