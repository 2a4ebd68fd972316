//! The API server: what cases apply, and all their pods as they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Config, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ConformanceError;
use crate::order::Order;

const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Pods by namespace and name, as raw JSON, with the order in which they came to be so.
type Pods = BTreeMap<(String, String), (Value, Order)>;

/// A cluster and a watch of its pods; the watch ends with the last clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    pods: Arc<Mutex<Pods>>,
    changed: watch::Receiver<u64>,
    _task: Arc<JoinSet<()>>,
}

impl Cluster {
    /// # Errors
    /// The kubeconfig cannot be used.
    pub async fn connect(kubeconfig: &Path) -> anyhow::Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        config.connect_timeout = Some(REQUEST_LIMIT);
        let client = Client::try_from(config)?;
        let (sender, changed) = watch::channel(0);
        let pods: Arc<Mutex<Pods>> = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(follow(client.clone(), Arc::clone(&pods), sender));
        Ok(Self {
            client,
            pods,
            changed,
            _task: Arc::new(task),
        })
    }

    /// A pod as the watch last told; `None` when there is none.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        let key = (namespace.to_owned(), name.to_owned());
        lock(&self.pods).get(&key).map(|(pod, _)| pod.clone())
    }

    /// All pods of a namespace, by name.
    pub fn pods(&self, namespace: &str) -> Vec<(String, Value, Order)> {
        let pods = lock(&self.pods);
        let ours = pods.iter().filter(|((its, _), _)| its == namespace);
        ours.map(|((_, name), (pod, order))| (name.clone(), pod.clone(), order.clone()))
            .collect()
    }

    /// Returns when some pod changed since the last call on this clone, or after the time given.
    pub async fn changed(&mut self, within: Duration) {
        // An ended watch is an ended process.
        let _ = tokio::time::timeout(within, self.changed.changed()).await;
    }

    /// Creates the object.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn create(&self, namespace: &str, object: &Value) -> Result<(), ConformanceError> {
        let (version, kind, name) = identity(object);
        let failed = || ConformanceError::cluster(format!("{kind} {name} in {namespace} cannot be created"));
        let typed = serde_json::from_value(object.clone());
        let typed: DynamicObject = typed.map_err(|error| failed()(kube::Error::SerdeError(error)))?;
        let api = self.api(namespace, version, kind);
        let created = api.create(&PostParams::default(), &typed).await;
        created.map(drop).map_err(failed())
    }

    /// Merges into the object by Kubernetes' strategy; whether it was there.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn merge(&self, namespace: &str, object: &Value) -> Result<bool, ConformanceError> {
        let (version, kind, name) = identity(object);
        let api = self.api(namespace, version, kind);
        match api
            .patch(name, &PatchParams::default(), &Patch::Strategic(object))
            .await
        {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(ConformanceError::cluster(format!(
                "{kind} {name} cannot be changed"
            ))(error)),
        }
    }

    /// Merges into the pod by this subresource of it.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn merge_by(
        &self,
        subresource: &str,
        namespace: &str,
        pod: &Value,
    ) -> Result<(), ConformanceError> {
        let (version, kind, name) = identity(pod);
        let api = self.api(namespace, version, kind);
        let patch = Patch::Strategic(pod);
        let merged = api
            .patch_subresource(subresource, name, &PatchParams::default(), &patch)
            .await;
        let failed = ConformanceError::cluster(format!("{subresource} of {kind} {name} cannot be changed"));
        merged.map(drop).map_err(failed)
    }

    /// Makes a namespace in which pods can be created.
    ///
    /// # Errors
    /// The API server refuses, or the controller makes no service account in time.
    pub async fn ensure_namespace(&self, name: &str) -> Result<(), ConformanceError> {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.create("", &object).await?;
        let accounts = self.api(name, "v1", "ServiceAccount");
        let deadline = tokio::time::Instant::now() + REQUEST_LIMIT;
        loop {
            let failed = ConformanceError::cluster(format!("the service account of {name}"));
            if accounts.get_opt("default").await.map_err(failed)?.is_some() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(ConformanceError::Deadline {
                    side: "cluster",
                    wanted: format!("service account default in {name}"),
                    seconds: REQUEST_LIMIT.as_secs(),
                    state: String::new(),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What is gone already is no error.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn delete(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
        grace: Option<u32>,
    ) -> Result<(), ConformanceError> {
        let params = DeleteParams {
            grace_period_seconds: grace,
            ..DeleteParams::default()
        };
        let version = if matches!(kind, "StatefulSet" | "Deployment" | "DaemonSet") {
            "apps/v1"
        } else {
            "v1"
        };
        match self.api(namespace, version, kind).delete(name, &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            answer => answer.map(drop).map_err(ConformanceError::cluster(format!(
                "{kind} {name} cannot be deleted"
            ))),
        }
    }

    /// The events about a pod.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn events(&self, namespace: &str, pod: &str) -> Result<Vec<Event>, ConformanceError> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let about = ListParams::default().fields(&format!("involvedObject.name={pod}"));
        let failed = ConformanceError::cluster(format!("the events of {pod}"));
        Ok(events.list(&about).await.map_err(failed)?.items)
    }

    fn api(&self, namespace: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if matches!(kind, "Namespace" | "PersistentVolume" | "StorageClass") {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }
}

/// Version, kind and name.
fn identity(object: &Value) -> (&str, &str, &str) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    (
        text("/apiVersion").unwrap_or("v1"),
        text("/kind").unwrap_or_default(),
        text("/metadata/name").unwrap_or_default(),
    )
}

fn lock(pods: &Mutex<Pods>) -> std::sync::MutexGuard<'_, Pods> {
    pods.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(client: Client, pods: Arc<Mutex<Pods>>, sender: watch::Sender<u64>) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let mut listed = BTreeSet::new();
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                eprintln!("watch: {error}");
                continue;
            }
        };
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(pod) => {
                listed.insert(key(&pod));
                see(&mut lock(&pods), &pod);
            }
            watcher::Event::InitDone => lock(&pods).retain(|key, _| listed.contains(key)),
            watcher::Event::Apply(pod) => see(&mut lock(&pods), &pod),
            watcher::Event::Delete(pod) => {
                lock(&pods).remove(&key(&pod));
            }
        }
        sender.send_modify(|count| *count += 1);
    }
}

fn see(pods: &mut Pods, pod: &DynamicObject) {
    let (last, order) = pods.entry(key(pod)).or_default();
    *last = json!(pod);
    order.see(last);
}

fn key(pod: &DynamicObject) -> (String, String) {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}
