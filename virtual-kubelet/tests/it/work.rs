//! The writes of one node's pump.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::{Semaphore, mpsc, watch};
use virtual_kubelet::events::EventsTask;
use virtual_kubelet::leader::Left;
use virtual_kubelet::pod_writer::PodWriter;
use virtual_kubelet::work::{Own, Shared, Work};
use virtual_kubelet::{Annotations, ObservedPod, PodEffect, PodInput, Provider};

use crate::api::{Api, pod};

/// Asks for the same twice, as one does who sees an older state between two writes.
struct Insistent;

impl Provider for Insistent {
    fn observe(&mut self, input: PodInput) -> Vec<PodEffect> {
        let PodInput::Seen(pod) = input else {
            return Vec::new();
        };
        let clear = || PodEffect::ClearTolerationSeconds { uid: pod.uid.clone() };
        let show = PodEffect::Show {
            uid: pod.uid.clone(),
            status: json!({"phase": "Running"}),
            annotations: Annotations::new(),
        };
        vec![clear(), clear(), show]
    }

    async fn next(&mut self) -> Vec<PodEffect> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_write_is_made_from_what_the_one_before_has_left() {
    let (told, mut writes) = mpsc::unbounded_channel();
    let api = Api::start(move |asked| {
        told.send(asked.content_type.clone()).unwrap();
        let mut cleared = pod("u1");
        cleared["metadata"]["resourceVersion"] = json!("9");
        let toleration = cleared["spec"]["tolerations"][0].as_object_mut().unwrap();
        toleration.remove("tolerationSeconds");
        (200, cleared)
    })
    .await;
    let (inputs, received) = mpsc::channel(8);
    let (events, _task) = EventsTask::new(api.cluster.clone(), 64);
    let (_keeper, kept) = watch::channel(0);
    let own = Own {
        node: "edge".to_owned(),
        provider: Insistent,
        memory: "memory".to_owned(),
        events: events.of_node("edge", 64),
        aim: watch::channel(None).0,
        inputs: inputs.clone(),
    };
    let shared = Shared {
        writer: PodWriter::new(api.cluster.clone()),
        permits: Arc::new(Semaphore::new(4)),
        ask: mpsc::channel(1).0,
        look: mpsc::channel(1).0,
        memory: watch::channel(Left::default()).0,
        kept,
    };
    let seen = ObservedPod {
        uid: "u1".to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        raw: pod("u1"),
        owner: None,
        namespace_labels: BTreeMap::new(),
        driven_away: false,
    };
    inputs.send(PodInput::Seen(Arc::new(seen))).await.unwrap();
    let pump = tokio::spawn(Work::new(own, shared).run(received));
    assert_eq!(writes.recv().await.unwrap(), "application/json-patch+json");
    // The second patch would test for tolerations that are no more, be refused, and keep the status waiting.
    assert_eq!(
        writes.recv().await.unwrap(),
        "application/strategic-merge-patch+json"
    );
    pump.abort();
}
