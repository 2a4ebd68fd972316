//! The Node and its lease on the wire.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use virtual_kubelet::core::admission::judge;
use virtual_kubelet::core::{Capacity, FleetSpec, FleetState, HubWord, NodeAim};
use virtual_kubelet::node_task::{Look, NodeIdentity, NodeTask};
use virtual_kubelet::node_watch::{FoundNode, NodeRoutes, NodeWatch, Seen, nodes_of};
use virtual_kubelet::{PodInput, Selection};

use crate::api::{Api, Asked, not_found};

fn spec() -> FleetSpec {
    FleetSpec {
        name: "edge".into(),
        internal_ip: "192.0.2.7".into(),
        provider_id: "outrigger://hub/edge".into(),
        zone: "outrigger-site".into(),
        os: "linux".into(),
        arch: "amd64".into(),
        kubelet_version: "v1.37.0-outrigger.1".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

/// Remembers what is created, as an API server would, and gives it a UID.
fn store() -> impl Fn(&Asked) -> (u16, Value) + Send + Sync {
    let objects: Arc<Mutex<BTreeMap<String, Value>>> = Arc::default();
    let born = Mutex::new(0);
    move |asked| {
        let mut objects = objects.lock().unwrap();
        match asked.method.as_str() {
            "GET" => objects
                .get(&asked.path)
                .map_or_else(not_found, |object| (200, object.clone())),
            "POST" => {
                let mut object = asked.body.clone();
                let mut born = born.lock().unwrap();
                *born += 1;
                object["metadata"]["uid"] = json!(format!("uid-{born}"));
                object["metadata"]["resourceVersion"] = json!("1");
                let path = format!("{}/{}", asked.path, object["metadata"]["name"].as_str().unwrap());
                objects.insert(path, object.clone());
                (201, object)
            }
            "DELETE" => {
                objects.remove(&asked.path);
                (200, json!({}))
            }
            _ => (200, asked.body.clone()),
        }
    }
}

struct Given {
    task: NodeTask,
    aim: watch::Sender<Option<NodeAim>>,
    sight: watch::Sender<Option<Seen>>,
    told: mpsc::Receiver<PodInput>,
    _asked: mpsc::Receiver<()>,
}

/// A task to which `seen` was shown.
fn given(api: &Api, aim: Option<NodeAim>, seen: Seen) -> Given {
    let (aim, aimed) = watch::channel(aim);
    let (sight, seen) = watch::channel(Some(seen));
    let (inputs, told) = mpsc::channel(8);
    let (ask, asked) = mpsc::channel(1);
    let identity = NodeIdentity {
        name: "edge".to_owned(),
        provider_id: Some("outrigger://hub/edge".to_owned()),
    };
    Given {
        task: NodeTask::new(api.cluster.clone(), identity, aimed, seen, inputs, ask),
        aim,
        sight,
        told,
        _asked: asked,
    }
}

fn present() -> NodeAim {
    let state = FleetState {
        capacity: Some(Capacity::default()),
        hub: HubWord::Answers,
    };
    NodeAim::Present(Box::new(spec().view(&state)))
}

fn lines(writes: &[Asked]) -> Vec<String> {
    let line = |write: &Asked| format!("{} {}", write.method, write.path);
    writes.iter().map(line).collect()
}

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

#[tokio::test]
async fn a_deleted_node_is_made_again_and_owns_its_lease() {
    let api = Api::start(store()).await;
    let mut given = given(&api, Some(present()), None);
    given.task.keep(Look::Renew).await.unwrap();
    let writes = api.writes();
    assert_eq!(
        lines(&writes),
        ["POST /api/v1/nodes".to_owned(), format!("POST {LEASES}")]
    );
    assert_eq!(writes[1].body["metadata"]["ownerReferences"][0]["uid"], "uid-1");
    assert!(matches!(given.told.recv().await, Some(PodInput::Node { uid: Some(uid), .. }) if uid == "uid-1"));

    let node = api.cluster.get("/api/v1/nodes/edge").await.unwrap();
    given.sight.send_replace(Some(node.map(Arc::new)));
    given.task.keep(Look::Renew).await.unwrap();
    let again = &api.asked()[4..];
    assert_eq!(
        lines(again),
        [format!("PUT {LEASES}/edge")],
        "a node as it should be is only leased, by one call"
    );

    given.sight.send_replace(Some(None));
    given.task.keep(Look::Changed).await.unwrap();
    let renewed = api.writes().pop().unwrap();
    assert_eq!(renewed.body["metadata"]["ownerReferences"][0]["uid"], "uid-3");
    assert!(matches!(given.told.recv().await, Some(PodInput::Node { uid: Some(uid), .. }) if uid == "uid-3"));
}

#[tokio::test]
async fn who_may_be_on_the_node_is_told_once_it_is_what_it_should_be() {
    let api = Api::start(store()).await;
    let mut earlier = given(&api, Some(present()), None);
    earlier.task.keep(Look::Changed).await.unwrap();
    let node = api.cluster.get("/api/v1/nodes/edge").await.unwrap();
    let mut given = given(&api, None, node.map(Arc::new));
    given.task.keep(Look::Changed).await.unwrap();
    let told = given.told.recv().await;
    assert!(
        matches!(&told, Some(PodInput::Node { uid: Some(uid), facts: None }) if uid == "uid-1"),
        "what it lacks is not known yet: {told:?}"
    );
    given.aim.send_replace(Some(present()));
    given.task.keep(Look::Changed).await.unwrap();
    let Some(PodInput::Node {
        facts: Some(before), ..
    }) = given.told.recv().await
    else {
        panic!("it is what it should be")
    };
    let pod = json!({"spec": {"nodeSelector": {"hall": "7"}}});
    assert!(judge(&pod, &before).is_some());

    let writes = api.writes().len();
    let mut labelled = api.cluster.get("/api/v1/nodes/edge").await.unwrap().unwrap();
    labelled["metadata"]["resourceVersion"] = json!("2");
    labelled["metadata"]["labels"]["hall"] = json!("7");
    given.sight.send_replace(Some(Some(Arc::new(labelled.clone()))));
    given.task.keep(Look::Changed).await.unwrap();
    let Some(PodInput::Node {
        facts: Some(after), ..
    }) = given.told.recv().await
    else {
        panic!("its labels changed")
    };
    assert_eq!(judge(&pod, &after), None);

    labelled["metadata"]["resourceVersion"] = json!("3");
    labelled["status"]["images"] = json!([{"names": ["busybox"]}]);
    given.sight.send_replace(Some(Some(Arc::new(labelled))));
    given.task.keep(Look::Changed).await.unwrap();
    assert!(given.told.try_recv().is_err(), "its status decides nothing");
    assert_eq!(api.writes().len(), writes, "nor does the lease move");
}

#[tokio::test]
async fn a_task_that_waits_sees_the_deletion_and_makes_the_node_again() {
    let api = Api::start(store()).await;
    let Given {
        task,
        aim: _aim,
        sight,
        mut told,
        ..
    } = given(&api, Some(present()), None);
    let running = tokio::spawn(task.run());
    let mut uids = Vec::new();
    for _ in 0..2 {
        let input = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
        match input.unwrap().unwrap() {
            PodInput::Node { uid, .. } => uids.push(uid.unwrap()),
            other => panic!("{other:?}"),
        }
        // As the watch tells: the Node that was made, and then its end.
        let node = api.cluster.get("/api/v1/nodes/edge").await.unwrap().unwrap();
        sight.send_replace(Some(Some(Arc::new(node))));
        tokio::task::yield_now().await;
        sight.send_replace(Some(None));
    }
    assert_ne!(uids[0], uids[1]);
    running.abort();
}

#[tokio::test]
async fn a_node_is_left_alone_until_there_is_something_to_show() {
    let api = Api::start(store()).await;
    given(&api, None, None).task.keep(Look::Renew).await.unwrap();
    assert_eq!(lines(&api.writes()), Vec::<String>::new());
}

#[tokio::test]
async fn a_node_of_our_name_that_is_anothers_is_not_touched() {
    let api = Api::start(store()).await;
    for theirs in [json!({"providerID": "aws:///i-1"}), json!({})] {
        let node =
            json!({"metadata": {"name": "edge", "uid": "theirs", "resourceVersion": "4"}, "spec": theirs});
        let mut given = given(&api, Some(present()), Some(Arc::new(node)));
        given.task.keep(Look::Renew).await.unwrap();
        given.task.keep(Look::Renew).await.unwrap();
        given.aim.send_replace(Some(NodeAim::Absent));
        given.task.keep(Look::Changed).await.unwrap();
        assert!(matches!(
            given.told.recv().await,
            Some(PodInput::NameTaken { .. })
        ));
        assert!(given.told.try_recv().is_err(), "told once");
    }
    assert_eq!(lines(&api.writes()), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_a_node_no_longer_is_deleted_by_its_uid_and_not_leased() {
    let api = Api::start(store()).await;
    let mut given = given(&api, Some(present()), None);
    given.task.keep(Look::Renew).await.unwrap();
    let node = api.cluster.get("/api/v1/nodes/edge").await.unwrap();
    given.sight.send_replace(Some(node.map(Arc::new)));
    given.aim.send_replace(Some(NodeAim::Absent));
    given.task.keep(Look::Renew).await.unwrap();
    given.sight.send_replace(Some(None));
    given.task.keep(Look::Renew).await.unwrap();
    let writes = api.writes();
    assert_eq!(lines(&writes[2..]), ["DELETE /api/v1/nodes/edge"]);
    assert_eq!(writes[2].body["preconditions"]["uid"], "uid-1");
}

#[tokio::test]
async fn a_node_without_a_sign_of_life_is_not_leased() {
    let api = Api::start(store()).await;
    let NodeAim::Present(mut view) = present() else {
        panic!("present")
    };
    view.lives = false;
    let aim = Some(NodeAim::Present(view));
    given(&api, aim, None).task.keep(Look::Renew).await.unwrap();
    assert_eq!(lines(&api.writes()), ["POST /api/v1/nodes"]);
}

#[tokio::test]
async fn a_node_of_which_nobody_has_spoken_yet_is_leased_as_it_shows_itself() {
    let shown = |status: &str| {
        json!({
            "metadata": {"name": "edge", "uid": "uid-1", "resourceVersion": "4"},
            "spec": {
                "providerID": "outrigger://hub/edge",
                "taints": [{"key": "virtual-kubelet.io/provider", "value": "outrigger", "effect": "NoSchedule"}],
            },
            "status": {"conditions": [
                {"type": "Ready", "status": status},
                {
                    "type": "outrigger.io/HubReachable", "status": "True", "reason": "HubAnswers", "message": "the hub answers",
                    "lastTransitionTime": "2026-11-22T03:00:00Z",
                },
            ]},
        })
    };
    for (aim, status, leased) in [
        (None, "True", true),
        (None, "Unknown", false),
        (Some(NodeAim::Kept(HubWord::Answers)), "True", true),
        (Some(NodeAim::Kept(HubWord::Answers)), "Unknown", false),
        (Some(NodeAim::Unheard), "True", false),
    ] {
        let api = Api::start(store()).await;
        let mut given = given(&api, aim, Some(Arc::new(shown(status))));
        given.task.keep(Look::Renew).await.unwrap();
        let renewal = leased.then(|| format!("POST {LEASES}"));
        let expected: Vec<String> = renewal.into_iter().collect();
        assert_eq!(lines(&api.writes()), expected, "{status}");
    }
}

#[tokio::test]
async fn nodes_that_are_there_are_known_by_their_provider_id() {
    let node = |name: &str, id: &str| json!({"metadata": {"name": name}, "spec": {"providerID": id}});
    let api = Api::start_raw(move |_| {
        let mut press = node("press-7", "outrigger://hub/press-7");
        press["status"] = json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": 10_251}}});
        let items = [
            press,
            node("worker", "aws:///i-1"),
            node("press-8", "outrigger://other/press-8"),
            node("odd", "outrigger://hub/press-9"),
            json!({"metadata": {"name": "bare"}, "spec": {}}),
        ];
        let list = json!({"kind": "NodeList", "metadata": {"resourceVersion": "40"}, "items": items});
        (200, list.to_string())
    })
    .await;
    let found = nodes_of(&api.cluster, "outrigger://hub/").await.unwrap();
    let expected = FoundNode {
        provider_id: "outrigger://hub/press-7".to_owned(),
        kubelet_port: Some(10_251),
    };
    assert_eq!(found, BTreeMap::from([("press-7".to_owned(), expected)]));
}

#[tokio::test]
async fn each_node_is_shown_its_own_and_a_deletion_too() {
    let node = |name: &str| json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "7"}});
    let api = Api::start_raw(move |asked| {
        if !asked.query.contains("watch=true") {
            let items = [node("edge"), node("worker")];
            let list = json!({"kind": "NodeList", "metadata": {"resourceVersion": "40"}, "items": items});
            return (200, list.to_string());
        }
        let event = |kind: &str, object: Value| json!({"type": kind, "object": object}).to_string() + "\n";
        (
            200,
            event("ADDED", node("press-7")) + &event("DELETED", node("edge")),
        )
    })
    .await;
    let (edge, mut of_edge) = watch::channel(None);
    let (press, mut of_press) = watch::channel(None);
    let routes = NodeRoutes::from([("edge".to_owned(), edge), ("press-7".to_owned(), press)]);
    let (_routes, routed) = watch::channel(routes);
    let watching = tokio::spawn(NodeWatch::new(api.cluster.clone(), Selection::Bound, routed).run());
    let limit = Duration::from_secs(20);
    let seen = of_press.wait_for(|seen| seen.as_ref().is_some_and(Option::is_some));
    let seen = tokio::time::timeout(limit, seen).await.unwrap().unwrap().clone();
    assert_eq!(seen.unwrap().unwrap()["metadata"]["uid"], "uid-press-7");
    let gone = of_edge.wait_for(|seen| *seen == Some(None));
    drop(tokio::time::timeout(limit, gone).await.unwrap().unwrap());
    watching.abort();
}
