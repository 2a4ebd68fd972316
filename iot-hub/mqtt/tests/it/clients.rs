//! Real `rumqttc` clients, as the agent uses them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iot_hub_mqtt::{DownLane, UpLane};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::site::{DEADLINE, Site, device};

fn client(site: &Site, name: &str, config: &Arc<ClientConfig>) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(name, "127.0.0.1", site.address.port());
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(config))));
    options
        .set_keep_alive(Duration::from_secs(5))
        .set_clean_session(true);
    AsyncClient::new(options, 10)
}

/// Polls until a packet for which `found` says so has come.
async fn poll<T>(events: &mut EventLoop, found: impl Fn(Packet) -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Event::Incoming(packet) = events.poll().await.expect("connected")
                && let Some(found) = found(packet)
            {
                return found;
            }
        }
    };
    timeout(DEADLINE, polling).await.expect("in time")
}

#[tokio::test]
async fn messages_go_up_and_down() {
    let site = Site::start();
    let (client, mut events) = client(&site, "a", &site.enrol("a"));
    poll(&mut events, |packet| {
        matches!(packet, Packet::ConnAck(_)).then_some(())
    })
    .await;
    client.subscribe("dev/a/d", QoS::AtLeastOnce).await.unwrap();
    client.subscribe("dev/a/c", QoS::AtLeastOnce).await.unwrap();
    client
        .publish("dev/a/s", QoS::AtLeastOnce, false, "hello")
        .await
        .unwrap();
    client
        .publish("dev/a/b", QoS::AtLeastOnce, false, vec![b'x'; 100])
        .await
        .unwrap();
    for _ in 0..2 {
        poll(&mut events, |packet| {
            matches!(packet, Packet::PubAck(_)).then_some(())
        })
        .await;
    }
    site.log.message("a", UpLane::Status, "hello").await;
    site.log.message("a", UpLane::Bulk, &"x".repeat(100)).await;

    let connection = site.connection("a").unwrap();
    for i in 0..50_u8 {
        let lane = if i % 2 == 0 {
            DownLane::Desired
        } else {
            DownLane::Command
        };
        site.handle
            .send(&device("a"), connection, lane, Bytes::from(vec![i]))
            .unwrap();
    }
    let mut got = Vec::new();
    while got.len() < 50 {
        got.push(
            poll(&mut events, |packet| match packet {
                Packet::Publish(publish) => Some((publish.topic, publish.payload[0])),
                _ => None,
            })
            .await,
        );
    }
    let of = |topic: &str| {
        got.iter()
            .filter(|(t, _)| t == topic)
            .map(|(_, i)| *i)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("dev/a/d"), (0..50).step_by(2).collect::<Vec<_>>());
    assert_eq!(of("dev/a/c"), (1..50).step_by(2).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_polls_is_kept_alive() {
    let site = Site::start();
    let (_client, mut events) = client(&site, "a", &site.enrol("a"));
    // rumqttc pings after five seconds without traffic; the endpoint would end it after seven and a half.
    for _ in 0..2 {
        poll(&mut events, |packet| {
            matches!(packet, Packet::PingResp).then_some(())
        })
        .await;
    }
    assert_eq!(site.log.all().len(), 1, "connected, and nothing else");
}
