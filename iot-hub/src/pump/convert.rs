//! Between the endpoint's types and the machine's. Both validate ids by the same rule.

use edge_protocol::{DeviceId, Lane};
use iot_hub_core::{ConnectionId, Hub, Input};
use iot_hub_mqtt::{DownLane, Event, UpLane};

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
