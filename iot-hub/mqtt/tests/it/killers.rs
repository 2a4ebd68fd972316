//! K1 to K7: the inputs that took down rumqttd's listener or router. Here they must not even be noticed by others.

use std::time::Duration;

use bytes::Bytes;
use iot_hub_mqtt::{AcceptorOptions, DisconnectReason, DownLane, Event, Options, RefuseReason, UpLane};
use tokio::net::TcpStream;

use crate::raw::{Connect, Raw, publish, subscribe};
use crate::site::{Site, device, until};

/// A witness: connects anew and gets a message through.
pub async fn others_work(site: &Site, name: &str) {
    let config = site.enrol(name);
    let mut raw = Raw::subscribed(site, name, &config).await;
    raw.send(&publish(0x32, &format!("dev/{name}/s"), 1, b"alive"))
        .await;
    assert_eq!(raw.packet().await, [0x40, 2, 0, 1]);
    site.log.message(name, UpLane::Status, "alive").await;
}

#[tokio::test]
async fn k1_client_ids_with_special_characters_connect_twice() {
    let site = Site::start();
    let config = site.enrol("bad");
    for client_id in ["bad/", "b+d", "#", "$bad", "bad/+/#"] {
        for _ in 0..2 {
            let mut raw = Raw::open(&site, &config).await;
            raw.send(&Connect::of(client_id).bytes()).await;
            assert_eq!(raw.packet().await, [0x20, 2, 0, 5], "{client_id}");
            raw.ended().await;
        }
    }
    others_work(&site, "good").await;
}

#[tokio::test]
async fn k2_more_clients_than_sessions_and_one_retries() {
    let site = Site::with(
        Options {
            max_sessions: 2,
            ..Options::default()
        },
        AcceptorOptions::default(),
    );
    let (a, b, c) = (site.enrol("a"), site.enrol("b"), site.enrol("c"));
    let first = Raw::session(&site, "a", &a).await;
    let _second = Raw::session(&site, "b", &b).await;
    for _ in 0..3 {
        let mut third = Raw::open(&site, &c).await;
        third.send(&Connect::of("c").bytes()).await;
        assert_eq!(third.packet().await, [0x20, 2, 0, 3], "server unavailable");
    }
    site.refused(RefuseReason::Capacity, 3).await;
    drop(first);
    site.log.disconnected("a", 1).await;
    until("a session is free", || site.handle.sessions().len() == 1).await;
    Raw::session(&site, "c", &c).await;
}

#[tokio::test]
async fn k3_silent_tcp_connections_block_nobody() {
    let acceptor = AcceptorOptions {
        max_handshakes: 4,
        handshake_grace: Duration::from_millis(50),
        ..AcceptorOptions::default()
    };
    let site = Site::with(Options::default(), acceptor);
    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(TcpStream::connect(site.address).await.unwrap());
    }
    // More silent connections than places for handshakes, all of them still open.
    others_work(&site, "good").await;
    site.refused(RefuseReason::HandshakeEvicted, 8).await;
    others_work(&site, "better").await;
}

#[tokio::test]
async fn k4_last_member_of_a_share_group_drops_with_an_unacknowledged_message() {
    let site = Site::start();
    let config = site.enrol("a");
    let mut persistent = Raw::open(&site, &config).await;
    persistent
        .send(
            &Connect {
                clean: false,
                ..Connect::of("a")
            }
            .bytes(),
        )
        .await;
    assert_eq!(
        persistent.packet().await,
        [0x20, 2, 0, 5],
        "no persistent sessions"
    );

    let mut raw = Raw::subscribed(&site, "a", &config).await;
    raw.send(&subscribe(2, "$share/g/dev/a/d", 1)).await;
    assert_eq!(raw.packet().await, [0x90, 3, 0, 2, 0x80]);
    let connection = site.connection("a").unwrap();
    site.handle
        .send(
            &device("a"),
            connection,
            DownLane::Desired,
            Bytes::from_static(b"x"),
        )
        .unwrap();
    assert_eq!(raw.packet().await, publish(0x32, "dev/a/d", 1, b"x"));
    drop(raw);
    site.log.disconnected("a", 1).await;
    others_work(&site, "good").await;
}

#[tokio::test]
async fn k5_a_topic_that_starts_with_a_multibyte_character() {
    let site = Site::start();
    let mut witness = Raw::session(&site, "witness", &site.enrol("witness")).await;
    let config = site.enrol("bad");
    for (nth, topic) in ["é/x", "é", "дев/bad/s", "dev/bad/é", "\u{feff}dev/bad/s"]
        .into_iter()
        .enumerate()
    {
        let mut raw = Raw::session(&site, "bad", &config).await;
        raw.send(&publish(0x32, topic, 1, b"x")).await;
        raw.ended().await;
        let end = site.log.disconnected("bad", nth + 1).await;
        assert!(
            matches!(
                end,
                Event::Disconnected {
                    reason: DisconnectReason::Topic,
                    ..
                }
            ),
            "{topic}: {end:?}"
        );
    }
    site.log.assert_silent("bad");
    witness.send(&[0xC0, 0]).await;
    assert_eq!(witness.packet().await, [0xD0, 0]);
    others_work(&site, "good").await;
}

/// A device that subscribed, is sent more than it reads, and whose session is blocked in writing.
pub async fn blocked(site: &Site, name: &str) -> Raw {
    let config = site.enrol(name);
    let mut raw = Raw::session(site, name, &config).await;
    raw.send(&subscribe(1, &format!("dev/{name}/#"), 0)).await;
    raw.packet().await;
    let connection = site.connection(name).unwrap();
    let message = Bytes::from(vec![0; 200 * 1024]);
    let full = || {
        site.handle
            .send(&device(name), connection, DownLane::Desired, message.clone())
            .is_err()
    };
    // Full for a while means that nothing flows: the socket's buffers are full as well.
    let mut in_a_row = 0;
    until("the session is blocked", || {
        in_a_row = if full() { in_a_row + 1 } else { 0 };
        in_a_row > 50
    })
    .await;
    raw
}

#[tokio::test]
async fn k6_blocked_subscriber_reconnects_leaves_and_the_old_socket_drains() {
    let site = Site::start();
    let mut old = blocked(&site, "slow").await;
    let config = site.enrol("slow");
    let again = Raw::session(&site, "slow", &config).await;
    let first = site.log.disconnected("slow", 1).await;
    assert!(matches!(
        first,
        Event::Disconnected {
            reason: DisconnectReason::TakenOver,
            ..
        }
    ));
    drop(again);
    site.log.disconnected("slow", 2).await;
    old.ended().await;
    others_work(&site, "good").await;
}

#[tokio::test]
async fn k7_an_old_socket_that_errors_does_not_end_an_unrelated_session() {
    let site = Site::start();
    let old = blocked(&site, "slow").await;
    let config = site.enrol("slow");
    let again = Raw::session(&site, "slow", &config).await;
    drop(again);
    site.log.disconnected("slow", 2).await;
    // In rumqttd this client now gets the slot that the blocked one had.
    let mut unrelated = Raw::session(&site, "unrelated", &site.enrol("unrelated")).await;
    let connection = site.connection("unrelated").unwrap();
    let (tcp, _) = old.stream.into_inner();
    tcp.set_zero_linger().unwrap();
    drop(tcp);
    others_work(&site, "good").await;
    unrelated.send(&[0xC0, 0]).await;
    assert_eq!(unrelated.packet().await, [0xD0, 0]);
    assert_eq!(site.connection("unrelated"), Some(connection));
    let ended =
        |event: &Event| matches!(event, Event::Disconnected { device, .. } if device.as_str() == "unrelated");
    assert!(!site.log.all().iter().any(ended));
}
