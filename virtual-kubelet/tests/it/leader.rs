//! Two processes, one lease.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use virtual_kubelet::core::leader::{MEMORY, PROCESS, memory_of};
use virtual_kubelet::leader::{LeaderTask, Left};
use virtual_kubelet::{Error, LeaderOptions};

use crate::api::{Api, Asked, not_found, status};

fn options(identity: &str) -> LeaderOptions {
    LeaderOptions {
        namespace: "outrigger".into(),
        name: "outrigger-kubelet-edge".into(),
        identity: identity.into(),
    }
}

/// One lease with optimistic locking.
fn lease() -> impl Fn(&Asked) -> (u16, Value) + Send + Sync {
    let held: Mutex<(u64, Option<Value>)> = Mutex::new((0, None));
    move |asked| {
        let mut held = held.lock().unwrap();
        let version = held.0.to_string();
        match asked.method.as_str() {
            "GET" => held.1.clone().map_or_else(not_found, |lease| (200, lease)),
            "PUT" if asked.body["metadata"]["resourceVersion"] != version.as_str() => {
                status(409, "Conflict", "the object has been modified")
            }
            "POST" if held.1.is_some() => status(409, "AlreadyExists", "it exists"),
            _ => {
                held.0 += 1;
                let mut lease = asked.body.clone();
                lease["metadata"]["resourceVersion"] = json!(held.0.to_string());
                held.1 = Some(lease.clone());
                (200, lease)
            }
        }
    }
}

#[tokio::test]
async fn a_standby_leads_as_soon_as_the_leader_resigns() {
    let api = Api::start(lease()).await;
    let mut first = LeaderTask::new(api.cluster.clone(), options("a"));
    assert_eq!(first.lead().await, BTreeMap::new());
    let mut second = LeaderTask::new(api.cluster.clone(), options("b"));
    let waited = tokio::time::timeout(Duration::from_millis(500), second.lead()).await;
    assert!(waited.is_err(), "two led");
    let knew = BTreeMap::from([
        (MEMORY.to_owned(), "what it knew".to_owned()),
        (memory_of("press-7"), "of another node".to_owned()),
        (PROCESS.to_owned(), "of none of them".to_owned()),
    ]);
    let (_remember, memory) = watch::channel(Left {
        seq: 1,
        texts: knew
            .clone()
            .into_iter()
            .map(|(key, text)| (key, Some(text)))
            .collect(),
    });
    let token = CancellationToken::new();
    token.cancel();
    first.hold(memory, watch::channel(0).0, token).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(20), second.lead())
        .await
        .unwrap();
    assert_eq!(told, knew);
    let last = api.writes().pop().unwrap();
    assert_eq!(last.body["spec"]["holderIdentity"], "b");
}

#[tokio::test]
async fn a_leader_whose_lease_another_took_stops() {
    let api = Api::start(lease()).await;
    let mut leader = LeaderTask::new(api.cluster.clone(), options("a"));
    leader.lead().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/outrigger/leases/outrigger-kubelet-edge";
    let mut taken = api.cluster.get(path).await.unwrap().unwrap();
    taken["spec"]["holderIdentity"] = json!("b");
    api.cluster.put(path, &taken).await.unwrap();
    let held = tokio::time::timeout(
        Duration::from_secs(20),
        leader.hold(
            watch::channel(Left::default()).1,
            watch::channel(0).0,
            CancellationToken::new(),
        ),
    )
    .await;
    assert!(matches!(held, Ok(Err(Error::LeaseLost { .. }))));
}

#[tokio::test]
async fn a_new_memory_is_written_at_once_and_told() {
    let api = Api::start(lease()).await;
    let mut leader = LeaderTask::new(api.cluster.clone(), options("a"));
    leader.lead().await;
    let (remember, memory) = watch::channel(Left::default());
    let (kept, mut told) = watch::channel(0);
    let holding = tokio::spawn(leader.hold(memory, kept, CancellationToken::new()));
    for seq in 1..=5 {
        remember.send_replace(Left {
            seq,
            texts: BTreeMap::from([(MEMORY.to_owned(), Some(format!("memory {seq}")))]),
        });
        let waited = tokio::time::timeout(Duration::from_secs(5), told.wait_for(|kept| *kept == seq)).await;
        drop(waited.unwrap().unwrap());
    }
    let last = api.writes().pop().unwrap();
    assert_eq!(last.body["metadata"]["annotations"][MEMORY], "memory 5");
    assert!(
        api.asked().iter().filter(|asked| asked.method == "GET").count() <= 1,
        "renewals need no look"
    );
    holding.abort();
}

/// Each write takes two seconds, and one of them is answered too late to be heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_api_server_does_not_end_a_leader() {
    let (answer, writes) = (lease(), AtomicU32::new(0));
    let api = Api::start(move |asked| {
        let answered = answer(asked);
        if asked.method != "GET" {
            let slow = if writes.fetch_add(1, Ordering::Relaxed) == 2 {
                6
            } else {
                2
            };
            // What else this thread has to do goes on elsewhere.
            tokio::task::block_in_place(|| std::thread::sleep(Duration::from_secs(slow)));
        }
        answered
    })
    .await;
    let mut leader = LeaderTask::new(api.cluster.clone(), options("a"));
    leader.lead().await;
    let holding = leader.hold(
        watch::channel(Left::default()).1,
        watch::channel(0).0,
        CancellationToken::new(),
    );
    let held = tokio::time::timeout(Duration::from_secs(20), holding).await;
    assert!(held.is_err(), "{held:?}");
}
