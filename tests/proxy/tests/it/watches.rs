//! Lies about watches.

use std::time::Duration;

use fault_proxy::{Dialect, Lie, Requests, Rule, Then};
use reqwest::Response;

use crate::upstream::{FIRST_EVENT, FIRST_SSE};
use crate::{Stage, in_time, read_until};

const BOOKMARK: &str = "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Pod\"}}\n";
const SSE_BOOKMARK: &str = "id: 2\ndata: {\"revision\":2,\"change\":{\"kind\":\"bookmark\"}}\n\n";

async fn watch(stage: &Stage) -> Response {
    stage.get("/api/v1/pods?watch=true").send().await.unwrap()
}

/// What comes until the connection breaks.
async fn read_to_the_break(mut response: Response) -> String {
    let mut text = String::new();
    loop {
        match in_time(response.chunk()).await {
            Ok(Some(chunk)) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
            Ok(None) => panic!("the body ends in good order after {text:?}"),
            Err(_) => return text,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_takes_the_open_watches_and_each_next_one_after_its_bytes() {
    let stage = Stage::set(Dialect::Kubernetes).await;
    let mut open = watch(&stage).await;
    read_until(&mut open, "\n").await;
    let lie = stage.tell(&Rule::new("/api/v1/pods", Lie::Cut { after_bytes: 10 }).times(2));
    assert_eq!(stage.served(lie), 1);
    assert_eq!(read_to_the_break(open).await, "");
    assert_eq!(
        stage.get("/api/v1/pods").send().await.unwrap().status(),
        200,
        "a list is no watch"
    );
    assert_eq!(read_to_the_break(watch(&stage).await).await, FIRST_EVENT[..10]);
    assert_eq!(stage.served(lie), 2);
    let mut spent = watch(&stage).await;
    assert_eq!(read_until(&mut spent, "\n").await, FIRST_EVENT);

    let at_once = stage.tell(&Rule::new("/", Lie::Cut { after_bytes: 0 }));
    assert_eq!(read_to_the_break(spent).await, "");
    assert_eq!(read_to_the_break(watch(&stage).await).await, "");
    assert_eq!(stage.served(at_once), 2);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_cuts_and_is_no_lie() {
    let stage = Stage::set(Dialect::Kubernetes).await;
    let mut open = watch(&stage).await;
    read_until(&mut open, "\n").await;
    assert_eq!(
        tokio::task::block_in_place(|| stage.control.interrupt("/api/v1/pods")).unwrap(),
        1
    );
    assert_eq!(read_to_the_break(open).await, "");
    assert_eq!(read_until(&mut watch(&stage).await, "\n").await, FIRST_EVENT);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_bookmark_a_watch_falls_silent_or_ends() {
    let stage = Stage::set(Dialect::Kubernetes).await;
    let silent = stage.tell(&Rule::new("/", Lie::NoBookmark { then: Then::Silence }).times(1));
    let mut response = watch(&stage).await;
    stage.upstream.send("{\"type\":\"MODIFIED\"}\n");
    assert_eq!(
        read_until(&mut response, "MODIFIED\"}\n").await,
        format!("{FIRST_EVENT}{{\"type\":\"MODIFIED\"}}\n")
    );
    assert_eq!(stage.served(silent), 0);
    stage.upstream.send(BOOKMARK);
    stage.upstream.send(FIRST_EVENT);
    let more = tokio::time::timeout(Duration::from_millis(300), response.chunk()).await;
    assert!(more.is_err(), "silence, not {more:?}");
    assert_eq!(stage.served(silent), 1);

    let ended = stage.tell(&Rule::new("/", Lie::NoBookmark { then: Then::End }).times(1));
    let mut next = watch(&stage).await;
    read_until(&mut next, "\n").await;
    stage
        .upstream
        .send(&format!("{FIRST_EVENT}{BOOKMARK}{FIRST_EVENT}"));
    assert_eq!(
        in_time(next.text()).await.unwrap(),
        FIRST_EVENT,
        "it ends in good order"
    );
    assert_eq!(stage.served(ended), 1);
    drop(response);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_lose_their_bookmark_too() {
    let stage = Stage::set(Dialect::Hub).await;
    let lie = stage.tell(&Rule::new("/api/v1/watch", Lie::NoBookmark { then: Then::End }));
    let request = || stage.get("/api/v1/watch").header("accept", "text/event-stream");
    let mut response = request().send().await.unwrap();
    assert_eq!(read_until(&mut response, "\n\n").await, FIRST_SSE);
    let (begin, end) = SSE_BOOKMARK.split_at(20);
    stage.upstream.send(begin);
    stage.upstream.send(end);
    assert_eq!(in_time(response.text()).await.unwrap(), "");
    assert_eq!(stage.served(lie), 1);
    stage.pass();
    let mut response = request().send().await.unwrap();
    read_until(&mut response, "\n\n").await;
    stage.upstream.send(SSE_BOOKMARK);
    assert_eq!(read_until(&mut response, "\n\n").await, SSE_BOOKMARK);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_watch_says_so_in_the_form_of_the_server() {
    let check = async |dialect, expect: &str| {
        let stage = Stage::set(dialect).await;
        let lie = stage.tell(
            &Rule::new("/api", Lie::Expired)
                .requests(Requests::Watches)
                .times(1),
        );
        let answer = watch(&stage).await;
        assert_eq!(answer.status(), 200);
        let text = in_time(answer.text()).await.unwrap();
        assert!(text.contains(expect), "{text}");
        assert_eq!(stage.served(lie), 1);
        stage.end().await;
    };
    check(Dialect::Kubernetes, "\"code\":410").await;
    check(Dialect::Hub, "\"kind\":\"resync\"").await;
}
