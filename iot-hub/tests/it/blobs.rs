//! Blobs over the device port: whole, in ranges, and to nobody else.

use edge_protocol::Digest;
use iot_hub_client::api::{CreateEnrolmentToken, DeviceState};

use crate::device::{Device, HubPort};
use crate::site::{Site, deployment, with_config};

#[tokio::test]
async fn a_device_gets_what_its_own_set_names() {
    let site = Site::start().await;
    let admin = site.admin().await;
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
    let spec = deployment("u1", "deviceId = 'd1'");
    admin.put_deployment(&spec).await.unwrap();
    let digest = admin.deployment(&spec.uid).await.unwrap().manifest;

    let port = HubPort::of(&site);
    let url = port.url(&format!("/blobs/{digest}"));
    let whole = port.http(Some(&one)).get(&url).send().await.unwrap();
    assert_eq!(whole.status().as_u16(), 200);
    let body = whole.bytes().await.unwrap();
    assert_eq!(Digest::of(&body), digest);

    let part = port
        .http(Some(&one))
        .get(&url)
        .header("range", "bytes=5-9")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status().as_u16(), 206);
    assert_eq!(
        part.headers()["content-range"],
        format!("bytes 5-9/{}", body.len())
    );
    assert_eq!(part.bytes().await.unwrap(), body.slice(5..10));
    let outside = port
        .http(Some(&one))
        .get(&url)
        .header("range", "bytes=999999-")
        .send()
        .await
        .unwrap();
    assert_eq!(outside.status().as_u16(), 416);

    for (identity, status) in [(Some(&two), 404), (None, 401)] {
        assert_eq!(
            port.http(identity)
                .get(&url)
                .send()
                .await
                .unwrap()
                .status()
                .as_u16(),
            status
        );
    }
    let unknown = port.url(&format!("/blobs/{}", Digest::of("unknown")));
    assert_eq!(
        port.http(Some(&one))
            .get(unknown)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16(),
        404
    );
}

#[tokio::test]
async fn an_object_goes_to_the_devices_of_its_deployment_in_parts_if_they_like() {
    let site = Site::start().await;
    let admin = site.admin().await;
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
    // More than travels inline.
    let put = with_config(deployment("u1", "deviceId = 'd1'"), "large", &"x".repeat(1 << 20));
    admin.put_deployment_with(&put).await.unwrap();
    let blob = &put.objects[0];
    let port = HubPort::of(&site);
    let url = port.url(&format!("/blobs/{}", blob.digest));
    let mut body = Vec::new();
    for range in ["bytes=0-499999", "bytes=500000-"] {
        let http = port.http(Some(&one));
        let part = http.get(&url).header("range", range).send().await.unwrap();
        assert_eq!(part.status().as_u16(), 206);
        body.extend(part.bytes().await.unwrap());
    }
    assert_eq!(body, blob.body.as_bytes());
    let other = port.http(Some(&two)).get(&url).send().await.unwrap();
    assert_eq!(other.status().as_u16(), 404);
}

#[tokio::test]
async fn an_open_connection_does_not_outlive_the_devices_admission() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let token = site.enrolment_token(CreateEnrolmentToken::default()).await;
    let device = Device::enrol(&site, &token, "d1").await;
    let spec = deployment("u1", "*");
    admin.put_deployment(&spec).await.unwrap();
    let digest = admin.deployment(&spec.uid).await.unwrap().manifest;
    let port = HubPort::of(&site);
    // One client keeps its connection for the next request.
    let (http, url) = (port.http(Some(&device)), port.url(&format!("/blobs/{digest}")));
    let get = async || {
        let answer = http.get(&url).send().await.unwrap();
        let status = answer.status().as_u16();
        answer.bytes().await.unwrap();
        status
    };
    assert_eq!(get().await, 200);
    let state = async |state| {
        admin
            .set_device_state(&device.answer.device, state)
            .await
            .unwrap();
    };
    state(DeviceState::Disabled).await;
    assert_eq!(get().await, 403);
    state(DeviceState::Active).await;
    assert_eq!(get().await, 200);
    let fixed = CreateEnrolmentToken {
        device: Some(device.answer.device.clone()),
        ..CreateEnrolmentToken::default()
    };
    let fixed = site.enrolment_token(fixed).await;
    Device::enrol(&site, &fixed, "d1").await;
    assert_eq!(get().await, 403, "another certificate took its place");
}
