//! What a pod gets of what it refers to, and what it says while it waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use edge_protocol::sealing::{RootSecret, SealingScope};
use edge_provider_translate::{Claim, Context, Untranslated, translate};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use virtual_kubelet::Cluster;
use virtual_kubelet::objects::{ObjectsOptions, ObjectsTask};

use super::*;
use crate::sealer::SealerHandle;

type World = Arc<Mutex<BTreeMap<String, Value>>>;

/// An API server that lists what it was given, by path and name, and ends every watch at once; what it was not given it refuses.
struct Api {
    world: World,
    tasks: Vec<JoinHandle<()>>,
    reading: Reading,
}

const ROOT: [u8; 32] = [9; 32];

fn sealer() -> PodSealer {
    let (_, cluster) = watch::channel(Some("cluster-1".to_owned()));
    PodSealer::new(SealerHandle::new(RootSecret::from_bytes(ROOT)), cluster)
}

impl Drop for Api {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Api {
    async fn start(api_server: Option<(String, u16)>) -> Self {
        let world = World::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&world));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        let (handle, task) = ObjectsTask::new(Cluster::new(client), ObjectsOptions::default());
        let reading = Reading::new(handle.of_node("edge"), api_server, sealer());
        let tasks = vec![
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }),
            tokio::spawn(task.run()),
        ];
        Self {
            world,
            tasks,
            reading,
        }
    }

    /// `None`: there is none.
    fn give(&self, key: &str, object: Option<Value>) {
        self.world
            .lock()
            .unwrap()
            .insert(key.to_owned(), object.unwrap_or_default());
    }

    /// Looks again at each news until `done` likes it.
    async fn until(&mut self, pod: &ObservedPod, done: impl Fn(&Gathered) -> bool) -> Gathered {
        let uid = uid();
        let looks = async {
            loop {
                let gathered = self.reading.look(&uid, pod, NodeKind::Device);
                if done(&gathered) {
                    return gathered;
                }
                assert!(self.reading.changed().await.contains(&uid));
            }
        };
        tokio::time::timeout(Duration::from_secs(30), looks)
            .await
            .unwrap()
    }
}

async fn answer(State(world): State<World>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let world = world.lock().unwrap();
    let name = query
        .split("metadata.name%3D")
        .nth(1)
        .and_then(|rest| rest.split('&').next());
    let key = name.map_or(path.clone(), |name| format!("{path}/{name}"));
    let (code, body) = match (path.as_str(), world.get(&key)) {
        ("/version", _) => (200, json!({"major": "1", "minor": "37"})),
        _ if query.contains("watch=true") => (
            410,
            json!({"kind": "Status", "code": 410, "reason": "Expired", "message": ""}),
        ),
        (_, Some(Value::Null)) if name.is_none() => (
            404,
            json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": ""}),
        ),
        (_, Some(Value::Null)) => (200, json!({"metadata": {"resourceVersion": "1"}, "items": []})),
        (_, Some(object)) if name.is_some() => (
            200,
            json!({"metadata": {"resourceVersion": "1"}, "items": [object]}),
        ),
        (_, Some(object)) => (200, object.clone()),
        (_, None) => (
            403,
            json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no relationship found"}),
        ),
    };
    let headers = [("content-type", "application/json")];
    (StatusCode::from_u16(code).unwrap(), headers, body.to_string()).into_response()
}

fn uid() -> PodUid {
    PodUid::new("u1").unwrap()
}

fn pod(volumes: &Value, links: bool) -> ObservedPod {
    ObservedPod {
        uid: "u1".into(),
        namespace: "shop".into(),
        name: "web".into(),
        raw: json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
            "spec": {
                "nodeName": "edge", "enableServiceLinks": links, "volumes": volumes,
                "containers": [{"name": "main", "image": "shop/web:1"}],
            },
        }),
        owner: None,
        namespace_labels: BTreeMap::new(),
        driven_away: false,
    }
}

fn waits(pod: &ObservedPod, gathered: &Gathered) -> NotYet {
    let context = Context {
        kind: NodeKind::Device,
        objects: &gathered.objects,
        ..Context::default()
    };
    match translate(&pod.raw, context) {
        Err(Untranslated::NotYet(waits)) => waits,
        other => panic!("{other:?}"),
    }
}

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";
const SECRETS: &str = "/api/v1/namespaces/shop/secrets";

fn map(color: &str) -> Value {
    json!({"metadata": {"name": "settings", "namespace": "shop"}, "data": {"color": color}})
}

#[tokio::test]
async fn what_is_found_goes_into_the_manifest_with_its_body_and_what_is_missing_stays_out() {
    let mut api = Api::start(Some(("api.example".to_owned(), 6443))).await;
    api.give(&format!("{MAPS}/settings"), Some(map("blue")));
    api.give(&format!("{MAPS}/later"), None);
    let pod = pod(
        &json!([
            {"name": "a", "configMap": {"name": "settings"}},
            {"name": "b", "configMap": {"name": "later"}},
        ]),
        false,
    );
    let first = api.reading.look(&uid(), &pod, NodeKind::Device);
    assert_eq!(
        first.refusal(&waits(&pod, &first)).reason,
        READING,
        "nobody is told of a first look"
    );
    let gathered = api.until(&pod, |gathered| gathered.unread.is_empty()).await;
    let context = Context {
        kind: NodeKind::Device,
        objects: &gathered.objects,
        ..Context::default()
    };
    let manifest = translate(&pod.raw, context).unwrap().manifest;
    let named: Vec<(&str, &str)> = manifest
        .objects
        .iter()
        .map(|object| (object.kind.as_str(), object.name.as_str()))
        .collect();
    assert_eq!(named, [("ConfigMap", "settings"), ("Services", "services")]);
    let bodies = api
        .reading
        .bodies(&uid(), &edge_provider_translate::document(&manifest));
    for object in &manifest.objects {
        assert!(!object.sealed);
        let body = bodies.iter().find(|body| body.digest == object.digest).unwrap();
        assert_eq!(body.digest, edge_protocol::Digest::of(&body.body));
    }
    let text: String = bodies.iter().map(|body| body.body.as_str()).collect();
    assert!(text.contains("blue") && text.contains("api.example"), "{text}");

    api.give(&format!("{MAPS}/settings"), Some(map("green")));
    let changed = api.until(&pod, |gathered| {
        gathered.objects != Objects::default() && {
            gathered.bodies.iter().any(|body| body.body.contains("green"))
        }
    });
    let changed = changed.await;
    assert_ne!(
        changed.objects, gathered.objects,
        "another digest, so another manifest"
    );
    let document = edge_provider_translate::document(&manifest);
    assert_eq!(
        api.reading.bodies(&uid(), &document).len(),
        1,
        "what the manifest does not name stays here"
    );
    api.reading.forget(&uid());
    assert!(api.reading.bodies(&uid(), &document).is_empty());
}

#[tokio::test]
async fn a_secret_goes_sealed_into_the_manifest_and_nothing_of_it_in_clear() {
    let mut api = Api::start(None).await;
    let found = json!({"metadata": {"name": "key", "namespace": "shop"}, "data": {"pin": "NDcxMQ=="}});
    api.give(&format!("{SECRETS}/key"), Some(found.clone()));
    let pod = pod(&json!([{"name": "a", "secret": {"secretName": "key"}}]), false);
    let gathered = api.until(&pod, |gathered| gathered.unread.is_empty()).await;
    let context = Context {
        kind: NodeKind::Device,
        objects: &gathered.objects,
        ..Context::default()
    };
    let manifest = translate(&pod.raw, context).unwrap().manifest;
    let named = manifest.objects.iter().find(|object| object.kind == kind::SECRET);
    let named = named.unwrap();
    assert!(named.sealed);
    let bodies = api
        .reading
        .bodies(&uid(), &edge_provider_translate::document(&manifest));
    let body = bodies.iter().find(|body| body.digest == named.digest).unwrap();
    let text: String = bodies.iter().map(|body| body.body.as_str()).collect();
    assert!(!text.contains("4711") && !text.contains("NDcxMQ"), "{text}");
    let scope = SealingScope {
        cluster: "cluster-1".into(),
        namespace: "shop".into(),
    };
    let sealed = RootSecret::from_bytes(ROOT).seal(&scope, &secret(&found).unwrap());
    assert_eq!(body.body, sealed.body, "of its cluster and its namespace");

    api.give(&format!("{SECRETS}/key"), None);
    let key = ObjectKey::new(kind::SECRET, "key");
    let missing = |gathered: &Gathered| gathered.objects.found.get(&key) == Some(&Found::Missing);
    api.until(&pod, missing).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_said_after_a_while_with_the_reason() {
    let mut api = Api::start(None).await;
    let token = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]);
    let with_token = pod(&token, false);
    let mut gathered = api
        .until(&with_token, |gathered| {
            gathered.unread.iter().any(|(_, why)| why.is_some())
        })
        .await;
    assert_eq!(gathered.refusal(&waits(&with_token, &gathered)).reason, READING);
    assert!(api.reading.due().is_some() && api.reading.overdue().is_empty());
    gathered.patient = false;
    let refusal = gathered.refusal(&waits(&with_token, &gathered));
    assert_eq!(refusal.reason, FAILED_MOUNT);
    assert!(refusal.message.contains("no relationship found"), "{refusal:?}");
}

#[tokio::test]
async fn a_claim_is_what_its_volume_is() {
    let mut api = Api::start(None).await;
    let path = "/api/v1/namespaces/shop/persistentvolumeclaims/data";
    api.give(path, None);
    let pod = pod(
        &json!([{"name": "a", "persistentVolumeClaim": {"claimName": "data"}}]),
        false,
    );
    let gathered = api.until(&pod, |gathered| gathered.unread.is_empty()).await;
    let refusal = gathered.refusal(&waits(&pod, &gathered));
    assert_eq!(refusal.reason, "ClaimNotBound");
    api.give(
        path,
        Some(json!({
            "metadata": {"name": "data", "uid": "c1"}, "spec": {"volumeName": "disk"}, "status": {"phase": "Bound"},
        })),
    );
    api.give(
        "/api/v1/persistentvolumes/disk",
        Some(json!({"spec": {"local": {"path": "/data"}, "claimRef": {"uid": "c1"}}})),
    );
    let bound = |gathered: &Gathered| matches!(gathered.objects.claims.get("data"), Some(Claim::Bound { path, .. }) if path == "/data");
    api.until(&pod, bound).await;
}
