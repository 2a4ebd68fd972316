//! The topics of one device, and what that device may do with them.
//!
//! Topics are compared byte by byte against the few that a device has, so wildcards, `$…`, multibyte or empty topics
//! need no rules of their own: they are simply none of these (K5 in rumqttd sliced such a topic and panicked).

use bytes::{Bytes, BytesMut};
use rumqttd::protocol::QoS;

use crate::ids::DeviceId;

/// Lanes from device to hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpLane {
    /// `dev/<id>/s`: status and liveness; goes before bulk.
    Status,
    /// `dev/<id>/b`: bulk.
    Bulk,
}

/// Lanes from hub to device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DownLane {
    /// `dev/<id>/c`: commands; go before desired sets.
    Command,
    /// `dev/<id>/d`: desired sets.
    Desired,
}

impl DownLane {
    fn suffix(self) -> u8 {
        match self {
            Self::Command => b'c',
            Self::Desired => b'd',
        }
    }
}

/// The last message a device asked to be told about it. Kept by the endpoint, told to the hub, never routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// The topic below `dev/<id>/`, printable ASCII, at most 64 bytes.
    pub subtopic: String,
    pub payload: Bytes,
}

/// The topics of one device, derived from its id.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    device: DeviceId,
}

impl Topics {
    pub(crate) fn of(device: DeviceId) -> Self {
        Self { device }
    }

    /// The lane that the device may publish to by this topic, if it may.
    pub(crate) fn publish(&self, topic: &[u8]) -> Option<UpLane> {
        match self.below(topic)? {
            b"s" => Some(UpLane::Status),
            b"b" => Some(UpLane::Bulk),
            _ => None,
        }
    }

    /// The lanes that this filter opens, if the device may use it.
    pub(crate) fn subscribe(&self, filter: &str) -> Option<Filter> {
        match self.below(filter.as_bytes())? {
            b"c" => Some(Filter::Command),
            b"d" => Some(Filter::Desired),
            b"#" => Some(Filter::All),
            _ => None,
        }
    }

    /// The will topic's part below `dev/<id>/`, if the device may have it.
    pub(crate) fn will(&self, topic: &[u8]) -> Option<String> {
        let sub = self.below(topic)?;
        let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'+' | b'#' | b'$');
        let valid = (1..=64).contains(&sub.len()) && sub.iter().all(plain);
        // The check above leaves ASCII only, so the conversion cannot fail.
        if valid {
            String::from_utf8(sub.to_vec()).ok()
        } else {
            None
        }
    }

    /// Length of a topic of this device, `dev/<id>/x`.
    pub(crate) fn len(&self) -> usize {
        self.device.as_str().len() + 6
    }

    /// Appends the topic of a down lane, [`Topics::len`] bytes.
    pub(crate) fn put_down(&self, lane: DownLane, out: &mut BytesMut) {
        out.extend_from_slice(b"dev/");
        out.extend_from_slice(self.device.as_str().as_bytes());
        out.extend_from_slice(&[b'/', lane.suffix()]);
    }

    fn below<'t>(&self, topic: &'t [u8]) -> Option<&'t [u8]> {
        topic
            .strip_prefix(b"dev/")?
            .strip_prefix(self.device.as_str().as_bytes())?
            .strip_prefix(b"/")
    }
}

/// A filter that a device may subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Command,
    Desired,
    All,
}

/// What a device is subscribed to: at most the three filters it may use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Subscriptions {
    command: Option<QoS>,
    desired: Option<QoS>,
    all: Option<QoS>,
}

impl Subscriptions {
    pub(crate) fn set(&mut self, filter: Filter, qos: Option<QoS>) {
        match filter {
            Filter::Command => self.command = qos,
            Filter::Desired => self.desired = qos,
            Filter::All => self.all = qos,
        }
    }

    /// The quality granted for a lane; where two filters overlap, the higher (MQTT 3.1.1, 3.3.5).
    pub(crate) fn granted(self, lane: DownLane) -> Option<QoS> {
        let own = match lane {
            DownLane::Command => self.command,
            DownLane::Desired => self.desired,
        };
        match (own, self.all) {
            (None, other) | (other, None) => other,
            (Some(a), Some(b)) => Some(if b > a { b } else { a }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        Topics::of(DeviceId::new("pump-7").expect("valid"))
    }

    #[test]
    fn publish_goes_to_own_up_lanes_only() {
        let check = |topic: &str, expect| assert_eq!(topics().publish(topic.as_bytes()), expect, "{topic:?}");
        check("dev/pump-7/s", Some(UpLane::Status));
        check("dev/pump-7/b", Some(UpLane::Bulk));
        for other in [
            "",
            "/",
            "dev",
            "dev/pump-7",
            "dev/pump-7/",
            "dev/pump-7/d",
            "dev/pump-7/c",
            "dev/pump-7/s/",
            "dev/pump-7/s/x",
            "dev/pump-70/s",
            "dev/pump-8/s",
            "dev/pump/s",
            "dev/+/s",
            "dev/pump-7/#",
            "dev/pump-7/+",
            "$SYS/x",
            "é/x",
            "dev/pump-7/é",
            "DEV/pump-7/s",
            "/dev/pump-7/s",
            "$share/g/dev/pump-7/s",
            "dev/pump-7/s\0",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn subscribe_opens_own_down_lanes_only() {
        let check = |filter: &str, expect| assert_eq!(topics().subscribe(filter), expect, "{filter:?}");
        check("dev/pump-7/d", Some(Filter::Desired));
        check("dev/pump-7/c", Some(Filter::Command));
        check("dev/pump-7/#", Some(Filter::All));
        for other in [
            "",
            "#",
            "+",
            "dev/#",
            "dev/+/d",
            "dev/pump-8/d",
            "dev/pump-8/#",
            "dev/pump-7/s",
            "dev/pump-7/+",
            "dev/pump-7/d/#",
            "$share/g/dev/pump-7/d",
            "dev/pump-7#",
            "dev/é/d",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn a_will_stays_below_the_own_prefix() {
        let check = |topic: &str, expect: Option<&str>| {
            assert_eq!(topics().will(topic.as_bytes()).as_deref(), expect, "{topic:?}");
        };
        check("dev/pump-7/s", Some("s"));
        check("dev/pump-7/w/last", Some("w/last"));
        for other in [
            "dev/pump-8/s",
            "dev/pump-7/",
            "dev/pump-7",
            "dev/pump-7/#",
            "dev/pump-7/é",
            "dev/pump-7/a b",
            "x",
        ] {
            check(other, None);
        }
        let long = format!("dev/pump-7/{}", "x".repeat(65));
        check(&long, None);
    }

    #[test]
    fn overlapping_filters_grant_the_higher_quality() {
        let mut subscriptions = Subscriptions::default();
        assert_eq!(subscriptions.granted(DownLane::Command), None);
        subscriptions.set(Filter::All, Some(QoS::AtMostOnce));
        subscriptions.set(Filter::Command, Some(QoS::AtLeastOnce));
        assert_eq!(subscriptions.granted(DownLane::Command), Some(QoS::AtLeastOnce));
        assert_eq!(subscriptions.granted(DownLane::Desired), Some(QoS::AtMostOnce));
        subscriptions.set(Filter::Command, None);
        assert_eq!(subscriptions.granted(DownLane::Command), Some(QoS::AtMostOnce));
    }
}
