//! Order and fairness of the intake.

use std::time::Duration;

use super::*;
use crate::options::LaneLimits;
use crate::reason::DisconnectReason;

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).expect("valid")
}

fn intake() -> Intake {
    let limits = LaneLimits {
        messages: 32,
        bytes: 1024 * 1024,
    };
    Intake::new(&Options {
        status: limits,
        bulk: limits,
        ..Options::default()
    })
}

fn open(intake: &Intake, name: &str, id: u64) -> ConnectionId {
    let connection = ConnectionId(id);
    let connected = Event::Connected {
        device: device(name),
        connection,
        keep_alive: Duration::from_secs(1),
        peer: ([127, 0, 0, 1], 1).into(),
    };
    intake.open(device(name), connection, connected);
    connection
}

fn end(name: &str, connection: ConnectionId) -> Event {
    Event::Disconnected {
        device: device(name),
        connection,
        reason: DisconnectReason::Closed,
        will: None,
    }
}

/// Everything that waits, as short words: `a+`, `a:s1`, `a-`.
fn words(intake: &Intake) -> Vec<String> {
    std::iter::from_fn(|| intake.lock().pop())
        .map(|event| word(&event))
        .collect()
}

fn word(event: &Event) -> String {
    match event {
        Event::Connected { device, .. } => format!("{device}+"),
        Event::Message {
            device,
            lane: UpLane::Status,
            bytes,
            ..
        } => format!("{device}:s{}", text(bytes)),
        Event::Message {
            device,
            lane: UpLane::Bulk,
            bytes,
            ..
        } => format!("{device}:b{}", text(bytes)),
        Event::Disconnected { device, .. } => format!("{device}-"),
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn push(intake: &Intake, connection: ConnectionId, lane: UpLane, text: &str) {
    intake
        .push(connection, lane, Bytes::copy_from_slice(text.as_bytes()))
        .expect("room");
}

#[test]
fn a_session_begins_with_connected_and_ends_with_disconnected() {
    let intake = intake();
    let a = open(&intake, "a", 1);
    push(&intake, a, UpLane::Bulk, "1");
    push(&intake, a, UpLane::Status, "1");
    push(&intake, a, UpLane::Bulk, "2");
    intake.close(a, end("a", a), false);
    push(&intake, a, UpLane::Status, "late");
    assert_eq!(words(&intake), ["a+", "a:s1", "a:b1", "a:b2", "a-"]);
    assert!(
        intake.lock().entries.is_empty(),
        "nothing is kept of an ended session"
    );
}

#[test]
fn only_the_first_end_counts_and_a_cut_drops_what_waits() {
    let intake = intake();
    let a = open(&intake, "a", 1);
    push(&intake, a, UpLane::Bulk, "1");
    intake.close(a, end("a", a), true);
    intake.close(a, end("a", a), false);
    assert_eq!(words(&intake), ["a+", "a-"]);
}

#[test]
fn a_flood_delays_another_device_by_one_turn_only() {
    let intake = intake();
    let (a, b) = (open(&intake, "a", 1), open(&intake, "b", 2));
    words(&intake);
    for i in 0..32 {
        push(&intake, a, UpLane::Bulk, &i.to_string());
        push(&intake, a, UpLane::Status, &i.to_string());
    }
    let refused = intake.push(a, UpLane::Bulk, Bytes::from_static(b"x"));
    assert_eq!(
        refused,
        Err(Full(Bytes::from_static(b"x"))),
        "the lane is bounded"
    );
    push(&intake, b, UpLane::Bulk, "1");
    push(&intake, b, UpLane::Status, "1");
    let order = words(&intake);
    let place = |word: &str| order.iter().position(|w| w == word).expect("present");
    assert!(place("b:s1") <= 2, "{order:?}");
    assert!(place("b:b1") <= 18, "{order:?}");
    assert!(place("a:b0") <= 9, "bulk is not starved: {order:?}");
    assert_eq!(order.len(), 66);
}

#[test]
fn status_of_one_goes_before_bulk_of_all() {
    let intake = intake();
    let flood: Vec<_> = (0..20).map(|i| open(&intake, &format!("d{i}"), i)).collect();
    let quiet = open(&intake, "quiet", 99);
    words(&intake);
    for connection in flood {
        push(&intake, connection, UpLane::Bulk, "x");
    }
    push(&intake, quiet, UpLane::Status, "1");
    assert_eq!(words(&intake).first().map(String::as_str), Some("quiet:s1"));
}
