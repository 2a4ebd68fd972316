//! Packets in, answers and verdicts out.

use super::*;
use crate::ids::DeviceId;

fn core(window: usize) -> Core {
    Core::new(Topics::of(DeviceId::new("a").expect("valid")), window)
}

fn publish(topic: &'static str, qos: QoS, retain: bool) -> Incoming {
    let topic = Bytes::from_static(topic.as_bytes());
    Incoming::Publish {
        topic,
        payload: Bytes::from_static(b"p"),
        qos,
        retain,
        pkid: 7,
    }
}

fn subscribe(filters: &[(&str, QoS)]) -> Incoming {
    let filters = filters
        .iter()
        .map(|(filter, qos)| ((*filter).to_owned(), *qos))
        .collect();
    Incoming::Subscribe { pkid: 3, filters }
}

fn deliver(lane: UpLane, pkid: Option<u16>) -> Step {
    Step::Deliver {
        lane,
        payload: Bytes::from_static(b"p"),
        pkid,
    }
}

#[test]
fn verdicts_on_packets() {
    let check = |packet: Incoming, expect: Result<Step, DisconnectReason>| {
        let shown = format!("{packet:?}");
        assert_eq!(core(4).take(packet, &mut BytesMut::new()), expect, "{shown}");
    };
    check(
        publish("dev/a/s", QoS::AtLeastOnce, false),
        Ok(deliver(UpLane::Status, Some(7))),
    );
    check(
        publish("dev/a/b", QoS::AtMostOnce, false),
        Ok(deliver(UpLane::Bulk, None)),
    );
    check(
        publish("dev/b/s", QoS::AtLeastOnce, false),
        Err(DisconnectReason::Topic),
    );
    check(
        publish("dev/a/d", QoS::AtLeastOnce, false),
        Err(DisconnectReason::Topic),
    );
    check(
        publish("é/x", QoS::AtLeastOnce, false),
        Err(DisconnectReason::Topic),
    );
    check(
        publish("dev/a/s", QoS::AtLeastOnce, true),
        Err(DisconnectReason::Retained),
    );
    check(Incoming::PubAck(9), Ok(Step::Continue));
    check(Incoming::PingReq, Ok(Step::Continue));
    check(Incoming::Disconnect, Err(DisconnectReason::Graceful));
}

#[test]
fn subscribe_is_answered_filter_by_filter() {
    let mut out = BytesMut::new();
    let filters = [
        ("dev/a/d", QoS::AtLeastOnce),
        ("dev/b/d", QoS::AtLeastOnce),
        ("dev/a/c", QoS::AtMostOnce),
        ("$share/g/dev/a/c", QoS::AtLeastOnce),
        ("dev/a/#", QoS::ExactlyOnce),
    ];
    core(4).take(subscribe(&filters), &mut out).expect("no violation");
    assert_eq!(out.as_ref(), [0x90, 7, 0, 3, 1, 0x80, 0, 0x80, 1]);
}

#[test]
fn a_lane_opens_with_its_subscription_and_closes_with_it() {
    let mut core = core(4);
    let mut out = BytesMut::new();
    assert!(!core.open(DownLane::Desired));
    core.take(subscribe(&[("dev/a/d", QoS::AtLeastOnce)]), &mut out)
        .expect("no violation");
    assert!(core.open(DownLane::Desired) && !core.open(DownLane::Command));
    let filters = vec!["dev/a/d".to_owned(), "dev/b/d".to_owned()];
    core.take(Incoming::Unsubscribe { pkid: 1, filters }, &mut out)
        .expect("no violation");
    assert!(!core.open(DownLane::Desired));
}

#[test]
fn the_window_is_bounded_and_acknowledged_in_any_order() {
    let mut core = core(2);
    let mut out = BytesMut::new();
    core.take(subscribe(&[("dev/a/#", QoS::AtLeastOnce)]), &mut out)
        .expect("no violation");
    out.clear();
    core.put(DownLane::Command, b"x", &mut out).expect("small");
    assert_eq!(out.as_ref(), b"\x32\x0c\x00\x07dev/a/c\x00\x01x");
    core.put(DownLane::Desired, b"x", &mut out).expect("small");
    assert!(!core.open(DownLane::Command), "two are in flight");
    core.take(Incoming::PubAck(2), &mut out).expect("no violation");
    assert!(core.open(DownLane::Command));
    core.take(Incoming::PubAck(2), &mut out)
        .expect("a doubled PUBACK is of no effect");
    core.put(DownLane::Command, b"x", &mut out).expect("small");
    assert!(!core.open(DownLane::Command));
    assert_eq!(core.inflight, [1, 3]);
}

#[test]
fn packet_ids_wrap_around_what_is_in_flight() {
    let mut core = core(2);
    let mut out = BytesMut::new();
    core.take(subscribe(&[("dev/a/#", QoS::AtLeastOnce)]), &mut out)
        .expect("no violation");
    core.inflight.push(1);
    core.last_pkid = u16::MAX;
    core.put(DownLane::Command, b"x", &mut out).expect("small");
    assert_eq!(core.inflight, [1, 2]);
}
