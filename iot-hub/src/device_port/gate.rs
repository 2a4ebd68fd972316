//! The gate: a certificate that chains to our root still has to be the present one of an active device.

use edge_protocol::{DeviceId, EnrolmentSerial, digest};
use iot_hub_core::{DeviceState, Hub};
use iot_hub_mqtt::{Gate, PeerCertificates, Refusal, Serial};
use tokio::sync::OnceCell;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::pump::PumpHandle;

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) device: DeviceId,
    pub(crate) serial: EnrolmentSerial,
}

/// The endpoint's gate. It is made before the pump, which needs the endpoint; until `pump` is set it lets nobody in.
pub(crate) fn gate(pump: std::sync::Arc<OnceCell<PumpHandle>>) -> Gate {
    Gate::new(move |certificates| {
        let pump = pump.get().cloned();
        async move {
            let named = identify(&pump.ok_or(Refusal::Unavailable)?, &certificates).await?;
            let device =
                iot_hub_mqtt::DeviceId::new(named.device.as_str()).map_err(|_| Refusal::UnknownDevice)?;
            let serial = Serial::new(named.serial.as_str()).map_err(|_| Refusal::UnknownDevice)?;
            Ok(iot_hub_mqtt::Identity { device, serial })
        }
    })
}

/// Looks up serial and state anew, after every handshake.
pub(crate) async fn identify(pump: &PumpHandle, certificates: &PeerCertificates) -> Result<Named, Refusal> {
    let named = certificates
        .end_entity()
        .and_then(|der| named(der))
        .ok_or(Refusal::UnknownDevice)?;
    let asked = named.clone();
    let admitted = pump.read(move |reading| admitted(reading.hub, &asked)).await;
    admitted.map_err(|_| Refusal::Unavailable)??;
    Ok(named)
}

/// Whether a certificate is good now. It was when the connection began; a request that comes later is judged by this anew.
pub(crate) fn admitted(hub: &Hub, named: &Named) -> Result<(), Refusal> {
    let record = hub.device(&named.device).map(|view| view.record);
    let record = record.ok_or(Refusal::UnknownDevice)?;
    match record.state {
        _ if record.enrolment != named.serial => Err(Refusal::Revoked),
        DeviceState::Active => Ok(()),
        DeviceState::Disabled | DeviceState::Decommissioned => Err(Refusal::NotAdmitted),
    }
}

fn named(der: &[u8]) -> Option<Named> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else {
        return None;
    };
    let device = DeviceId::new(name.as_str().ok()?).ok()?;
    let serial = EnrolmentSerial::new(digest::hex(certificate.raw_serial())).ok()?;
    Some(Named { device, serial })
}
