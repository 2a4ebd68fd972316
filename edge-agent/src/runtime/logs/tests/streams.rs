//! Logs told to somebody who waits.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::task::JoinHandle;

use super::super::stream::{LogCaps, LogFault, LogStream, Standing};
use super::super::watch::Watcher;
use super::*;

struct Following {
    told: DuplexStream,
    client: Client,
    standing: Arc<Mutex<Standing>>,
    task: JoinHandle<Result<(), LogFault>>,
}

impl Following {
    async fn begin(logs: &Logs, query: LogQuery, watcher: Option<&Watcher>, caps: LogCaps) -> Self {
        let stream = LogStream::open(logs.directory(), 0, &query, watcher, caps)
            .await
            .unwrap()
            .unwrap();
        // A reader that is as slow as a small pipe makes it.
        let (told, mut to) = tokio::io::duplex(64);
        let standing = Arc::new(Mutex::new(Standing::Runs));
        let asked = Arc::clone(&standing);
        let task = tokio::spawn(async move {
            let standing = |_| std::future::ready(*asked.lock().unwrap());
            stream.serve(standing, &mut to).await
        });
        Self {
            told,
            client: Client::default(),
            standing,
            task,
        }
    }

    /// Reads until there is this text in all.
    async fn told(&mut self, expect: &str) {
        while self.client.text.len() < expect.len() {
            self.read().await;
        }
        assert_eq!(self.client.text(), expect);
    }

    async fn read(&mut self) -> usize {
        let mut bytes = [0; 100];
        let reading = tokio::time::timeout(Duration::from_secs(20), self.told.read(&mut bytes));
        let count = reading.await.expect("there is more to come").unwrap();
        self.client.receive(&bytes[..count]);
        count
    }

    async fn end(mut self) -> (Client, Result<(), LogFault>) {
        while self.read().await > 0 {}
        (self.client, self.task.await.unwrap())
    }
}

fn follow() -> LogQuery {
    LogQuery {
        follow: true,
        ..LogQuery::default()
    }
}

#[tokio::test]
async fn what_is_written_is_told_over_rotation_until_the_container_ends() {
    let watcher = Watcher::start().unwrap();
    for watcher in [Some(&watcher), None] {
        let logs = Logs::with(&[("0.log", &lines(&[(1, OUT, "one")]))]);
        let mut following = Following::begin(&logs, follow(), watcher, LogCaps::default()).await;
        following.told("one\n").await;
        logs.append("0.log", &lines(&[(2, OUT, "two")]));
        following.told("one\ntwo\n").await;
        logs.rename("0.log", "0.log.20261122-180000");
        logs.append("0.log", &lines(&[(4, OUT, "four")]));
        logs.append("0.log.20261122-180000", &lines(&[(3, OUT, "three")]));
        following.told("one\ntwo\nthree\nfour\n").await;
        *following.standing.lock().unwrap() = Standing::Ended;
        logs.append("0.log", "2026-11-22T18:00:05Z stdout F last");
        let (client, outcome) = following.end().await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(
            (client.text().as_str(), client.end),
            ("one\ntwo\nthree\nfour\nlast", Some(LogFrame::End))
        );
    }
}

#[tokio::test]
async fn it_goes_on_through_restarts_where_that_is_asked_for() {
    let logs = Logs::with(&[("0.log", &lines(&[(1, OUT, "one")]))]);
    let query = LogQuery {
        through_restarts: true,
        ..follow()
    };
    let watcher = Watcher::start().unwrap();
    let mut following = Following::begin(&logs, query, Some(&watcher), LogCaps::default()).await;
    following.told("one\n").await;
    *following.standing.lock().unwrap() = Standing::Ended;
    logs.append("1.log", &lines(&[(2, OUT, "two")]));
    following.told("one\ntwo\n").await;
    logs.append("4.log", &lines(&[(3, OUT, "three")]));
    following.told("one\ntwo\nthree\n").await;
    *following.standing.lock().unwrap() = Standing::Over;
    let (client, outcome) = following.end().await;
    assert!(
        outcome.is_ok() && client.end == Some(LogFrame::End),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn an_answer_is_not_longer_and_not_faster_than_the_device_allows() {
    let text = lines(&[(1, OUT, &"x".repeat(1000))]).repeat(300);
    let logs = Logs::with(&[("0.log", &text)]);
    let query = LogQuery::default;
    let caps = LogCaps {
        bytes_per_second: NonZeroU64::new(1 << 20),
        bytes: None,
    };
    let begun = Instant::now();
    let (client, outcome) = Following::begin(&logs, query(), None, caps).await.end().await;
    assert!(outcome.is_ok() && client.text.len() == 300 * 1001);
    // All but the last of the turns are waited for.
    assert!(begun.elapsed() >= Duration::from_millis(200));
    let caps = LogCaps {
        bytes_per_second: None,
        bytes: NonZeroU64::new(100_000),
    };
    let (client, outcome) = Following::begin(&logs, query(), None, caps).await.end().await;
    assert!(matches!(outcome, Err(LogFault::TooMuch(_))), "{outcome:?}");
    assert!((100_000..200_000).contains(&client.text.len()));
    let Some(LogFrame::Failed { message }) = client.end else {
        panic!("{:?}", client.end)
    };
    assert!(
        message.starts_with("the device tells at most 100000 bytes of a log"),
        "{message}"
    );
}

#[tokio::test]
async fn whoever_asked_and_has_gone_ends_it() {
    let logs = Logs::with(&[("0.log", &lines(&[(1, OUT, "one")]))]);
    let mut following = Following::begin(&logs, follow(), None, LogCaps::default()).await;
    following.told("one\n").await;
    drop(following.told);
    logs.append("0.log", &lines(&[(2, OUT, "two")]));
    let outcome = tokio::time::timeout(Duration::from_secs(20), following.task).await;
    let outcome = outcome.expect("it ends").unwrap();
    assert!(matches!(outcome, Err(LogFault::Unsent(_))), "{outcome:?}");
}
