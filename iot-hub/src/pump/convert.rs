//! Between the machine's types and others': the endpoint's, which validates ids by the same rule, and the store's.

use edge_protocol::{DeviceId, Lane};
use iot_hub_core::{ConnectionId, Hub, Input, Note};
use iot_hub_mqtt::{DownLane, Event, UpLane};
use iot_hub_store::AuditRecord;

/// The endpoint's event as the machine takes it. `None`: a device that the machine does not know (any more), which the
/// gate will not let in again.
pub(super) fn input(hub: &Hub, event: Event) -> Option<Input> {
    Some(match event {
        Event::Connected {
            device, connection, ..
        } => {
            let device = device_in(&device);
            // The gate admitted this serial only; another enrolment in between cuts the connection.
            let enrolment = hub.device(&device)?.record.enrolment;
            Input::Connected {
                device,
                connection: ConnectionId(connection.get()),
                enrolment,
            }
        }
        Event::Message {
            device,
            connection,
            lane,
            bytes,
        } => Input::Frame {
            device: device_in(&device),
            connection: ConnectionId(connection.get()),
            lane: match lane {
                UpLane::Status => Lane::Status,
                UpLane::Bulk => Lane::Bulk,
            },
            bytes: bytes.into(),
        },
        Event::Disconnected {
            device, connection, ..
        } => Input::Disconnected {
            device: device_in(&device),
            connection: ConnectionId(connection.get()),
        },
    })
}

fn device_in(device: &iot_hub_mqtt::DeviceId) -> DeviceId {
    DeviceId::new(device.as_str()).expect("both crates validate device ids by the same rule")
}

pub(crate) fn device_out(device: &DeviceId) -> iot_hub_mqtt::DeviceId {
    iot_hub_mqtt::DeviceId::new(device.as_str()).expect("both crates validate device ids by the same rule")
}

/// The machine sends on down lanes only.
pub(super) fn down_lane(lane: Lane) -> Option<DownLane> {
    match lane {
        Lane::Desired => Some(DownLane::Desired),
        Lane::Command => Some(DownLane::Command),
        Lane::Status | Lane::Bulk => None,
    }
}

/// What goes on record although no caller of the API asked for it.
pub(super) fn cause(note: &Note, at_ms: i64) -> Option<AuditRecord> {
    let Note::TicketRefused { device, why } = note else {
        return None;
    };
    Some(AuditRecord {
        id: 0,
        at_ms,
        principal: format!("device {device}"),
        action: "present-ticket".to_owned(),
        subject: format!("refused: the ticket is {why}"),
    })
}
