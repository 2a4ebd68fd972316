//! Takeover, revocation, resumption and the stop.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use iot_hub_mqtt::{CutReason, CutTarget, DisconnectReason, DownLane, Event, RefuseReason, Serial, UpLane};
use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::raw::{Connect, Raw, publish};
use crate::site::{DEADLINE, Site, device, until};

/// The story of a device in short words, by order of connection: `+1 s1 -1 +2`.
fn story(events: &[Event], name: &str) -> String {
    let mut first = None;
    let mut words = Vec::new();
    for event in events {
        let (device, connection, word) = match event {
            Event::Connected {
                device, connection, ..
            } => (device, connection, "+"),
            Event::Message {
                device, connection, ..
            } => (device, connection, "m"),
            Event::Disconnected {
                device, connection, ..
            } => (device, connection, "-"),
        };
        if device.as_str() == name {
            let first = *first.get_or_insert(connection.get());
            words.push(format!("{word}{}", connection.get() - first + 1));
        }
    }
    words.join(" ")
}

#[tokio::test]
async fn the_old_session_ends_before_the_new_begins() {
    let site = Site::start();
    let config = site.enrol("a");
    let mut old = Raw::session(&site, "a", &config).await;
    old.send(&publish(0x30, "dev/a/s", 0, b"old")).await;
    site.log.message("a", UpLane::Status, "old").await;
    let mut new = Raw::subscribed(&site, "a", &config).await;
    let connection = site.connection("a").unwrap();
    old.ended().await;
    drop(old);
    // The old socket is gone for good; a stale word about it must not touch the new session.
    new.send(&publish(0x32, "dev/a/s", 1, b"new")).await;
    assert_eq!(new.packet().await, [0x40, 2, 0, 1]);
    site.log.message("a", UpLane::Status, "new").await;
    let cut = site.handle.cut(
        &CutTarget::Connection(device("a"), first(&site)),
        CutReason::Requested,
    );
    assert_eq!(cut, 0, "the old connection is not there to cut");
    site.handle
        .send(
            &device("a"),
            connection,
            DownLane::Command,
            Bytes::from_static(b"x"),
        )
        .unwrap();
    assert_eq!(new.packet().await, publish(0x32, "dev/a/c", 1, b"x"));
    assert_eq!(story(&site.log.all(), "a"), "+1 m1 -1 +2 m2");
}

fn first(site: &Site) -> iot_hub_mqtt::ConnectionId {
    let connected = site.log.all().into_iter().find_map(|event| match event {
        Event::Connected { connection, .. } => Some(connection),
        _ => None,
    });
    connected.unwrap()
}

#[tokio::test]
async fn many_connections_of_one_device_at_once_leave_one_session_and_a_sane_story() {
    let site = Site::start();
    let config = site.enrol("a");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (address, config) = (site.address, config.clone());
        tasks.spawn(async move {
            for _ in 0..8 {
                let stream = crate::raw::tls(address, &config).await.unwrap();
                let mut raw = Raw { stream };
                raw.send(&Connect::of("a").bytes()).await;
                raw.try_packet().await;
            }
        });
    }
    timeout(DEADLINE, async {
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    })
    .await
    .unwrap();
    until("all sessions ended", || site.handle.sessions().is_empty()).await;
    let ends = |events: &[Event]| {
        let count = |word: &str| {
            story(events, "a")
                .split(' ')
                .filter(|w| w.starts_with(word))
                .count()
        };
        (count("+") == count("-")).then_some(())
    };
    site.log.wait("as many ends as beginnings", ends).await;
    for (nth, word) in story(&site.log.all(), "a").split(' ').enumerate() {
        let sign = if nth % 2 == 0 { '+' } else { '-' };
        assert!(word.starts_with(sign), "{}", story(&site.log.all(), "a"));
    }
}

#[tokio::test]
async fn a_resumed_handshake_asks_the_gate_and_a_revoked_serial_stays_out() {
    let site = Site::start();
    let config = site.enrol_as("a", "serial-1");
    let first = Raw::session(&site, "a", &config).await;
    assert_eq!(
        first.stream.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Full)
    );
    let second = Raw::session(&site, "a", &config).await;
    assert_eq!(
        second.stream.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
    assert_eq!(site.registry.asked(), 2, "the resumed one was asked for, too");

    let serial = Serial::new("serial-1").unwrap();
    site.registry.revoke(&serial);
    let target = CutTarget::Device(device("a"));
    assert_eq!(site.handle.cut(&target, CutReason::Revoked), 1);
    let end = site.log.disconnected("a", 2).await;
    let expect = DisconnectReason::Cut(CutReason::Revoked);
    assert!(
        matches!(end, Event::Disconnected { reason, .. } if reason == expect),
        "{end:?}"
    );

    let mut third = Raw::open(&site, &config).await;
    assert_eq!(
        third.stream.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
    third.send(&Connect::of("a").bytes()).await;
    assert_eq!(third.packet().await, [0x20, 2, 0, 5]);
    site.refused(RefuseReason::Gate(iot_hub_mqtt::Refusal::Revoked), 1)
        .await;
}

#[tokio::test]
async fn a_certificate_that_expired_since_the_ticket_is_refused_on_resumption() {
    let site = Site::start();
    let ends = SystemTime::now() + Duration::from_secs(3);
    let config = site.enrol_until("a", ends);
    drop(Raw::session(&site, "a", &config).await);
    until("the certificate expired", || {
        SystemTime::now() > ends + Duration::from_secs(1)
    })
    .await;
    let mut raw = Raw::open(&site, &config).await;
    assert_eq!(
        raw.stream.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
    raw.send(&Connect::of("a").bytes()).await;
    assert_eq!(raw.try_packet().await, None);
    site.refused(RefuseReason::CertificateNotValid, 1).await;
    assert_eq!(site.registry.asked(), 1);
}

#[tokio::test]
async fn a_revocation_between_gate_and_connect_leaves_no_session() {
    let site = Site::start();
    let config = site.enrol_as("a", "serial-1");
    let mut raw = Raw::open(&site, &config).await;
    until("the gate was asked", || site.registry.asked() == 1).await;
    let serial = Serial::new("serial-1").unwrap();
    site.registry.revoke(&serial);
    assert_eq!(
        site.handle
            .cut(&CutTarget::Device(device("a")), CutReason::Revoked),
        0,
        "no session yet"
    );
    raw.send(&Connect::of("a").bytes()).await;
    assert_eq!(raw.packet().await, [0x20, 2, 0, 5]);
    assert_eq!(site.registry.asked(), 2);
    assert!(site.handle.sessions().is_empty());
}

#[tokio::test]
async fn the_stop_ends_sessions_tells_them_and_closes_the_port() {
    let mut site = Site::start();
    let mut raw = Raw::open(&site, &site.enrol("a")).await;
    raw.send(
        &Connect {
            will: Some(("dev/a/w", "w")),
            ..Connect::of("a")
        }
        .bytes(),
    )
    .await;
    raw.packet().await;
    let _silent = TcpStream::connect(site.address).await.unwrap();
    site.stop.cancel();
    raw.ended().await;
    let end = site.log.disconnected("a", 1).await;
    let stopping = matches!(
        &end,
        Event::Disconnected {
            reason: DisconnectReason::Stopping,
            will: Some(_),
            ..
        }
    );
    assert!(stopping, "{end:?}");
    // Endpoint and acceptor end by themselves, the log when the endpoint dropped its side of the events.
    let all = async {
        while let Some(done) = site.tasks.join_next().await {
            done.unwrap();
        }
    };
    timeout(Duration::from_secs(5), all)
        .await
        .expect("without waiting for any timeout");
    assert!(TcpStream::connect(site.address).await.is_err());
}

#[tokio::test]
async fn a_hub_that_takes_no_events_delays_a_takeover_no_longer_than_its_deadline() {
    let options = iot_hub_mqtt::Options {
        takeover_timeout: Duration::from_millis(200),
        event_queue: 1,
        ..iot_hub_mqtt::Options::default()
    };
    let (site, mut events) = Site::with_events(options, iot_hub_mqtt::AcceptorOptions::default());
    let config = site.enrol("a");
    let mut old = Raw::session(&site, "a", &config).await;
    let mut new = Raw::open(&site, &config).await;
    new.send(&Connect::of("a").bytes()).await;
    assert_eq!(new.packet().await, [0x20, 2, 0, 3], "come back later");
    old.ended().await;
    assert!(matches!(events.recv().await, Some(Event::Connected { .. })));
    assert!(matches!(events.recv().await, Some(Event::Disconnected { .. })));
    Raw::session(&site, "a", &config).await;
}
