//! Enrolment: the happy path, the repeat, and every way it must be refused.

use std::collections::BTreeMap;

use edge_protocol::sealing::EnrolmentBinding;
use edge_protocol::v1::{EnrolRequest, EnrolmentToken, LinkClass};
use edge_protocol::{Digest, EnrolmentSerial, SealingKey};
use iot_hub::grant::{Grant, Role};
use iot_hub_client::ClientError;
use iot_hub_client::api::{CreateEnrolmentToken, DeviceState, DeviceWorkload, ProblemCode, WorkloadDesired};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::device::{Device, HubPort, new_key, request, request_with};
use crate::site::{Site, deployment, uid, within};

fn ask() -> CreateEnrolmentToken {
    CreateEnrolmentToken {
        group: "line-1".into(),
        tags: BTreeMap::from([("site".into(), "graz".into())]),
        link: LinkClass::Cellular,
        ..CreateEnrolmentToken::default()
    }
}

#[tokio::test]
async fn a_token_makes_a_device() {
    let site = Site::start().await;
    let token = site.enrolment_token(ask()).await;
    let root = CertificateDer::from_pem_slice(site.anchors.as_bytes()).unwrap();
    assert_eq!(token.anchor, Digest::of(&root), "the token names the anchor");

    let device = Device::enrol(&site, &token, "press-7").await;
    assert_eq!(device.answer.anchors, site.anchors);
    assert_eq!(device.answer.hub, site.ca().hub);
    assert_eq!(device.answer.link, LinkClass::Cellular);
    let key = edge_protocol::digest::hex(site.ca().signing.verifying_key().as_bytes());
    assert_eq!(device.answer.signing_keys, [key]);

    let seen = site.admin().await.device(&device.answer.device).await.unwrap();
    assert_eq!(
        (seen.group.as_str(), seen.link, seen.state),
        ("line-1", LinkClass::Cellular, DeviceState::Active)
    );
    assert_eq!(seen.tags, ask().tags);
    assert_eq!(seen.enrolment, device.answer.enrolment);
    assert!(!seen.connected && !seen.online);
}

#[tokio::test]
async fn the_same_key_is_answered_again_also_after_a_restart() {
    let mut site = Site::start().await;
    let token = site.enrolment_token(ask()).await;
    let key = new_key();
    let first = HubPort::of(&site)
        .enrol(&request(&token, &key, Some("press-7")))
        .await
        .unwrap();
    // As if the answer had been cut: another wish changes nothing.
    let again = HubPort::of(&site)
        .enrol(&request(&token, &key, None))
        .await
        .unwrap();
    assert_eq!(again, first);
    site = site.restart().await;
    let again = HubPort::of(&site)
        .enrol(&request(&token, &key, Some("press-7")))
        .await
        .unwrap();
    assert_eq!(again, first);
    let other = HubPort::of(&site)
        .enrol(&request(&token, &new_key(), Some("press-8")))
        .await
        .unwrap_err();
    assert_eq!(other.code, ProblemCode::EnrolmentRefused);
    assert_eq!(site.admin().await.devices().await.unwrap().items.len(), 1);
}

/// The store's half of an enrolment over `previous`, and nothing after it: as a crash leaves it.
async fn only_claimed(
    site: &Site,
    token: &EnrolmentToken,
    asked: &EnrolRequest,
    previous: Option<EnrolmentSerial>,
) -> EnrolmentSerial {
    use iot_hub_store::{Claim, Claimed, EnrolmentRecord, HubStore as _};

    let csr = iot_hub::ca::DeviceRequest::parse(&asked.csr).unwrap();
    let device = asked.device.clone().unwrap();
    let authority = iot_hub::ca::Authority::new(&site.ca()).unwrap();
    let issued = authority.device(&device, &csr, 30).unwrap();
    let now_ms = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let claim = Claim {
        enrolment: EnrolmentRecord {
            token: token.id.clone(),
            key_fingerprint: csr.fingerprint(),
            device,
            serial: issued.serial.clone(),
            certificate_chain: issued.chain,
            sealing_key: binding(token, asked).open(&asked.sealing).unwrap(),
            sealing_proof: asked.sealing.clone(),
            previous,
            at_ms: now_ms,
        },
        now_ms,
        repeat_within_ms: 1000,
    };
    let claimed = site.store().await.claim(&claim).await.unwrap();
    assert_eq!(claimed, Claimed::New);
    issued.serial
}

#[tokio::test]
async fn a_crash_before_the_machine_knew_is_repaired_by_the_repeat() {
    let site = Site::start().await;
    let token = site.enrolment_token(ask()).await;
    let asked = request(&token, &new_key(), Some("press-7"));
    let serial = only_claimed(&site, &token, &asked, None).await;
    assert!(site.admin().await.devices().await.unwrap().items.is_empty());

    let answer = HubPort::of(&site).enrol(&asked).await.unwrap();
    assert_eq!(answer.enrolment, serial);
    let seen = site.admin().await.device(&answer.device).await.unwrap();
    assert_eq!((seen.enrolment, seen.link), (serial, LinkClass::Cellular));
}

#[tokio::test]
async fn a_takeover_that_was_cut_in_half_is_finished_unless_another_came_between() {
    let site = Site::start().await;
    let (port, admin) = (HubPort::of(&site), site.admin().await);
    let first = Device::enrol(&site, &site.enrolment_token(ask()).await, "press-7").await;
    let id = first.answer.device.clone();
    let fixed = || CreateEnrolmentToken {
        device: Some(id.clone()),
        ..ask()
    };
    let (second, third) = (
        site.enrolment_token(fixed()).await,
        site.enrolment_token(fixed()).await,
    );
    let asked = |token| request(token, &new_key(), Some("press-7"));
    let (by_second, by_third) = (asked(&second), asked(&third));
    // Both were begun over the first enrolment, and both were cut in half.
    let previous = Some(first.answer.enrolment.clone());
    let serial = only_claimed(&site, &second, &by_second, previous.clone()).await;
    only_claimed(&site, &third, &by_third, previous).await;

    assert_eq!(port.enrol(&by_second).await.unwrap().enrolment, serial);
    assert_eq!(admin.device(&id).await.unwrap().enrolment, serial);
    let overtaken = port.enrol(&by_third).await.unwrap_err();
    assert_eq!(overtaken.code, ProblemCode::EnrolmentSuperseded);
    assert_eq!(admin.device(&id).await.unwrap().enrolment, serial);
    // What it asked for, it may have had: its token is used up.
    let used = admin.enrolment_tokens().await.unwrap().items;
    assert!(used.iter().all(|token| token.used == token.uses));
}

#[tokio::test]
async fn what_is_not_right_is_refused() {
    let site = Site::start().await;
    let port = HubPort::of(&site);
    let token = site.enrolment_token(ask()).await;
    let key = new_key();
    let check = async |change: &dyn Fn(&mut edge_protocol::v1::EnrolRequest), expect: ProblemCode| {
        let mut asked = request(&token, &key, Some("press-7"));
        change(&mut asked);
        assert_eq!(port.enrol(&asked).await.unwrap_err().code, expect);
    };
    check(
        &|asked| asked.token_secret = "wrong".into(),
        ProblemCode::EnrolmentRefused,
    )
    .await;
    check(
        &|asked| asked.token_id = "wrong".into(),
        ProblemCode::EnrolmentRefused,
    )
    .await;
    check(&|asked| asked.csr = "no request".into(), ProblemCode::BadCsr).await;
    check(&|asked| asked.v = 9, ProblemCode::BadValue).await;
    // The signed wish is another than the one that is asked for.
    check(&|asked| asked.device = None, ProblemCode::BadSealingKey).await;
    check(
        &|asked| asked.sealing.signatures.clear(),
        ProblemCode::BadSealingKey,
    )
    .await;
    let stranger = request(&token, &new_key(), Some("press-7"));
    check(
        &|asked| asked.sealing = stranger.sealing.clone(),
        ProblemCode::BadSealingKey,
    )
    .await;
    assert!(site.admin().await.devices().await.unwrap().items.is_empty());
    // None of it used the token up.
    Device::enrol(&site, &token, "press-7").await;

    // An expired token: the store's own clock cannot be turned, its row can.
    let store = site.store().await;
    let (mut record, created) = iot_hub::token::enrolment(ask(), token.anchor);
    record.expires_ms = 1;
    iot_hub_store::HubStore::put_enrolment_token(&store, &record)
        .await
        .unwrap();
    let expired = created.token.parse().unwrap();
    let problem = port
        .enrol(&request(&expired, &new_key(), None))
        .await
        .unwrap_err();
    assert_eq!(problem.code, ProblemCode::EnrolmentRefused);
}

fn binding(token: &EnrolmentToken, asked: &EnrolRequest) -> EnrolmentBinding {
    let csr = iot_hub::ca::DeviceRequest::parse(&asked.csr).unwrap();
    EnrolmentBinding {
        anchor: token.anchor,
        token_id: token.id.clone(),
        device: asked.device.clone(),
        identity: csr.identity().to_vec(),
    }
}

#[tokio::test]
async fn the_sealing_key_is_registered_with_the_enrolment() {
    let mut site = Site::start().await;
    let token = site.enrolment_token(ask()).await;
    let key = new_key();
    let asked = request(&token, &key, Some("press-7"));
    let sealing = binding(&token, &asked).open(&asked.sealing).unwrap();
    let answer = HubPort::of(&site).enrol(&asked).await.unwrap();
    assert_eq!(answer.sealing_key, sealing);
    let seen = async |site: &Site| site.admin().await.device(&answer.device).await.unwrap();
    assert_eq!(
        seen(&site).await.sealing_key_fingerprint,
        Some(sealing.fingerprint())
    );

    // The same token with the same identity but another sealing key is told so, and changes nothing.
    let other = SealingKey::new([9; 32]).unwrap();
    let problem = HubPort::of(&site)
        .enrol(&request_with(&token, &key, Some("press-7"), other))
        .await
        .unwrap_err();
    assert_eq!(problem.code, ProblemCode::SealingKeyChanged);
    assert!(problem.detail.contains("sealing.key"), "{problem}");
    site = site.restart().await;
    assert_eq!(
        seen(&site).await.sealing_key_fingerprint,
        Some(sealing.fingerprint())
    );
    assert_eq!(HubPort::of(&site).enrol(&asked).await.unwrap(), answer);
    // Who seals can check by itself what the hub says.
    let fingerprint = iot_hub::ca::DeviceRequest::parse(&asked.csr)
        .unwrap()
        .fingerprint();
    let store = site.store().await;
    let kept = iot_hub_store::HubStore::enrolment(&store, &token.id, &fingerprint)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(binding(&token, &asked).open(&kept.sealing_proof), Ok(sealing));

    // Another enrolment brings another key.
    let fixed = CreateEnrolmentToken {
        device: Some(answer.device.clone()),
        ..ask()
    };
    let fixed = site.enrolment_token(fixed).await;
    let again = request_with(&fixed, &new_key(), None, other);
    HubPort::of(&site).enrol(&again).await.unwrap();
    assert_eq!(
        seen(&site).await.sealing_key_fingerprint,
        Some(other.fingerprint())
    );
}

#[tokio::test]
async fn what_was_sent_for_one_token_is_nothing_for_another() {
    let site = Site::start().await;
    let (first, second) = (
        site.enrolment_token(ask()).await,
        site.enrolment_token(ask()).await,
    );
    let mut replayed = request(&first, &new_key(), Some("press-7"));
    replayed.token_id.clone_from(&second.id);
    replayed.token_secret.clone_from(&second.secret);
    let problem = HubPort::of(&site).enrol(&replayed).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::BadSealingKey);
    assert_eq!(problem.field.as_deref(), Some("sealing"));
}

#[tokio::test]
async fn a_hub_with_another_anchor_is_not_trusted() {
    let (site, other) = (Site::start().await, Site::start().await);
    let mut port = HubPort::of(&site);
    port.anchors = other.anchors.clone();
    let token = site.enrolment_token(ask()).await;
    let sent = port
        .http(None)
        .post(port.url("/enroll"))
        .json(&request(&token, &new_key(), None))
        .send()
        .await;
    assert!(sent.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_fleet_token_cannot_take_over_a_device() {
    let site = Site::start().await;
    let token = site
        .enrolment_token(CreateEnrolmentToken { uses: 9, ..ask() })
        .await;
    let first = Device::enrol(&site, &token, "press-7").await;
    let port = HubPort::of(&site);
    let taken = port
        .enrol(&request(&token, &new_key(), Some("press-7")))
        .await
        .unwrap_err();
    assert_eq!(taken.code, ProblemCode::DeviceIdTaken);

    let admin = site.admin().await;
    admin
        .set_tags(
            &first.answer.device,
            BTreeMap::from([("by".into(), "hand".into())]),
        )
        .await
        .unwrap();
    let fixed = CreateEnrolmentToken {
        device: Some(first.answer.device.clone()),
        ..ask()
    };
    let fixed = site.enrolment_token(fixed).await;
    let again = port.enrol(&request(&fixed, &new_key(), None)).await.unwrap();
    assert_ne!(again.enrolment, first.answer.enrolment);
    let seen = admin.device(&first.answer.device).await.unwrap();
    assert_eq!(seen.enrolment, again.enrolment);
    assert_eq!(seen.tags["by"], "hand", "what people set is kept");
    // The first certificate is refused from now on: the connection is closed without an answer.
    let digest = Digest::of("x");
    let sent = port
        .http(Some(&first))
        .get(port.url(&format!("/blobs/{digest}")))
        .send()
        .await;
    assert!(sent.is_err());
}

#[tokio::test]
async fn the_id_of_a_decommissioned_device_may_come_back() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let token = site
        .enrolment_token(CreateEnrolmentToken { uses: 2, ..ask() })
        .await;
    let first = Device::enrol(&site, &token, "press-7").await;
    let by_hand = BTreeMap::from([("by".to_owned(), "hand".to_owned())]);
    admin.set_tags(&first.answer.device, by_hand).await.unwrap();
    admin
        .set_device_state(&first.answer.device, DeviceState::Decommissioned)
        .await
        .unwrap();
    let second = Device::enrol(&site, &token, "press-7").await;
    let seen = admin.device(&second.answer.device).await.unwrap();
    assert_eq!(
        (seen.state, seen.link, seen.tags),
        (DeviceState::Active, LinkClass::Cellular, ask().tags)
    );
    assert_eq!(seen.enrolment, second.answer.enrolment);
}

#[tokio::test]
async fn the_id_of_a_lost_device_is_given_free_by_a_named_act() {
    let site = Site::start().await;
    let token = site
        .enrolment_token(CreateEnrolmentToken { uses: 2, ..ask() })
        .await;
    let lost = Device::enrol(&site, &token, "press-7").await;
    let id = lost.answer.device.clone();
    let admin = site.admin().await;
    admin.put_deployment(&deployment("u1", "*")).await.unwrap();
    // After a restart it is not known any more whether the device was told, so it has to say that it stopped.
    let site = site.restart().await;
    let (port, admin) = (HubPort::of(&site), site.admin().await);
    admin.delete_deployment(&uid("u1"), None).await.unwrap();
    let refused = admin.forget_device_with_running_workloads(&id).await.unwrap_err();
    let code = |error: &ClientError| error.problem().unwrap().code;
    assert_eq!(code(&refused), ProblemCode::NotDecommissioned);
    admin
        .set_device_state(&id, DeviceState::Decommissioned)
        .await
        .unwrap();

    let asked = request(&token, &new_key(), Some("press-7"));
    let taken = port.enrol(&asked).await.unwrap_err();
    assert_eq!(taken.code, ProblemCode::DeviceIdTaken);
    let way_out = "outrigger device forget press-7 --accept-running-workloads";
    assert!(taken.detail.contains(way_out), "{taken}");
    let held = admin.device_workloads(&id).await.unwrap().items;
    let expect = DeviceWorkload {
        uid: uid("u1"),
        desired: WorkloadDesired::Stop,
        namespace: None,
        name: None,
    };
    assert_eq!(held, [expect]);
    let viewer = site.client(Grant::unrestricted(Role::Viewer)).await;
    let refused = viewer
        .forget_device_with_running_workloads(&id)
        .await
        .unwrap_err();
    assert_eq!(code(&refused), ProblemCode::Forbidden);
    assert_eq!(port.enrol(&asked).await.unwrap_err().code, taken.code);

    admin.forget_device_with_running_workloads(&id).await.unwrap();
    let audit = &admin.audit().await.unwrap().items[0];
    assert_eq!(
        (audit.action.as_str(), audit.subject.as_str()),
        ("forget-device", "press-7, where 1 workloads may run")
    );
    let again = port.enrol(&asked).await.unwrap();
    let seen = admin.device(&id).await.unwrap();
    assert_eq!(
        (seen.state, seen.enrolment),
        (DeviceState::Active, again.enrolment)
    );
}

#[tokio::test]
async fn running_workloads_are_accepted_in_so_many_words() {
    let site = Site::start().await;
    let (record, token) = iot_hub::token::api("t", &Grant::unrestricted(Role::Admin));
    iot_hub_store::HubStore::put_api_token(&site.store().await, &record)
        .await
        .unwrap();
    let anchor = reqwest::Certificate::from_pem(site.anchors.as_bytes()).unwrap();
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = reqwest::Client::builder()
        .tls_certs_only([anchor])
        .build()
        .unwrap();
    let url = format!("{}/api/v1/devices/press-7/forget", site.rest_url());
    for (body, status) in [
        ("{}", 400),
        (r#"{"accept_running_workloads": false}"#, 422),
        (r#"{"accept_running_workloads": true}"#, 404),
    ] {
        let asked = http
            .post(&url)
            .header("content-type", "application/json")
            .body(body);
        let response = asked.bearer_auth(&token).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{body}");
    }
}

#[tokio::test]
async fn a_guesser_is_slowed_down() {
    let site = Site::start().await;
    let port = HubPort::of(&site);
    let mut asked = request(&site.enrolment_token(ask()).await, &new_key(), None);
    asked.token_secret = "guess".into();
    let http = port.http(None);
    let mut answers = Vec::new();
    for _ in 0..70 {
        let response = http.post(port.url("/enroll")).json(&asked).send().await.unwrap();
        answers.push(response.status().as_u16());
    }
    assert_eq!(answers[0], 403);
    assert_eq!(answers[69], 429);
}

#[tokio::test]
async fn slow_strangers_are_refused_by_their_heads_and_take_nobodys_place() {
    let site = Site::start().await;
    let token = site.enrolment_token(ask()).await;
    let device = Device::enrol(&site, &token, "press-7").await;
    let port = HubPort::of(&site);
    let head =
        "POST /enroll HTTP/1.1\r\nhost: hub\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    // One address has 60 attempts a minute, one of which is used up; no body ever ends.
    let mut slow = Vec::new();
    for _ in 0..62 {
        let mut stream = port.stream().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let answers = slow.iter_mut().map(|stream| {
        Box::pin(async {
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.map(|_| answer)
        })
    });
    let (first, ..) = within("the answer to a head", futures_util::future::select_all(answers)).await;
    assert_eq!(&first.unwrap(), b"HTTP/1.1 429");
    let digest = Digest::of("x");
    let url = port.url(&format!("/blobs/{digest}"));
    let served = within("a device's request", port.http(Some(&device)).get(url).send());
    assert_eq!(
        served.await.unwrap().status().as_u16(),
        404,
        "a device has its own places"
    );
}

#[tokio::test]
async fn a_superseded_key_does_not_take_the_device_back() {
    let site = Site::start().await;
    let (port, admin) = (HubPort::of(&site), site.admin().await);
    let token = site.enrolment_token(ask()).await;
    let first = Device::enrol(&site, &token, "press-7").await;
    let id = first.answer.device.clone();
    let fixed = CreateEnrolmentToken {
        device: Some(id.clone()),
        ..ask()
    };
    let fixed = site.enrolment_token(fixed).await;
    let second = Device::enrol(&site, &fixed, "press-7").await;
    let refused = async |token, device: &Device| {
        let again = port.enrol(&request(token, &device.key, None)).await;
        assert_eq!(again.unwrap_err().code, ProblemCode::EnrolmentSuperseded);
        let seen = admin.device(&id).await.unwrap();
        assert_eq!(seen.enrolment, second.answer.enrolment);
        seen.state
    };
    assert_eq!(refused(&token, &first).await, DeviceState::Active);
    // Nor does any key bring back what is decommissioned.
    admin
        .set_device_state(&id, DeviceState::Decommissioned)
        .await
        .unwrap();
    assert_eq!(refused(&token, &first).await, DeviceState::Decommissioned);
    assert_eq!(refused(&fixed, &second).await, DeviceState::Decommissioned);
}

#[tokio::test]
async fn of_clones_that_wish_for_one_id_only_one_gets_it() {
    let site = Site::start().await;
    let token = site
        .enrolment_token(CreateEnrolmentToken { uses: 9, ..ask() })
        .await;
    let (port, token) = (&HubPort::of(&site), &token);
    let clones =
        (0..8).map(|_| async move { port.enrol(&request(token, &new_key(), Some("press-7"))).await });
    let answers = futures_util::future::join_all(clones).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(taken.len(), 1);
    assert!(
        refused
            .iter()
            .all(|answer| answer.as_ref().unwrap_err().code == ProblemCode::DeviceIdTaken)
    );
    let seen = site
        .admin()
        .await
        .device(&"press-7".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(seen.enrolment, taken[0].as_ref().unwrap().enrolment);
}
