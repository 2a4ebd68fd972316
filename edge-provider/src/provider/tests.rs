//! The pump's own wiring: what is known of the Node and of the hub meets the pods that wait for it.

use edge_protocol::sealing::RootSecret;
use edge_provider_core::BridgeConfig;
use iot_hub_client::{ApiToken, ClientOptions};
use serde_json::{Value, json};
use virtual_kubelet::core::admission::NODE_AFFINITY;
use virtual_kubelet::core::{NamespaceEntry, NodeFacts, Rights, Selector};
use virtual_kubelet::objects::{ObjectsOptions, ObjectsTask};
use virtual_kubelet::{Cluster, PodSnapshot};

use super::face::tests::face_with;
use super::*;
use crate::device_view::tests::device;
use crate::sealer::{PodSealer, SealerHandle};

fn face() -> Face {
    face_with(vec![NamespaceEntry {
        selector: Selector::default(),
        scope: "*".into(),
        default_condition: None,
        rights: Rights::default(),
    }])
}

/// A provider whose hub and API server are out of reach: what it does by itself.
fn provider() -> EdgeProvider {
    let certificate = rcgen::generate_simple_self_signed(vec!["hub".to_owned()]).unwrap();
    let options = ClientOptions::new("https://127.0.0.1:1", certificate.cert.pem(), ApiToken::new("t"));
    let api = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let cluster = Cluster::new(kube::Client::try_from(api).unwrap());
    let (objects, _) = ObjectsTask::new(cluster, ObjectsOptions::default());
    let (cluster, known) = watch::channel(Some("cluster-1".to_owned()));
    let sealer = PodSealer::new(SealerHandle::new(RootSecret::from_bytes([9; 32])), known);
    let channels = Channels {
        hub_events: mpsc::channel(1).1,
        cluster,
        brake_released: watch::channel(0).1,
        over: mpsc::channel(1).0,
        endpoint: EndpointSight::default(),
    };
    EdgeProvider::new(
        face(),
        Bridge::new(
            BridgeConfig::new("press-7"),
            edge_provider_core::Memory::default(),
            1,
        ),
        Reading::new(objects.of_node("press-7"), None, sealer),
        HubClient::new(options).unwrap(),
        crate::streams::PodTable::default().node("press-7"),
        channels,
        Metrics::default(),
    )
}

fn pod(hall: &str, status: &Value) -> Arc<ObservedPod> {
    let spec = json!({
        "nodeName": "press-7", "nodeSelector": {"hall": hall}, "enableServiceLinks": false,
        "containers": [{"name": "main", "image": "shop/web:1"}],
    });
    let metadata = json!({"name": "web", "namespace": "shop", "uid": "u1"});
    Arc::new(ObservedPod {
        uid: "u1".into(),
        namespace: "shop".into(),
        name: "web".into(),
        raw: json!({"metadata": metadata, "spec": spec, "status": status}),
        owner: None,
        namespace_labels: BTreeMap::new(),
        driven_away: false,
    })
}

fn listed(pod: &Arc<ObservedPod>) -> PodInput {
    PodInput::Listed(PodSnapshot {
        cluster_uid: "cluster-1".into(),
        resource_version: 1,
        node_uid: Some("n1".into()),
        pods: vec![Arc::clone(pod)],
    })
}

fn node(hall: &str) -> PodInput {
    let node = json!({"metadata": {"name": "press-7", "labels": {"hall": hall}}});
    PodInput::Node {
        uid: Some("n1".into()),
        facts: Some(Arc::new(NodeFacts::of(&node))),
    }
}

fn hub(provider: &mut EdgeProvider) -> Vec<PodEffect> {
    let mut out = Vec::new();
    provider.hub_says(HubEvent::Devices(vec![device("press-7")]), &mut out);
    provider.hub_says(HubEvent::Deployments(Vec::new()), &mut out);
    out
}

/// The phases that the pod was to show, and the reasons of its events.
fn told(effects: &[PodEffect]) -> (Vec<&str>, Vec<&str>) {
    let phases = effects.iter().filter_map(|effect| match effect {
        PodEffect::Show { status, .. } => status["phase"].as_str(),
        _ => None,
    });
    let reasons = effects.iter().filter_map(|effect| match effect {
        PodEffect::PodEvent { event, .. } => Some(event.reason.as_str()),
        _ => None,
    });
    (phases.collect(), reasons.collect())
}

#[tokio::test]
async fn a_pod_that_its_node_does_not_suit_waits_for_both_words_and_fails_once() {
    let asks = pod("8", &json!({}));
    for hub_first in [true, false] {
        let mut provider = provider();
        let mut before = provider.observe(listed(&asks));
        if hub_first {
            before.extend(hub(&mut provider));
        } else {
            before.extend(provider.observe(node("7")));
        }
        let (phases, reasons) = told(&before);
        assert!(!phases.contains(&"Failed") && reasons.is_empty(), "{before:?}");
        let after = if hub_first {
            provider.observe(node("7"))
        } else {
            hub(&mut provider)
        };
        let (phases, reasons) = told(&after);
        assert_eq!((phases.last(), reasons), (Some(&"Failed"), vec![NODE_AFFINITY]));
        let failed = pod(
            "8",
            &json!({"phase": "Failed", "startTime": "2026-11-21T00:00:00Z"}),
        );
        let again = provider.observe(PodInput::Seen(failed));
        assert_eq!(told(&again).1, Vec::<&str>::new(), "told once");
        assert!(provider.calls.is_empty(), "nothing of it reaches the hub");
    }
}

#[tokio::test]
async fn a_pod_that_its_node_suits_is_not_failed() {
    let mut provider = provider();
    let mut all = provider.observe(listed(&pod("7", &json!({}))));
    all.extend(hub(&mut provider));
    all.extend(provider.observe(node("7")));
    // Its labels change later.
    all.extend(provider.observe(node("8")));
    all.extend(provider.observe(PodInput::Seen(pod("7", &json!({})))));
    let (phases, reasons) = told(&all);
    assert!(!phases.contains(&"Failed") && reasons.is_empty(), "{all:?}");
}
