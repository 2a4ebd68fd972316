//! The watch: nothing is missed across a loss, and what cannot be known is said.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use iot_hub_client::api::{Change, CreateEnrolmentToken, Revision, WatchEvent};
use iot_hub_client::{ClientError, Watch};
use iot_hub_store::HubStore as _;

use crate::device::Device;
use crate::site::{Site, deployment, uid, within};

async fn next(watch: &mut Watch) -> Result<WatchEvent, ClientError> {
    within("an event", watch.next())
        .await
        .expect("a watch does not end by itself")
}

/// The next event that `pick` wants; the others pass.
async fn until<T>(watch: &mut Watch, pick: impl Fn(&WatchEvent) -> Option<T>) -> T {
    loop {
        if let Some(found) = next(watch).await.ok().and_then(|event| pick(&event)) {
            return found;
        }
    }
}

fn is_bookmark(event: &WatchEvent) -> Option<Revision> {
    (event.change == Change::Bookmark).then_some(event.revision)
}

#[tokio::test]
async fn changes_arrive_with_the_present_state() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let list = admin.deployments(None).await.unwrap();
    let mut watch = admin.watch(list.revision);
    until(&mut watch, is_bookmark).await;

    admin.put_deployment(&deployment("u1", "*")).await.unwrap();
    let seen = until(&mut watch, |event| match &event.change {
        Change::Deployment { deployment } => Some(deployment.clone()),
        _ => None,
    });
    assert_eq!(seen.await.spec, deployment("u1", "*"));

    let token = site.enrolment_token(CreateEnrolmentToken::default()).await;
    let device = Device::enrol(&site, &token, "d1").await.answer.device;
    admin
        .set_tags(&device, BTreeMap::from([("a".into(), "b".into())]))
        .await
        .unwrap();
    until(&mut watch, |event| match &event.change {
        Change::Device { device } if device.tags.contains_key("a") => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_restart_is_bridged() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let revision = admin.deployments(None).await.unwrap().revision;
    admin.put_deployment(&deployment("u1", "*")).await.unwrap();
    admin.put_deployment(&deployment("u2", "*")).await.unwrap();

    let site = site.restart().await;
    let admin = site.admin().await;
    // Resuming from before the restart replays, in order, and then says that it is live.
    let mut watch = admin.watch(revision);
    let mut seen = Vec::new();
    let mut last = Revision(0);
    loop {
        let event = next(&mut watch).await.unwrap();
        assert!(event.revision >= last);
        last = event.revision;
        match event.change {
            Change::Deployment { deployment } => seen.push(deployment.spec.uid),
            Change::Bookmark => break,
            _ => {}
        }
    }
    assert!(seen.contains(&uid("u1")) && seen.contains(&uid("u2")), "{seen:?}");
    assert_eq!(last, admin.deployments(None).await.unwrap().revision);
}

#[tokio::test]
async fn a_lost_connection_is_an_error_and_then_goes_on() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let mut watch = admin.watch(Revision(0));
    until(&mut watch, is_bookmark).await;
    // The hub ends; its address is gone with it, so this watch can only report that.
    let site = site.restart().await;
    assert!(next(&mut watch).await.is_err());
    assert!(next(&mut watch).await.is_err());
    drop(site);
}

#[tokio::test]
async fn a_forgotten_revision_is_said_to_be_forgotten() {
    let site = Site::start().await;
    let admin = site.admin().await;
    admin.put_deployment(&deployment("u1", "*")).await.unwrap();
    admin.put_deployment(&deployment("u2", "*")).await.unwrap();
    site.store().await.compact(1, 1).await.unwrap();
    // The process that wrote them still has them in memory.
    let site = site.restart().await;
    let admin = site.admin().await;
    for unknown in [Revision(0), Revision(1_000_000)] {
        let mut watch = admin.watch(unknown);
        let event = next(&mut watch).await.unwrap();
        assert_eq!(event.change, Change::Resync, "{unknown}");
        assert!(
            within("the end", watch.next()).await.is_none(),
            "a resync is the end"
        );
    }
    let revision = admin.deployments(None).await.unwrap().revision;
    let mut watch = admin.watch(revision);
    until(&mut watch, is_bookmark).await;
}
