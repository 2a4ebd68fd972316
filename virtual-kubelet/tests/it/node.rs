//! The Node and its lease on the wire.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use virtual_kubelet::PodInput;
use virtual_kubelet::core::{Capacity, FleetSpec, FleetState, HubWord};
use virtual_kubelet::node_task::NodeTask;

use crate::api::{Api, Asked, not_found};

fn spec() -> FleetSpec {
    FleetSpec {
        name: "edge".into(),
        internal_ip: "192.0.2.7".into(),
        kubelet_port: None,
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

#[tokio::test]
async fn a_deleted_node_is_made_again_and_owns_its_lease() {
    let api = Api::start(store()).await;
    let state = FleetState {
        capacity: Some(Capacity::default()),
        hub: HubWord::Answers,
    };
    let (_keep, shown) = watch::channel(Some(spec().view(&state)));
    let (inputs, mut told) = mpsc::channel(8);
    let mut task = NodeTask::new(api.cluster.clone(), "edge", shown, inputs);

    task.keep().await.unwrap();
    let writes = api.writes();
    let paths: Vec<_> = writes
        .iter()
        .map(|write| (write.method.as_str(), write.path.as_str()))
        .collect();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(paths, [("POST", "/api/v1/nodes"), ("POST", leases)]);
    assert_eq!(writes[1].body["metadata"]["ownerReferences"][0]["uid"], "uid-1");
    assert!(matches!(told.recv().await, Some(PodInput::Node { uid: Some(uid) }) if uid == "uid-1"));

    task.keep().await.unwrap();
    let again = &api.writes()[2..];
    assert_eq!(again.len(), 1, "a node as it should be is only leased: {again:?}");
    assert_eq!(again[0].method, "PUT");

    api.cluster
        .delete("/api/v1/nodes/edge", &json!({}))
        .await
        .unwrap();
    task.keep().await.unwrap();
    let renewed = api.writes().pop().unwrap();
    assert_eq!(renewed.body["metadata"]["ownerReferences"][0]["uid"], "uid-3");
    assert!(matches!(told.recv().await, Some(PodInput::Node { uid: Some(uid) }) if uid == "uid-3"));
}

#[tokio::test]
async fn a_node_is_left_alone_until_there_is_something_to_show() {
    let api = Api::start(store()).await;
    let (_keep, shown) = watch::channel(None);
    let (inputs, _told) = mpsc::channel(8);
    NodeTask::new(api.cluster.clone(), "edge", shown, inputs)
        .keep()
        .await
        .unwrap();
    assert!(api.writes().iter().all(|write| write.path.contains("leases")));
}
