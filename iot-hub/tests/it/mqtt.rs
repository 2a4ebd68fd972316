//! The device port by MQTT: a real client says hello and gets its signed set.

use std::sync::Arc;
use std::time::Duration;

use edge_protocol::sign::{Binding, TrustedKeys};
use edge_protocol::v1::{
    Blob, Down, DownFrame, Facts, Hello, Statement, StatementBody, Up, UpFrame, VERSION,
};
use edge_protocol::{BootId, DeviceTime, Digest, Nonce, SessionEpoch, frame};
use iot_hub_client::api::{CreateEnrolmentToken, DeviceState};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, TlsConfiguration, Transport};

use crate::device::{Device, HubPort};
use crate::site::{Site, deployment, uid, within};

pub struct Session {
    pub client: AsyncClient,
    pub events: EventLoop,
}

pub fn connect(port: &HubPort, device: &Device, client_id: &str) -> Session {
    let mut options = MqttOptions::new(client_id, port.address.ip().to_string(), port.address.port());
    options.set_keep_alive(Duration::from_secs(30));
    options.set_max_packet_size(2 << 20, 2 << 20);
    let tls = port.tls(Some(device), b"mqtt");
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(tls))));
    let (client, events) = AsyncClient::new(options, 16);
    Session { client, events }
}

pub fn nonce() -> Nonce {
    Nonce::new("0123456789abcdef0123456789abcdef").unwrap()
}

/// Of the scripted device, always.
pub fn device_time() -> DeviceTime {
    let boot_id: BootId = serde_json::from_str("\"00000000-0000-0000-0000-000000000001\"").unwrap();
    DeviceTime {
        boot_id,
        mono_ms: 1,
        wall_ms: 1,
        wall_trusted: true,
    }
}

impl Session {
    /// The next message on a down lane.
    pub async fn message(&mut self) -> Vec<u8> {
        loop {
            if let Event::Incoming(Packet::Publish(publish)) = self.events.poll().await.unwrap() {
                return publish.payload.to_vec();
            }
        }
    }

    async fn hello(&mut self, id: &str, features: &[&str]) {
        for lane in ["d", "c"] {
            self.client
                .subscribe(format!("dev/{id}/{lane}"), QoS::AtLeastOnce)
                .await
                .unwrap();
        }
        let hello = Hello {
            nonce: nonce(),
            agent_version: "test".into(),
            features: features.iter().map(ToString::to_string).collect(),
            held: None,
            facts: Facts {
                hostname: id.into(),
                ..Facts::default()
            },
        };
        self.say(id, None, Up::Hello(Box::new(hello))).await;
    }

    /// A frame of this session.
    pub async fn say(&mut self, id: &str, session: Option<SessionEpoch>, body: Up) {
        let frame = UpFrame {
            v: VERSION,
            session,
            incarnation: None,
            seq: 0,
            time: device_time(),
            body,
        };
        let bytes = frame::encode(&frame).unwrap();
        self.client
            .publish(format!("dev/{id}/s"), QoS::AtLeastOnce, false, bytes)
            .await
            .unwrap();
    }

    /// The first statement, verified as an agent does, with the blobs that came along.
    pub async fn statement(&mut self, device: &Device) -> (Statement, Vec<Blob>) {
        let (keys, binding) = (trusted(device), binding(device));
        loop {
            let bytes = self.message().await;
            if let Down::Statement { envelope, blobs } = frame::decode::<DownFrame>(&bytes).unwrap().body {
                return (keys.open_statement(&envelope, &binding).unwrap(), blobs);
            }
        }
    }
}

/// The hub's keys, as the device was told them.
pub fn trusted(device: &Device) -> TrustedKeys {
    TrustedKeys::from_iter([hex_key(&device.answer.signing_keys[0])])
}

pub fn binding(device: &Device) -> Binding {
    let answer = &device.answer;
    Binding {
        hub: answer.hub,
        device: answer.device.clone(),
        enrolment: answer.enrolment.clone(),
        nonce: nonce(),
        session: None,
        last_seq: 0,
    }
}

fn hex_key(hex: &str) -> ed25519_dalek::VerifyingKey {
    let bytes: Vec<u8> = (0..32)
        .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
        .collect();
    ed25519_dalek::VerifyingKey::from_bytes(&bytes.try_into().unwrap()).unwrap()
}

pub async fn begin(site: &Site, device: &Device) -> (Session, Statement, Vec<Blob>) {
    begin_with(site, device, &[]).await
}

/// As [`begin`], of an agent with these abilities.
pub async fn begin_with(site: &Site, device: &Device, features: &[&str]) -> (Session, Statement, Vec<Blob>) {
    let id = device.answer.device.to_string();
    let mut session = connect(&HubPort::of(site), device, &id);
    session.hello(&id, features).await;
    let (statement, blobs) = within("a statement", session.statement(device)).await;
    (session, statement, blobs)
}

#[tokio::test]
async fn hello_is_answered_with_a_signed_snapshot() {
    let site = Site::start().await;
    let admin = site.admin().await;
    admin.put_deployment(&deployment("u1", "*")).await.unwrap();
    let token = site.enrolment_token(CreateEnrolmentToken::default()).await;
    let device = Device::enrol(&site, &token, "d1").await;

    let (_session, statement, blobs) = begin(&site, &device).await;
    let StatementBody::Snapshot {
        part: 0,
        of: 1,
        items,
    } = &statement.body
    else {
        panic!("not a whole snapshot: {statement:?}");
    };
    assert_eq!(
        items.iter().map(|item| item.uid.clone()).collect::<Vec<_>>(),
        [uid("u1")]
    );
    assert_eq!(blobs[0].digest, items[0].digest);
    assert_eq!(Digest::of(&blobs[0].body), blobs[0].digest);

    let seen = admin.device(&device.answer.device).await.unwrap();
    assert!(seen.connected && seen.online);
    assert_eq!(seen.facts.hostname, "d1");
    let status = admin.deployment(&uid("u1")).await.unwrap().status;
    assert_eq!(
        (status.counts.targeted, status.counts.healthy, status.ready),
        (1, 0, false)
    );
}

#[tokio::test]
async fn a_certificate_opens_its_own_session_only() {
    let site = Site::start().await;
    let token = site
        .enrolment_token(CreateEnrolmentToken {
            uses: 2,
            ..CreateEnrolmentToken::default()
        })
        .await;
    let (one, two) = (
        Device::enrol(&site, &token, "d1").await,
        Device::enrol(&site, &token, "d2").await,
    );
    let port = HubPort::of(&site);
    assert!(connect(&port, &one, "d2").events.poll().await.is_err());
    let other = Site::start().await;
    assert!(
        connect(
            &HubPort {
                hub: site.ca().hub,
                ..HubPort::of(&other)
            },
            &one,
            "d1"
        )
        .events
        .poll()
        .await
        .is_err()
    );

    let (mut session, ..) = begin(&site, &two).await;
    let admin = site.admin().await;
    admin
        .set_device_state(&two.answer.device, DeviceState::Disabled)
        .await
        .unwrap();
    within("the session's end", async {
        while session.events.poll().await.is_ok() {}
    })
    .await;
    within("the refusal", async {
        while connect(&port, &two, "d2").events.poll().await.is_ok() {}
    })
    .await;
}
