//! `/containerLogs`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use virtual_kubelet_api::{LogOptions, StreamsError};

use crate::client::{Http, request};
use crate::world::{ADMIN, World};

const SOON: Duration = Duration::from_secs(30);
const LOG: &str = "/containerLogs/shop/web/main";

#[tokio::test]
async fn a_log_is_asked_for_with_all_options_and_by_whom() {
    let world = World::start().await;
    let said = world
        .ask("GET", &format!("{LOG}?tailLines=5&timestamps=true"))
        .await;
    assert_eq!((said.status.as_u16(), said.body.as_str()), (200, "one\ntwo\n"));
    let asked = world.pods.asked();
    let options = LogOptions {
        tail_lines: Some(5),
        timestamps: true,
        ..LogOptions::default()
    };
    assert_eq!((asked[0].what.as_str(), &asked[0].logs), ("logs main", &options));
    assert_eq!(asked[0].who.name, ADMIN);
    assert!(asked[0].who.groups.contains(&"system:masters".to_owned()));
    let credential = &asked[0].who.extra["authentication.kubernetes.io/credential-id"][0];
    assert!(credential.starts_with("X509SHA256="), "{credential}");
}

#[tokio::test]
async fn a_log_that_cannot_be_had_is_refused_in_the_kubelets_words() {
    let world = World::start().await;
    let check = async |path: &str, status: u16, words: &str| {
        let said = world.ask("GET", path).await;
        assert_eq!(
            (said.status.as_u16(), said.body.as_str()),
            (status, words),
            "{path}"
        );
    };
    check(
        "/containerLogs/shop/none/main",
        404,
        "pod \"none\" does not exist",
    )
    .await;
    check(
        "/containerLogs/shop/web/none",
        404,
        "container \"none\" not found in pod \"web\"",
    )
    .await;
    check(
        &format!("{LOG}?tailLines=x"),
        400,
        r#"{"message": "Unable to decode query."}"#,
    )
    .await;
    check(
        &format!("{LOG}?limitBytes=0"),
        422,
        r#"{"message": "Invalid request."}"#,
    )
    .await;
    assert!(world.pods.asked().is_empty());
    let message = || "why".to_owned();
    let refusals = [
        (StreamsError::NotRunning { message: message() }, 400),
        (StreamsError::NotFound { message: message() }, 404),
        (StreamsError::Forbidden { message: message() }, 403),
        (StreamsError::Busy { message: message() }, 429),
        (StreamsError::Unavailable { message: message() }, 503),
    ];
    for (refusal, status) in refusals {
        *world.pods.refuses.lock().unwrap() = Some(refusal);
        check(LOG, status, "why").await;
    }
}

#[tokio::test]
async fn each_piece_of_a_followed_log_comes_at_once_and_ends_with_its_reader() {
    let world = World::start().await;
    for http in [Http::One, Http::Two] {
        let pieces = world.pods.follow();
        let mut connection = world.connect(Some(&world.admin), http).await;
        let answer = connection
            .send(request("GET", &format!("{LOG}?follow=true"), &[]))
            .await;
        let mut body = answer.into_body();
        for piece in ["one\n", "two\n"] {
            pieces.send(Ok(Bytes::from(piece))).await.unwrap();
            let frame = timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), piece);
        }
        drop((body, connection));
        timeout(SOON, pieces.closed())
            .await
            .expect("whoever writes the log hears that nobody reads");
    }
}

#[tokio::test]
async fn a_log_that_is_cut_says_why_and_is_no_whole_one() {
    let world = World::start().await;
    let pieces = world.pods.follow();
    let mut connection = world.connect(Some(&world.admin), Http::One).await;
    let answer = connection
        .send(request("GET", &format!("{LOG}?follow=true"), &[]))
        .await;
    let cut = StreamsError::Unavailable {
        message: "the link was lost".into(),
    };
    pieces.send(Err(cut)).await.unwrap();
    let mut body = answer.into_body();
    let frame = timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "the link was lost");
    assert!(timeout(SOON, body.frame()).await.unwrap().unwrap().is_err());
}
