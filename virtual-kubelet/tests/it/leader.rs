//! Two processes, one lease.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use virtual_kubelet::leader::LeaderTask;
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
    assert_eq!(first.lead().await, None);
    let mut second = LeaderTask::new(api.cluster.clone(), options("b"));
    let waited = tokio::time::timeout(Duration::from_millis(500), second.lead()).await;
    assert!(waited.is_err(), "two led");
    let (_remember, memory) = watch::channel(Some("what it knew".to_owned()));
    let token = CancellationToken::new();
    token.cancel();
    first.hold(memory, token).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(20), second.lead())
        .await
        .unwrap();
    assert_eq!(told.as_deref(), Some("what it knew"));
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
        leader.hold(watch::channel(None).1, CancellationToken::new()),
    )
    .await;
    assert!(matches!(held, Ok(Err(Error::LeaseLost { .. }))));
}
