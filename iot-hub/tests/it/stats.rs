//! What a device uses, by REST: a scripted device is asked and answers.

use std::time::Duration;

use edge_protocol::v1::{Down, DownFrame, Stats, StatsAsk, StatsReport, Up, UpFrame, VERSION, ability};
use edge_protocol::{DeviceId, Lane, SessionEpoch, frame};
use iot_hub::grant::{Grant, Role};
use iot_hub_client::ClientError;
use iot_hub_client::api::{CreateEnrolmentToken, ProblemCode};
use rumqttc::QoS;

use crate::device::Device;
use crate::mqtt::{Session, begin_with, device_time};
use crate::site::{Site, deployment, uid, within};

const YOUNG: Duration = Duration::from_secs(15);

/// The next ask.
async fn asked(session: &mut Session) -> StatsAsk {
    loop {
        let bytes = session.message().await;
        if let Down::StatsAsk(ask) = frame::decode::<DownFrame>(&bytes).unwrap().body {
            return ask;
        }
    }
}

async fn tell(session: &mut Session, id: &DeviceId, epoch: SessionEpoch, uids: &[&str]) {
    let workloads: Vec<_> = uids.iter().map(|uid| serde_json::json!({ "uid": uid })).collect();
    let stats: Stats = serde_json::from_value(serde_json::json!({
        "at": device_time(),
        "node": { "cpu": { "at_ms": 1, "usage_ns": 5 } },
        "workloads": workloads,
    }))
    .unwrap();
    for (seq, part) in (1..).zip(StatsReport::parts(1, 0, stats)) {
        let frame = UpFrame {
            v: VERSION,
            session: Some(epoch),
            incarnation: None,
            seq,
            time: device_time(),
            body: Up::Stats(part),
        };
        let topic = format!("dev/{id}/{}", Lane::Bulk.topic_level());
        let bytes = frame::encode(&frame).unwrap();
        session
            .client
            .publish(topic, QoS::AtLeastOnce, false, bytes)
            .await
            .unwrap();
    }
}

fn code(error: &ClientError) -> ProblemCode {
    let ClientError::Refused { problem, .. } = error else {
        panic!("{error}")
    };
    problem.code
}

#[tokio::test]
async fn a_sample_is_asked_for_once_and_shown_with_its_age() {
    let site = Site::start().await;
    let admin = site.admin().await;
    admin.put_deployment(&deployment("u1", "*")).await.unwrap();
    let token = site.enrolment_token(CreateEnrolmentToken::default()).await;
    let device = Device::enrol(&site, &token, "d1").await;
    let id = device.answer.device.clone();
    let refused = admin.device_stats(&id, YOUNG).await.unwrap_err();
    assert_eq!(code(&refused), ProblemCode::DeviceNotConnected);

    let (mut session, statement, _) = begin_with(&site, &device, &[ability::STATS]).await;
    let callers = async { tokio::join!(admin.device_stats(&id, YOUNG), admin.device_stats(&id, YOUNG)) };
    let device_side = async {
        let ask = asked(&mut session).await;
        assert_eq!(
            (ask.session, ask.interval_ms, ask.for_ms),
            (statement.session, 10_000, 0)
        );
        tell(&mut session, &id, statement.session, &["u1", "not-its-own"]).await;
        // What is queued is sent while it listens.
        loop {
            session.message().await;
        }
    };
    let (one, two) = tokio::select! {
        answers = within("the answers", callers) => answers,
        () = device_side => unreachable!("it listens for ever"),
    };
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.stats, two.stats);
    let node = one.stats.node.as_ref().unwrap();
    assert_eq!(node.cpu.unwrap().usage_ns, Some(5));
    let uids: Vec<_> = one
        .stats
        .workloads
        .iter()
        .map(|workload| workload.uid.clone())
        .collect();
    assert_eq!(uids, [uid("u1")]);
    assert!(one.received_ms > 0);

    // Another principal's scope.
    let grant = Grant {
        devices: "facts.arch = 'none'".to_owned(),
        ..Grant::unrestricted(Role::Viewer)
    };
    let stranger = site.client(grant).await;
    let refused = stranger.device_stats(&id, YOUNG).await.unwrap_err();
    assert_eq!(code(&refused), ProblemCode::NoSuchDevice);

    // The device goes; what it said stays, and its age is told.
    drop(session);
    within("its end is seen", async {
        while admin.device(&id).await.unwrap().connected {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stale = admin.device_stats(&id, Duration::ZERO).await.unwrap();
    assert_eq!((stale.stats, stale.received_ms), (one.stats, one.received_ms));
}

#[tokio::test]
async fn a_device_that_does_not_tell_is_said_to_be_one() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let token = site.enrolment_token(CreateEnrolmentToken::default()).await;
    let device = Device::enrol(&site, &token, "d1").await;
    let _session = begin_with(&site, &device, &[]).await;
    let refused = admin
        .device_stats(&device.answer.device, YOUNG)
        .await
        .unwrap_err();
    assert_eq!(code(&refused), ProblemCode::DeviceLacksAbility);
    let nobody = DeviceId::new("nobody").unwrap();
    let refused = admin.device_stats(&nobody, YOUNG).await.unwrap_err();
    assert_eq!(code(&refused), ProblemCode::NoSuchDevice);
}
