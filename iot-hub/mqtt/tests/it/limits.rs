//! Sizes and times: what is too large, too slow, too silent or too much harms only the device it comes from.

use std::time::Duration;

use bytes::Bytes;
use iot_hub_mqtt::{
    AcceptorOptions, DisconnectReason, DownLane, Event, LaneLimits, Options, SendError, UpLane,
};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::killers::{blocked, others_work};
use crate::raw::{Connect, Raw, packet, puback, publish, subscribe};
use crate::site::{DEADLINE, Site, device, until};

fn ended_by(event: &Event, expect: DisconnectReason) {
    assert!(
        matches!(event, Event::Disconnected { reason, .. } if *reason == expect),
        "{event:?}"
    );
}

#[tokio::test]
async fn an_oversized_packet_ends_the_session_before_its_body() {
    let site = Site::start();
    let config = site.enrol("a");
    let max = Options::default().max_packet;
    let mut raw = Raw::session(&site, "a", &config).await;
    let fits = vec![b'x'; max - 2 - "dev/a/b".len() - 2];
    raw.send(&publish(0x32, "dev/a/b", 1, &fits)).await;
    assert_eq!(raw.packet().await, [0x40, 2, 0, 1], "exactly the limit is taken");

    let heads: [&[u8]; 3] = [
        &[0x32, 0x81, 0x80, 0x10],       // one byte above 256 KiB
        &[0x30, 0xFF, 0xFF, 0xFF, 0x7F], // 256 MiB
        &[0x82, 0x81, 0x08],             // a SUBSCRIBE above 1 KiB
    ];
    for (nth, head) in heads.into_iter().enumerate() {
        if nth > 0 {
            raw = Raw::session(&site, "a", &config).await;
        }
        raw.send(head).await;
        raw.ended().await;
        ended_by(
            &site.log.disconnected("a", nth + 1).await,
            DisconnectReason::PacketTooLarge,
        );
    }
    let mut unconnected = Raw::open(&site, &config).await;
    unconnected.send(&[0x10, 0x81, 0x40]).await;
    unconnected.ended().await;
}

/// Writable private memory of this process, reserved or touched, in KiB.
fn data_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmData:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_declared_length_allocates_nothing() {
    const MIB: usize = 1024 * 1024;
    let lane = LaneLimits {
        messages: 4,
        bytes: 16 * MIB,
    };
    let options = Options {
        max_packet: 16 * MIB,
        status: lane,
        bulk: lane,
        desired: lane,
        command: lane,
        ..Options::default()
    };
    let site = Site::with(options, AcceptorOptions::default());
    let mut bombs = Vec::new();
    for i in 0..32 {
        let name = format!("bomb-{i}");
        bombs.push(Raw::session(&site, &name, &site.enrol(&name)).await);
    }
    let before = data_kib();
    for bomb in &mut bombs {
        // 16 MiB less one byte declared, and no more of it sent.
        bomb.send(&[0x32, 0xFF, 0xFF, 0xFF, 0x07, 0, 7]).await;
    }
    others_work(&site, "good").await;
    let grown = data_kib().saturating_sub(before);
    assert!(
        grown < 64 * 1024,
        "512 MiB were declared, memory grew by {grown} KiB"
    );
    assert_eq!(site.handle.sessions().len(), 33, "all of them still wait");
}

#[tokio::test]
async fn a_slow_reader_delays_only_itself_and_is_cut() {
    let options = Options {
        write_timeout: Duration::from_millis(1500),
        ..Options::default()
    };
    let site = Site::with(options, AcceptorOptions::default());
    let mut quick = Raw::subscribed(&site, "quick", &site.enrol("quick")).await;
    let slow = blocked(&site, "slow").await;
    let to = |name: &str| {
        let connection = site.connection(name).ok_or(SendError::NotConnected)?;
        site.handle.send(
            &device(name),
            connection,
            DownLane::Desired,
            Bytes::from(vec![1; 100_000]),
        )
    };
    let mut filled = to("slow");
    while filled.is_ok() {
        filled = to("slow");
    }
    assert_eq!(filled, Err(SendError::QueueFull));
    for pkid in 1..=50 {
        to("quick").unwrap();
        assert_eq!(quick.packet().await.len(), 100_000 + 19);
        quick.send(&puback(pkid)).await;
    }
    ended_by(
        &site.log.disconnected("slow", 1).await,
        DisconnectReason::WriteTimeout,
    );
    drop(slow);
    assert_eq!(site.handle.sessions().len(), 1);
}

#[tokio::test]
async fn a_device_that_does_not_acknowledge_fills_its_window_only() {
    let site = Site::with(
        Options {
            inflight: 2,
            ..Options::default()
        },
        AcceptorOptions::default(),
    );
    let mut raw = Raw::subscribed(&site, "a", &site.enrol("a")).await;
    let connection = site.connection("a").unwrap();
    let send = |lane, text: &'static str| {
        site.handle
            .send(
                &device("a"),
                connection,
                lane,
                Bytes::from_static(text.as_bytes()),
            )
            .unwrap();
    };
    send(DownLane::Desired, "1");
    assert_eq!(raw.packet().await, publish(0x32, "dev/a/d", 1, b"1"));
    send(DownLane::Desired, "2");
    assert_eq!(raw.packet().await, publish(0x32, "dev/a/d", 2, b"2"));
    send(DownLane::Desired, "3");
    send(DownLane::Command, "urgent");
    raw.send(&[0xC0, 0]).await;
    assert_eq!(
        raw.packet().await,
        [0xD0, 0],
        "the window is full, the session alive"
    );
    raw.send(&puback(2)).await;
    assert_eq!(
        raw.packet().await,
        publish(0x32, "dev/a/c", 3, b"urgent"),
        "commands go before desired sets"
    );
    raw.send(&puback(1)).await;
    assert_eq!(raw.packet().await, publish(0x32, "dev/a/d", 4, b"3"));
}

#[tokio::test]
async fn messages_wait_for_the_subscription() {
    let site = Site::start();
    let mut raw = Raw::session(&site, "a", &site.enrol("a")).await;
    let connection = site.connection("a").unwrap();
    site.handle
        .send(
            &device("a"),
            connection,
            DownLane::Desired,
            Bytes::from_static(b"early"),
        )
        .unwrap();
    raw.send(&subscribe(1, "dev/a/c", 1)).await;
    assert_eq!(raw.packet().await, [0x90, 3, 0, 1, 1]);
    raw.send(&subscribe(2, "dev/a/d", 0)).await;
    assert_eq!(raw.packet().await, [0x90, 3, 0, 2, 0]);
    assert_eq!(raw.packet().await, publish(0x30, "dev/a/d", 0, b"early"));
    let too_large = Bytes::from(vec![0; site.handle.max_message(&device("a")) + 1]);
    let sent = site
        .handle
        .send(&device("a"), connection, DownLane::Desired, too_large);
    assert!(matches!(sent, Err(SendError::TooLarge { .. })), "{sent:?}");
}

#[tokio::test]
async fn silence_beyond_one_and_a_half_keep_alives_ends_the_session_also_while_it_is_sent_to() {
    let site = Site::start();
    let mut raw = Raw::open(&site, &site.enrol("a")).await;
    raw.send(
        &Connect {
            keep_alive: 1,
            ..Connect::of("a")
        }
        .bytes(),
    )
    .await;
    raw.packet().await;
    raw.send(&subscribe(1, "dev/a/#", 0)).await;
    raw.packet().await;
    let connection = site.connection("a").unwrap();
    // rumqttd restarted its timer with every message that it sent.
    let send = || {
        site.handle.send(
            &device("a"),
            connection,
            DownLane::Command,
            Bytes::from_static(b"x"),
        )
    };
    while send().is_ok() && raw.try_packet().await.is_some() {}
    ended_by(&site.log.disconnected("a", 1).await, DisconnectReason::KeepAlive);
}

#[tokio::test]
async fn a_flooding_publisher_takes_turns_with_others() {
    let (site, mut events) = Site::with_events(
        Options {
            event_queue: 8,
            ..Options::default()
        },
        AcceptorOptions::default(),
    );
    let mut flood = Raw::session(&site, "flood", &site.enrol("flood")).await;
    // Nobody takes events: the flood fills its lanes, then its socket, and is read no more.
    let bulk = publish(0x30, "dev/flood/b", 0, &[0; 8 * 1024]);
    while timeout(Duration::from_millis(500), flood.stream.write_all(&bulk))
        .await
        .is_ok()
    {}

    let mut quiet = Raw::session(&site, "quiet", &site.enrol("quiet")).await;
    quiet.send(&publish(0x32, "dev/quiet/b", 1, b"bulk")).await;
    assert_eq!(
        quiet.packet().await,
        [0x40, 2, 0, 1],
        "the quiet device is served as ever"
    );
    quiet.send(&publish(0x32, "dev/quiet/s", 2, b"status")).await;
    assert_eq!(quiet.packet().await, [0x40, 2, 0, 2]);

    let mut place = None;
    for nth in 0..200 {
        let event = timeout(DEADLINE, events.recv())
            .await
            .expect("in time")
            .expect("open");
        match event {
            Event::Message { device, lane, .. } if device.as_str() == "quiet" => {
                assert!(
                    lane == UpLane::Status || place.is_some(),
                    "status goes before bulk"
                );
                if lane == UpLane::Bulk {
                    assert!(nth <= 16, "bulk of the quiet device came as event {nth}");
                    return;
                }
                assert!(nth <= 8 + 3, "status of the quiet device came as event {nth}");
                place = Some(nth);
            }
            _ => {}
        }
    }
    panic!("the quiet device was never heard, status at {place:?}");
}

#[tokio::test]
async fn a_backed_up_device_goes_on_when_the_hub_does() {
    let (site, mut events) = Site::with_events(Options::default(), AcceptorOptions::default());
    let mut raw = Raw::session(&site, "a", &site.enrol("a")).await;
    let total = 300_u16;
    let burst: Vec<u8> = (1..=total)
        .flat_map(|i| publish(0x32, "dev/a/b", i, &i.to_be_bytes()))
        .collect();
    raw.send(&burst).await;
    let mut next = 1;
    while next <= total {
        let event = timeout(DEADLINE, events.recv())
            .await
            .expect("in time")
            .expect("open");
        if let Event::Message { bytes, .. } = event {
            assert_eq!(bytes.as_ref(), next.to_be_bytes(), "in order, none lost");
            next += 1;
        }
    }
    for i in 1..=total {
        assert_eq!(raw.packet().await, puback(i));
    }
}

#[tokio::test]
async fn one_certificate_cannot_hold_the_port() {
    let options = Options {
        connect_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let site = Site::with(options, AcceptorOptions::default());
    let config = site.enrol("a");
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(Raw::open(&site, &config).await);
    }
    site.refused(iot_hub_mqtt::RefuseReason::TooManyArrivals, 4).await;
    site.refused(iot_hub_mqtt::RefuseReason::NoConnect, 4).await;
    for raw in &mut waiting {
        raw.ended().await;
    }
    Raw::session(&site, "a", &config).await;
}

#[tokio::test]
async fn bytes_that_are_not_mqtt_end_the_connection_only() {
    let site = Site::start();
    let config = site.enrol("a");
    for junk in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0, 0],
        &[0xFF; 64],
        &packet(0x20, &[0, 0]),
        &[0xC0, 0],
    ] {
        let mut raw = Raw::open(&site, &config).await;
        raw.send(junk).await;
        raw.ended().await;
    }
    site.refused(iot_hub_mqtt::RefuseReason::Malformed, 5).await;
    until("no session began", || site.handle.sessions().is_empty()).await;
    others_work(&site, "good").await;
}
