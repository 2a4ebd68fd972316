//! Tunnels: one connection per device that it dialled, and its streams.
//!
//! * [`Tunnels`]: which device has one.
//! * `carry`: one tunnel: yamux over a WebSocket. Only the device begins streams, each with a ticket.
//! * `stream`: one stream, and the word that it begins with.
//!
//! Nothing here knows who waits for a stream; the pump gives it to them as the machine says.

mod carry;
mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use edge_protocol::DeviceId;
use tokio_util::sync::CancellationToken;

pub(crate) use carry::{Carrier, config};
pub(crate) use stream::DeviceStream;

use crate::metrics::StreamMetrics;

/// Tunnels at a time, a part of the connections that the port gives to devices.
const TUNNELS: usize = 1_024;

/// Who has a tunnel: at most one per device, the newest.
#[derive(Debug)]
pub(crate) struct Tunnels {
    held: Mutex<Held>,
    metrics: StreamMetrics,
}

#[derive(Debug, Default)]
struct Held {
    by_device: HashMap<DeviceId, (u64, CancellationToken)>,
    last: u64,
}

/// A device's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    tunnels: Arc<Tunnels>,
    device: DeviceId,
    number: u64,
    /// Cancelled when the device is to have this tunnel no more.
    pub(crate) cut: CancellationToken,
}

impl Tunnels {
    pub(crate) fn new(metrics: StreamMetrics) -> Arc<Self> {
        let held = Mutex::default();
        Arc::new(Self { held, metrics })
    }

    /// A place for the device, whose earlier tunnel ends; none if too many devices have one.
    pub(crate) fn enter(self: &Arc<Self>, device: &DeviceId) -> Option<Place> {
        let mut held = self.held.lock().expect("nothing panics under this lock");
        if held.by_device.len() >= TUNNELS && !held.by_device.contains_key(device) {
            return None;
        }
        held.last += 1;
        let (number, cut) = (held.last, CancellationToken::new());
        let former = held.by_device.insert(device.clone(), (number, cut.clone()));
        match former {
            Some((_, former)) => former.cancel(),
            None => self.metrics.tunnel_began(),
        }
        Some(Place {
            tunnels: Arc::clone(self),
            device: device.clone(),
            number,
            cut,
        })
    }

    /// Ends the tunnel of a device, with all its streams.
    pub(crate) fn cut(&self, device: &DeviceId) {
        let held = self.held.lock().expect("nothing panics under this lock");
        if let Some((_, cut)) = held.by_device.get(device) {
            cut.cancel();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.tunnels.held.lock().expect("nothing panics under this lock");
        let own = held.by_device.get(&self.device).map(|(number, _)| *number);
        if own == Some(self.number) {
            held.by_device.remove(&self.device);
            self.tunnels.metrics.tunnel_ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_one_tunnel_the_newest() {
        let tunnels = Tunnels::new(StreamMetrics::default());
        let device = DeviceId::new("press-7").unwrap();
        let first = tunnels.enter(&device).unwrap();
        let second = tunnels.enter(&device).unwrap();
        assert!(first.cut.is_cancelled() && !second.cut.is_cancelled());
        drop(first);
        tunnels.cut(&device);
        assert!(second.cut.is_cancelled(), "the place of the second was kept");
        drop(second);
        assert!(tunnels.held.lock().unwrap().by_device.is_empty());
    }
}
