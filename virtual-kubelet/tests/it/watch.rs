//! A list is whole or nothing, and a change is told with everything it refers to.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use virtual_kubelet::pod_watch::{PodWatch, Route, Routes};
use virtual_kubelet::{PodInput, Selection};

use crate::api::{Api, Asked, pod, status};

/// Answers what every test needs: namespaces, the Node, the `ReplicaSet`; `pods` answers lists and watches.
fn cluster(
    pods: impl Fn(&Asked) -> (u16, String) + Send + Sync,
) -> impl Fn(&Asked) -> (u16, String) + Send + Sync {
    move |asked| {
        let body = match asked.path.as_str() {
            "/api/v1/namespaces/kube-system" => json!({"metadata": {"uid": "cluster-a"}}),
            "/api/v1/namespaces/shop" => json!({"metadata": {"labels": {"team": "press"}}}),
            "/api/v1/nodes/edge" => json!({"metadata": {"uid": "node-1"}}),
            "/apis/apps/v1/namespaces/shop/replicasets/web-1" => {
                json!({"metadata": {"uid": "rs", "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "dep", "controller": true},
                ]}})
            }
            "/api/v1/pods" => {
                assert!(
                    asked.query.contains("fieldSelector=spec.nodeName%3Dedge"),
                    "{}",
                    asked.query
                );
                return pods(asked);
            }
            other => panic!("{other}"),
        };
        (200, body.to_string())
    }
}

fn list(uids: &[&str], version: &str, next: &str) -> String {
    let items: Vec<Value> = uids.iter().map(|uid| pod(uid)).collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": version, "continue": next}, "items": items})
        .to_string()
}

fn is_watch(asked: &Asked) -> bool {
    asked.query.contains("watch=true")
}

fn edge() -> Selection {
    Selection::Node("edge".to_owned())
}

fn to(inputs: mpsc::Sender<PodInput>) -> Route {
    Route {
        inputs,
        provider_id: None,
    }
}

async fn first_input(api: &Api) -> PodInput {
    let (inputs, mut received) = mpsc::channel(16);
    let (_ask, asked) = mpsc::channel(1);
    let (_routes, routed) = watch::channel(Routes::from([("edge".to_owned(), to(inputs))]));
    let watch = PodWatch::new(api.cluster.clone(), edge(), routed, asked);
    tokio::select! {
        () = watch.run() => panic!("the watch ended"),
        input = received.recv() => input.unwrap(),
    }
}

#[tokio::test]
async fn a_list_is_read_to_its_end_with_everything_it_refers_to() {
    let api = Api::start_raw(cluster(|asked| {
        let page = if asked.query.contains("continue=a%2Fb") {
            list(&["u2"], "40", "")
        } else {
            list(&["u1"], "40", "a/b")
        };
        (200, page)
    }))
    .await;
    let PodInput::Listed(snapshot) = first_input(&api).await else {
        panic!("no list")
    };
    assert_eq!(snapshot.cluster_uid, "cluster-a");
    assert_eq!(snapshot.node_uid.as_deref(), Some("node-1"));
    assert_eq!(snapshot.resource_version, 40);
    assert_eq!(snapshot.pods.len(), 2);
    let first = &snapshot.pods[0];
    assert_eq!(
        first.owner.as_ref().unwrap().uid,
        "dep",
        "followed to the Deployment"
    );
    assert_eq!(first.namespace_labels["team"], "press");
    assert!(first.raw["metadata"].get("managedFields").is_none());
}

#[tokio::test]
async fn a_list_that_fails_half_way_is_nothing() {
    let tries = std::sync::atomic::AtomicU32::new(0);
    let api = Api::start_raw(cluster(move |asked| {
        let n = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        match n {
            0 => (200, list(&["u1"], "40", "next")),
            1 => (
                410,
                status(410, "Expired", "the continue token expired").1.to_string(),
            ),
            2 => (200, json!({"kind": "Status", "status": "Success"}).to_string()),
            3 => (500, "a proxy's page".to_owned()),
            4 => (200, list(&["u1", "u2"], "41", "")),
            _ => (410, status(410, "Expired", asked.query.as_str()).1.to_string()),
        }
    }))
    .await;
    let PodInput::Listed(snapshot) = first_input(&api).await else {
        panic!("no list")
    };
    assert_eq!(snapshot.resource_version, 41);
    assert_eq!(snapshot.pods.len(), 2);
}

#[tokio::test]
async fn changes_are_told_and_a_cut_watch_resumes_where_it_broke() {
    let event = |kind: &str, object: Value| json!({"type": kind, "object": object}).to_string() + "\n";
    let api = Api::start_raw(cluster(move |asked| {
        if !is_watch(asked) {
            return (200, list(&[], "40", ""));
        }
        let mut object = pod("u1");
        let body = if asked.query.contains("resourceVersion=40") {
            object["metadata"]["resourceVersion"] = json!("50");
            event("ADDED", object)
        } else if asked.query.contains("resourceVersion=50") {
            object["metadata"]["resourceVersion"] = json!("60");
            event("DELETED", object)
        } else {
            event("ERROR", status(410, "Expired", "too old").1)
        };
        (200, body)
    }))
    .await;
    let (inputs, mut received) = mpsc::channel(16);
    let (_ask, asked) = mpsc::channel(1);
    let (_routes, routed) = watch::channel(Routes::from([("edge".to_owned(), to(inputs))]));
    let watch = tokio::spawn(PodWatch::new(api.cluster.clone(), edge(), routed, asked).run());
    let mut kinds = Vec::new();
    while kinds.len() < 6 {
        let input = tokio::time::timeout(Duration::from_secs(20), received.recv())
            .await
            .unwrap();
        kinds.push(match input.unwrap() {
            PodInput::Listed(_) => "listed",
            PodInput::WatchedTo { resource_version: 50 } => "at 50",
            PodInput::WatchedTo { resource_version: 60 } => "at 60",
            PodInput::Seen(_) => "seen",
            PodInput::Vanished(_) => "vanished",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(
        kinds,
        ["listed", "at 50", "seen", "at 60", "vanished", "listed"],
        "an expired watch lists again"
    );
    watch.abort();
}

/// Three nodes in the cluster, of which two are ours, with a pod each.
fn many(asked: &Asked) -> (u16, String) {
    let on = |uid: &str, node: &str| {
        let mut pod = pod(uid);
        pod["spec"]["nodeName"] = json!(node);
        pod
    };
    let list = |kind: &str, items: Vec<Value>| {
        json!({"kind": kind, "metadata": {"resourceVersion": "40"}, "items": items}).to_string()
    };
    let body = match asked.path.as_str() {
        "/api/v1/namespaces/kube-system" => json!({"metadata": {"uid": "cluster-a"}}).to_string(),
        "/api/v1/namespaces/shop" => json!({"metadata": {}}).to_string(),
        "/apis/apps/v1/namespaces/shop/replicasets/web-1" => json!({"metadata": {"uid": "rs"}}).to_string(),
        "/api/v1/nodes" => {
            let node = |name: &str| json!({"metadata": {"name": name, "uid": format!("uid-{name}")}});
            list("NodeList", ["edge", "press-7", "worker"].map(node).into())
        }
        "/api/v1/pods" if is_watch(asked) => {
            assert!(
                asked.query.contains("fieldSelector=spec.nodeName!%3D"),
                "{}",
                asked.query
            );
            let event = |object: Value| json!({"type": "ADDED", "object": object}).to_string() + "\n";
            if !asked.query.contains("resourceVersion=40") {
                return (410, status(410, "Expired", "too old").1.to_string());
            }
            event(on("u4", "worker")) + &event(on("u5", "press-7"))
        }
        "/api/v1/pods" => list(
            "PodList",
            vec![on("u1", "edge"), on("u2", "press-7"), on("u3", "worker")],
        ),
        other => panic!("{other}"),
    };
    (200, body)
}

#[tokio::test]
async fn of_one_list_each_node_is_told_its_own_whole_and_a_node_that_joins_is_told_one_too() {
    let api = Api::start_raw(many).await;
    let (edge, mut of_edge) = mpsc::channel(16);
    let (press, mut of_press) = mpsc::channel(16);
    let (_ask, asked) = mpsc::channel(1);
    let (routes, routed) = watch::channel(Routes::from([("edge".to_owned(), to(edge))]));
    let watch = tokio::spawn(PodWatch::new(api.cluster.clone(), Selection::Bound, routed, asked).run());
    let uids = |input: &PodInput| match input {
        PodInput::Listed(snapshot) => snapshot.pods.iter().map(|pod| pod.uid.clone()).collect(),
        other => vec![format!("{other:?}")],
    };
    assert_eq!(uids(&of_edge.recv().await.unwrap()), ["u1"]);
    routes.send_modify(|routes| drop(routes.insert("press-7".to_owned(), to(press))));
    let mut listed = None;
    let mut seen = false;
    while listed.is_none() || !seen {
        let input = tokio::time::timeout(Duration::from_secs(20), of_press.recv()).await;
        match input.unwrap().unwrap() {
            PodInput::Listed(snapshot) => listed = Some(snapshot),
            PodInput::Seen(pod) => {
                assert_eq!(pod.uid, "u5", "another node's pod is no business of ours");
                seen = true;
            }
            PodInput::WatchedTo { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let listed = listed.unwrap();
    assert_eq!(listed.node_uid.as_deref(), Some("uid-press-7"));
    assert_eq!(uids(&PodInput::Listed(listed)), ["u2"]);
    watch.abort();
}

#[tokio::test]
async fn the_pods_of_a_node_that_has_our_name_and_is_anothers_are_not_ours() {
    let api = Api::start_raw(many).await;
    let (press, mut of_press) = mpsc::channel(16);
    let (edge, mut of_edge) = mpsc::channel(16);
    let (_ask, asked) = mpsc::channel(1);
    let theirs = Route {
        inputs: press,
        provider_id: Some("outrigger://hub/press-7".to_owned()),
    };
    let routes = [("press-7".to_owned(), theirs), ("edge".to_owned(), to(edge))];
    let (_routes, routed) = watch::channel(Routes::from(routes));
    let watch = tokio::spawn(PodWatch::new(api.cluster.clone(), Selection::Bound, routed, asked).run());
    // The second list comes after the changes of the first watch.
    let mut lists = 0;
    while lists < 2 {
        let input = tokio::time::timeout(Duration::from_secs(20), of_edge.recv()).await;
        lists += u32::from(matches!(input.unwrap().unwrap(), PodInput::Listed(_)));
    }
    assert!(of_press.try_recv().is_err());
    watch.abort();
}
