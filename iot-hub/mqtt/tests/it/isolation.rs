//! A device reaches its own topics only, under its own name only.

use std::sync::Arc;

use bytes::Bytes;
use iot_hub_mqtt::{DisconnectReason, DownLane, Event, RefuseReason, UpLane};

use crate::raw::{Connect, Raw, publish, subscribe};
use crate::site::{Site, device};

fn reason(event: &Event) -> DisconnectReason {
    match event {
        Event::Disconnected { reason, .. } => *reason,
        other => panic!("not an end: {other:?}"),
    }
}

#[tokio::test]
async fn a_publish_outside_the_own_up_lanes_ends_the_session() {
    use DisconnectReason::{Protocol, Qos, Retained, Topic};
    let site = Site::start();
    let config = site.enrol("a");
    site.enrol("b");
    let cases = [
        (publish(0x32, "dev/b/s", 1, b"x"), Topic),
        (publish(0x30, "dev/b/c", 0, b"x"), Topic),
        (publish(0x30, "dev/a/d", 0, b"x"), Topic),
        (publish(0x30, "dev/a/s/x", 0, b"x"), Topic),
        (publish(0x30, "dev/+/s", 0, b"x"), Topic),
        (publish(0x30, "dev/a/#", 0, b"x"), Topic),
        (publish(0x30, "$SYS/a", 0, b"x"), Topic),
        (publish(0x30, "", 0, b"x"), Topic),
        (publish(0x33, "dev/a/s", 1, b"x"), Retained),
        (publish(0x34, "dev/a/s", 1, b"x"), Qos),
        (publish(0x32, "dev/a/s", 0, b"x"), Protocol),
        (Connect::of("a").bytes(), Protocol),
    ];
    for (nth, (packet, expect)) in cases.into_iter().enumerate() {
        let mut raw = Raw::session(&site, "a", &config).await;
        raw.send(&packet).await;
        raw.ended().await;
        let end = site.log.disconnected("a", nth + 1).await;
        assert_eq!(reason(&end), expect, "{packet:?}");
    }
    site.log.assert_silent("a");
}

#[tokio::test]
async fn a_subscription_outside_the_own_down_lanes_fails_and_gets_nothing() {
    let site = Site::start();
    let mut spy = Raw::subscribed(&site, "a", &site.enrol("a")).await;
    for filter in [
        "dev/b/d",
        "dev/b/#",
        "dev/+/d",
        "#",
        "+/+/+",
        "dev/#",
        "$share/g/dev/b/d",
        "dev/a/s",
        "$SYS/#",
    ] {
        spy.send(&subscribe(9, filter, 1)).await;
        assert_eq!(spy.packet().await, [0x90, 3, 0, 9, 0x80], "{filter}");
    }
    let mut other = Raw::subscribed(&site, "b", &site.enrol("b")).await;
    let to = |name: &str, text: &'static str| {
        let connection = site.connection(name).unwrap();
        site.handle
            .send(
                &device(name),
                connection,
                DownLane::Desired,
                Bytes::from_static(text.as_bytes()),
            )
            .unwrap();
    };
    to("b", "for b");
    assert_eq!(other.packet().await, publish(0x32, "dev/b/d", 1, b"for b"));
    to("a", "for a");
    assert_eq!(
        spy.packet().await,
        publish(0x32, "dev/a/d", 1, b"for a"),
        "the first thing a ever gets"
    );
}

#[tokio::test]
async fn a_message_to_another_connection_is_refused() {
    let site = Site::start();
    let config = site.enrol("a");
    let _a = Raw::session(&site, "a", &config).await;
    let old = site.connection("a").unwrap();
    let _again = Raw::session(&site, "a", &config).await;
    let sent = site
        .handle
        .send(&device("a"), old, DownLane::Command, Bytes::from_static(b"x"));
    assert_eq!(sent, Err(iot_hub_mqtt::SendError::NotConnected));
}

#[tokio::test]
async fn connects_are_refused_by_their_reason() {
    let site = Site::start();
    let config = site.enrol("a");
    site.enrol("b");
    let good = || Connect::of("a");
    let cases = [
        (Connect::of("b"), 5, RefuseReason::ClientId),
        (Connect::of(""), 5, RefuseReason::ClientId),
        (
            Connect {
                keep_alive: 0,
                ..good()
            },
            5,
            RefuseReason::KeepAlive,
        ),
        (
            Connect {
                clean: false,
                ..good()
            },
            5,
            RefuseReason::CleanSession,
        ),
        (
            Connect {
                will: Some(("dev/b/s", "x")),
                ..good()
            },
            5,
            RefuseReason::Will,
        ),
        (
            Connect {
                will: Some(("dev/+/s", "x")),
                ..good()
            },
            5,
            RefuseReason::Will,
        ),
        (Connect { level: 5, ..good() }, 1, RefuseReason::ProtocolVersion),
        (
            Connect {
                protocol: "MQIsdp",
                level: 3,
                ..good()
            },
            1,
            RefuseReason::ProtocolVersion,
        ),
    ];
    for (connect, code, reason) in cases {
        let before = site.handle.metrics().refused_for(reason);
        let mut raw = Raw::open(&site, &config).await;
        raw.send(&connect.bytes()).await;
        assert_eq!(raw.packet().await, [0x20, 2, 0, code], "{reason:?}");
        raw.ended().await;
        site.refused(reason, before + 1).await;
    }
    assert!(site.log.all().is_empty(), "nobody came in, no will was told");
}

#[tokio::test]
async fn only_certificates_that_the_gate_knows_come_in() {
    let site = Site::start();
    let unknown = site.ca.client(vec![site.ca.issue("ghost")], &[b"mqtt"]);
    let mut raw = Raw::open(&site, &unknown).await;
    raw.send(&Connect::of("ghost").bytes()).await;
    assert_eq!(raw.packet().await, [0x20, 2, 0, 5]);

    let anonymous = site.ca.client(Vec::new(), &[b"mqtt"]);
    let mut raw = Raw::open(&site, &anonymous).await;
    raw.send(&Connect::of("a").bytes()).await;
    assert_eq!(raw.try_packet().await, None);
    site.refused(RefuseReason::NoCertificate, 1).await;

    let foreign = crate::site::Ca::new();
    let mut config = (*site.ca.client(vec![site.ca.issue("a")], &[b"mqtt"])).clone();
    let stranger = foreign.client(vec![foreign.issue("a")], &[b"mqtt"]);
    config.client_auth_cert_resolver = Arc::clone(&stranger.client_auth_cert_resolver);
    let mut raw = Raw::open(&site, &Arc::new(config)).await;
    raw.send(&Connect::of("a").bytes()).await;
    assert_eq!(
        raw.try_packet().await,
        None,
        "the handshake fails on the server's side"
    );
    site.refused(RefuseReason::Handshake, 1).await;
}

#[tokio::test]
async fn a_will_is_told_to_the_hub_unless_the_device_says_goodbye() {
    let site = Site::start();
    let config = site.enrol("a");
    let connect = Connect {
        will: Some(("dev/a/w", "gone")),
        ..Connect::of("a")
    }
    .bytes();
    for (nth, goodbye) in [(1, false), (2, true)] {
        let mut raw = Raw::open(&site, &config).await;
        raw.send(&connect).await;
        assert_eq!(raw.packet().await, [0x20, 2, 0, 0]);
        raw.send(&publish(0x30, "dev/a/b", 0, b"last")).await;
        if goodbye {
            raw.send(&[0xE0, 0]).await;
        }
        drop(raw);
        let Event::Disconnected { will, reason, .. } = site.log.disconnected("a", nth).await else {
            panic!("an end");
        };
        let expect = if goodbye {
            None
        } else {
            Some(("w".to_owned(), Bytes::from_static(b"gone")))
        };
        assert_eq!(
            will.map(|will| (will.subtopic, will.payload)),
            expect,
            "{reason:?}"
        );
    }
    site.log.message("a", UpLane::Bulk, "last").await;
}
