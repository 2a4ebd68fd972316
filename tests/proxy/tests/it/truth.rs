//! Without a lie everything passes as it is.

use std::time::Duration;

use fault_proxy::{Dialect, Lie, Rule};
use reqwest::Body;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::upstream::{FIRST_EVENT, FIRST_SSE};
use crate::{LIMIT, Stage, in_time, read_until};

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_answers_pass_whole_and_in_pieces() {
    let stage = Stage::set(Dialect::Kubernetes).await;
    let list: serde_json::Value = stage
        .get("/api/v1/pods?limit=500&fieldSelector=a%3Db")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert_eq!(
        stage.upstream.seen(),
        ["GET /api/v1/pods?limit=500&fieldSelector=a%3Db"]
    );
    assert_eq!(stage.get("/nowhere").send().await.unwrap().status(), 404);

    // The upstream answers while the request's body is still being sent.
    let (pieces, body) = mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let request = stage
        .client
        .put(format!("https://{}/echo", stage.proxy))
        .bearer_auth("secret")
        .timeout(LIMIT);
    pieces.send(Ok(vec![b'x'; 100_000])).await.unwrap();
    let mut answer = in_time(request.body(Body::wrap_stream(ReceiverStream::new(body))).send())
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    assert_eq!(answer.headers()["x-token"], "Bearer secret");
    let mut received = 0;
    while received < 100_000 {
        received += in_time(answer.chunk()).await.unwrap().unwrap().len();
    }
    pieces.send(Ok(vec![b'y'; 7])).await.unwrap();
    drop(pieces);
    assert_eq!(in_time(answer.bytes()).await.unwrap(), "yyyyyyy");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_pass_event_by_event_and_end_with_either_side() {
    let stage = Stage::set(Dialect::Hub).await;
    let mut lines = stage.get("/api/v1/pods?watch=true").send().await.unwrap();
    let mut blocks = stage
        .get("/api/v1/watch")
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(read_until(&mut lines, "\n").await, FIRST_EVENT);
    assert_eq!(read_until(&mut blocks, "\n\n").await, FIRST_SSE);
    for event in ["one\n", "two\n"] {
        stage.upstream.send(event);
        assert_eq!(read_until(&mut lines, "\n").await, event);
        assert_eq!(read_until(&mut blocks, "\n").await, event);
    }
    let ledger = tokio::task::block_in_place(|| stage.control.ledger()).unwrap();
    assert_eq!((ledger.requests, ledger.watches), (2, 2));
    drop((lines, blocks));
    in_time(async {
        while stage.upstream.open_watches() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shield_keeps_a_part_true_and_a_delay_all_of_it() {
    let stage = Stage::set(Dialect::Kubernetes).await;
    stage.tell(&Rule::new("/", Lie::Status { code: 500 }));
    let shield = stage.tell(&Rule::new("/api/v1/pods", Lie::Pass));
    assert_eq!(stage.get("/api/v1/pods").send().await.unwrap().status(), 200);
    assert_eq!(stage.get("/api/v1/devices").send().await.unwrap().status(), 500);
    assert_eq!(stage.served(shield), 1);
    let slow = stage.tell(&Rule::new("/", Lie::Delay { millis: 200 }));
    let begun = std::time::Instant::now();
    assert_eq!(stage.get("/api/v1/pods").send().await.unwrap().status(), 200);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(stage.served(slow), 1);
    stage.pass();
    assert_eq!(stage.get("/api/v1/devices").send().await.unwrap().status(), 200);
    // Over one kept connection.
    for _ in 0..20 {
        assert_eq!(stage.get("/api/v1/pods").send().await.unwrap().status(), 200);
    }
    stage.end().await;
}
