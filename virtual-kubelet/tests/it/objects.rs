//! What pods refer to is read and followed, and nothing else can be.

mod confined;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use virtual_kubelet::Cluster;
use virtual_kubelet::objects::{
    NodeObjects, ObjectsHandle, ObjectsOptions, ObjectsTask, PodObjects, Read, TokenWanted,
};

use crate::api::{Api, Asked, not_found, status};

/// A task that ends with the test.
struct Running {
    handle: ObjectsHandle,
    task: JoinHandle<()>,
}

impl Running {
    fn start(cluster: &Cluster, options: ObjectsOptions) -> Self {
        let (handle, task) = ObjectsTask::new(cluster.clone(), options);
        let task = tokio::spawn(task.run());
        Self { handle, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn pod(change: impl FnOnce(&mut PodObjects)) -> PodObjects {
    let mut pod = PodObjects {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        ..PodObjects::default()
    };
    change(&mut pod);
    pod
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What `look` finds, as soon as it finds something. It looks again whenever the node is told of a change, and only then.
async fn until<T>(node: &NodeObjects, what: &str, look: impl Fn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            node.changed().await;
        }
    };
    let found = tokio::time::timeout(Duration::from_mins(1), found).await;
    found.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Returns once the API server was asked so.
async fn asked(api: &Api, what: &str, is_it: impl Fn(&Asked) -> bool) {
    let seen = async {
        while !api.asked().iter().any(&is_it) {
            tokio::task::yield_now().await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    seen.unwrap_or_else(|_| panic!("never asked: {what}"));
}

fn version(minor: &str) -> (u16, Value) {
    (200, json!({"major": "1", "minor": minor}))
}

fn list(items: &[Value]) -> (u16, Value) {
    (
        200,
        json!({"kind": "List", "metadata": {"resourceVersion": "40"}, "items": items}),
    )
}

fn is_watch(asked: &Asked) -> bool {
    asked.query.contains("watch=true")
}

fn lists(api: &Api) -> Vec<Asked> {
    let mut asked = api.asked();
    asked.retain(|asked| !is_watch(asked) && asked.path != "/version");
    asked
}

fn settings(immutable: bool) -> Value {
    json!({
        "metadata": {"name": "settings", "namespace": "shop", "resourceVersion": "7", "managedFields": []},
        "immutable": immutable,
        "data": {"color": "blue"},
    })
}

#[tokio::test]
async fn what_is_immutable_is_read_and_not_watched() {
    let api = Api::start(|asked| match asked.path.as_str() {
        "/version" => version("37"),
        _ => list(&[settings(true)]),
    })
    .await;
    let running = Running::start(&api.cluster, ObjectsOptions::default());
    let node = running.handle.of_node("edge");
    node.refer("u1", pod(|pod| pod.config_maps = names(&["settings"])));
    let found = until(&node, "the map", || match node.config_map("shop", "settings") {
        Read::Present(map) => Some(map),
        _ => None,
    });
    let found = found.await;
    assert_eq!(found["data"]["color"], "blue");
    assert!(found["metadata"].get("managedFields").is_none());
    // Of another pod it is known at once, and nobody is asked.
    node.refer("u2", pod(|pod| pod.config_maps = names(&["settings"])));
    // The only thing that can still be asked for is something else.
    node.refer("u3", pod(|pod| pod.config_maps = names(&["other"])));
    asked(&api, "the other", |asked| asked.query.contains("%3Dother")).await;
    let about: Vec<Asked> = api
        .asked()
        .into_iter()
        .filter(|asked| asked.query.contains("%3Dsettings"))
        .collect();
    assert_eq!(about.len(), 1, "{about:?}");
    assert_eq!(about[0].path, "/api/v1/namespaces/shop/configmaps");
    assert_eq!(about[0].query, "fieldSelector=metadata.name%3Dsettings");
    assert_eq!(about[0].user, "system:node:edge");
}

/// A stateful set makes its pod anew in the moment in which the old one is gone, with the same claim.
#[tokio::test]
async fn what_one_pod_leaves_and_the_next_takes_up_at_once_is_read_again() {
    let api = Api::start(|asked| match asked.path.as_str() {
        "/version" => version("37"),
        _ => list(&[settings(false)]),
    })
    .await;
    let running = Running::start(&api.cluster, ObjectsOptions::default());
    let node = running.handle.of_node("edge");
    let wants = || pod(|pod| pod.config_maps = names(&["settings"]));
    let is_there = || matches!(node.config_map("shop", "settings"), Read::Present(_)).then_some(());
    node.refer("u1", wants());
    until(&node, "the map", is_there).await;
    // Nobody else runs in between: the test has one thread.
    node.forget("u1");
    node.refer("u2", wants());
    assert!(is_there().is_none());
    until(&node, "the map, once more", is_there).await;
}

#[tokio::test]
async fn what_is_refused_or_broken_is_asked_for_again_and_never_missing() {
    let tries = AtomicU32::new(0);
    let api = Api::start(move |asked| match asked.path.as_str() {
        "/version" => version("37"),
        _ if is_watch(asked) => status(410, "Expired", "too old"),
        _ => match tries.fetch_add(1, Ordering::SeqCst) {
            0 => status(403, "Forbidden", "no relationship found"),
            1 => (200, json!({"kind": "Status", "status": "Success"})),
            2 => status(500, "InternalError", "etcd"),
            3 => list(&[settings(false)]),
            _ => list(&[]),
        },
    })
    .await;
    let running = Running::start(&api.cluster, ObjectsOptions::default());
    let node = running.handle.of_node("edge");
    node.refer("u1", pod(|pod| pod.secrets = names(&["settings"])));
    let why = until(&node, "a reason", || match node.secret("shop", "settings") {
        Read::NotRead { why } => why,
        other => panic!("{other:?}"),
    });
    assert!(why.await.contains("no relationship found"));
    until(&node, "the secret", || match node.secret("shop", "settings") {
        Read::Missing => panic!("missing before it was listed"),
        Read::Present(_) => Some(()),
        Read::NotRead { .. } => None,
    })
    .await;
    until(&node, "its end", || {
        (node.secret("shop", "settings") == Read::Missing).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_shared_object_is_followed_once_as_a_node_that_has_a_pod_for_it() {
    let api = Api::start(|asked| match asked.path.as_str() {
        "/version" => version("37"),
        _ => list(&[settings(true)]),
    })
    .await;
    let running = Running::start(&api.cluster, ObjectsOptions::default());
    let (a, b) = (running.handle.of_node("a"), running.handle.of_node("b"));
    let refers = || pod(|pod| pod.config_maps = names(&["settings"]));
    a.refer("u1", refers());
    b.refer("u2", refers());
    for node in [&a, &b] {
        until(node, "the map", || {
            matches!(node.config_map("shop", "settings"), Read::Present(_)).then_some(())
        })
        .await;
    }
    assert_eq!(lists(&api).len(), 1);
    drop(a);
    asked(&api, "as b", |asked| asked.user == "system:node:b").await;
    assert!(
        matches!(b.config_map("shop", "settings"), Read::Present(_)),
        "it is known meanwhile"
    );
    b.forget("u2");
    assert_eq!(b.config_map("shop", "settings"), Read::UNREAD);
}

#[tokio::test]
async fn older_servers_are_asked_as_who_we_are() {
    let api = Api::start(|asked| match asked.path.as_str() {
        "/version" => version("35"),
        _ => list(&[]),
    })
    .await;
    let running = Running::start(&api.cluster, ObjectsOptions::default());
    let node = running.handle.of_node("edge");
    node.refer("u1", pod(|pod| pod.secrets = names(&["key", "No/Name?"])));
    until(&node, "its absence", || {
        (node.secret("shop", "key") == Read::Missing).then_some(())
    })
    .await;
    until(&node, "what no object can be called", || {
        (node.secret("shop", "No/Name?") == Read::Missing).then_some(())
    })
    .await;
    let asked = lists(&api);
    assert!(asked.iter().all(|asked| asked.user.is_empty()), "{asked:?}");
    assert!(
        asked.iter().all(|asked| asked.query.contains("%3Dkey")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn beyond_the_bound_objects_wait_and_say_so() {
    let api = Api::start(|_| list(&[settings(true)])).await;
    let options = ObjectsOptions {
        identity: Some(virtual_kubelet::objects::Identity::Node),
        most: 0,
    };
    let running = Running::start(&api.cluster, options);
    let node = running.handle.of_node("edge");
    node.refer("u1", pod(|pod| pod.config_maps = names(&["settings"])));
    let why = until(&node, "a reason", || match node.config_map("shop", "settings") {
        Read::NotRead { why } => why,
        other => panic!("{other:?}"),
    });
    assert!(why.await.contains("no more can be"));
    assert_eq!(lists(&api).len(), 0);
}

#[tokio::test]
async fn a_claim_is_looked_at_until_it_is_bound() {
    let looks = AtomicU32::new(0);
    let api = Api::start(move |asked| match asked.path.as_str() {
        "/version" => version("37"),
        "/api/v1/namespaces/shop/persistentvolumeclaims/data" => {
            let look = looks.fetch_add(1, Ordering::SeqCst);
            let phase = if look < 2 { "Pending" } else { "Bound" };
            (
                200,
                json!({"spec": {"volumeName": "disk"}, "status": {"phase": phase}}),
            )
        }
        "/api/v1/persistentvolumes/disk" => (200, json!({"spec": {"local": {"path": "/data"}}})),
        _ => not_found(),
    })
    .await;
    let running = Running::start(&api.cluster, ObjectsOptions::default());
    let node = running.handle.of_node("edge");
    node.refer("u1", pod(|pod| pod.claims = names(&["data", "none"])));
    until(&node, "its absence", || {
        (node.claim("shop", "none") == Read::Missing).then_some(())
    })
    .await;
    let volume = until(&node, "the volume", || match node.claim("shop", "data") {
        Read::Present(found) => found.volume,
        _ => None,
    });
    assert_eq!(volume.await["spec"]["local"]["path"], "/data");
}

#[tokio::test]
async fn a_token_is_bound_to_its_pod_and_asked_for_again_when_refused_or_old() {
    let tries = AtomicU32::new(0);
    let grant = |token, life| {
        (
            201,
            json!({"spec": {"expirationSeconds": life}, "status": {"token": token}}),
        )
    };
    let api = Api::start(move |asked| match asked.path.as_str() {
        "/version" => version("37"),
        _ => match tries.fetch_add(1, Ordering::SeqCst) {
            0 => status(403, "Forbidden", "not yet"),
            1 => grant("hunter1", 1),
            _ => grant("hunter2", 600),
        },
    })
    .await;
    let running = Running::start(&api.cluster, ObjectsOptions::default());
    let node = running.handle.of_node("edge");
    let wanted = TokenWanted {
        service_account: "robot".to_owned(),
        audience: Some("vault".to_owned()),
        expiration_s: 600,
    };
    node.refer("u1", pod(|pod| pod.tokens = [("t".to_owned(), wanted)].into()));
    until(&node, "the renewed token", || match node.token("u1", "t") {
        Read::Present(token) => (token.expose() == "hunter2").then_some(()),
        _ => None,
    })
    .await;
    let request = api.writes().pop().unwrap();
    assert_eq!(
        request.path,
        "/api/v1/namespaces/shop/serviceaccounts/robot/token"
    );
    assert_eq!(request.user, "system:node:edge");
    assert_eq!(
        request.body["spec"],
        json!({
            "audiences": ["vault"],
            "expirationSeconds": 600,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u1"},
        })
    );
    node.retain(|_| false);
    assert_eq!(node.token("u1", "t"), Read::UNREAD);
}

#[tokio::test]
async fn services_are_read_to_the_end_only_when_wanted_and_told_to_their_namespace() {
    let service = |namespace: &str, name: &str| {
        json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {"a": "b"}},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}], "selector": {"a": "b"}},
        })
    };
    let api = Api::start(move |asked| match asked.path.as_str() {
        "/version" => version("37"),
        "/api/v1/services" if is_watch(asked) => status(410, "Expired", "too old"),
        "/api/v1/services" if asked.query.contains("continue=a%2Fb") => {
            list(&[service("shop", "db"), service("bank", "vault")])
        }
        "/api/v1/services" => (
            200,
            json!({"metadata": {"continue": "a/b"}, "items": [service("default", "kubernetes")]}),
        ),
        _ => list(&[]),
    })
    .await;
    let running = Running::start(&api.cluster, ObjectsOptions::default());
    let node = running.handle.of_node("edge");
    node.refer("u1", pod(|pod| pod.config_maps = names(&["settings"])));
    until(&node, "its absence", || {
        (node.config_map("shop", "settings") == Read::Missing).then_some(())
    })
    .await;
    let of_services = |asked: &Asked| asked.path == "/api/v1/services";
    assert!(!api.asked().iter().any(of_services), "nobody wants them yet");
    node.refer("u2", pod(|pod| pod.services = true));
    let found = until(&node, "the services", || match node.services("shop") {
        Read::Present(found) => Some(found),
        _ => None,
    });
    let expected = json!([
        {"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}},
        {"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}},
    ]);
    assert_eq!(Value::from(found.await), expected);
    let asked = api.asked();
    assert!(
        asked
            .iter()
            .filter(|asked| of_services(asked))
            .all(|asked| asked.user.is_empty())
    );
}
