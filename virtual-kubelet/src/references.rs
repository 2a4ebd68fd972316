//! What a pod refers to: its owning controller and its namespace's labels, read once and remembered for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use virtual_kubelet_core::deletion::is_by_taint;
use virtual_kubelet_core::taint::{Taint, Toleration, drives_away};

use crate::cluster::{Cluster, stripped};
use crate::error::Error;
use crate::provider::{ObservedPod, PodOwner, conditions};

/// Labels of a namespace may change; a `ReplicaSet`'s Deployment does not.
const LABELS_FRESH: Duration = Duration::from_secs(30);
/// Of each kind; when it is full it is emptied, which costs reads and nothing else.
const REMEMBERED: usize = 4096;

#[derive(Debug)]
pub struct References {
    cluster: Cluster,
    deployments: BTreeMap<String, Option<PodOwner>>,
    labels: BTreeMap<String, (Instant, BTreeMap<String, String>)>,
}

impl References {
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            deployments: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    /// The pod with everything it refers to.
    ///
    /// # Errors
    /// When a reference cannot be read now. A wrong owner or missing labels would have consequences, so there is no default.
    pub async fn resolve(&mut self, raw: Value) -> Result<ObservedPod, Error> {
        let raw = stripped(raw);
        let metadata = raw.get("metadata").and_then(Value::as_object);
        let metadata = metadata.ok_or(Error::Malformed {
            path: "pod".to_owned(),
            what: "metadata",
        })?;
        let text = |key: &str| {
            metadata
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (uid, namespace, name) = (text("uid"), text("namespace"), text("name"));
        let owner = self.owner(&namespace, &raw).await?;
        let namespace_labels = self.labels_of(&namespace).await?;
        let driven_away = self.is_driven_away(&raw).await?;
        Ok(ObservedPod {
            uid,
            namespace,
            name,
            raw,
            owner,
            namespace_labels,
            driven_away,
        })
    }

    /// Read anew each time: what stands on the Node when the taint manager's deletion is seen decides whether it is meant.
    async fn is_driven_away(&self, pod: &Value) -> Result<bool, Error> {
        if !is_by_taint(&conditions(pod)) {
            return Ok(false);
        }
        let Some(node) = pod.get("spec").and_then(|spec| spec.get("nodeName")?.as_str()) else {
            return Ok(false);
        };
        let node = self.cluster.get(&format!("/api/v1/nodes/{node}")).await?;
        let list = |object: Option<&Value>, key: &str| object?.get("spec")?.get(key).cloned();
        let taints: Option<Vec<Taint>> =
            list(node.as_ref(), "taints").and_then(|taints| serde_json::from_value(taints).ok());
        let tolerations: Option<Vec<Toleration>> =
            list(Some(pod), "tolerations").and_then(|tolerations| serde_json::from_value(tolerations).ok());
        Ok(drives_away(
            &taints.unwrap_or_default(),
            &tolerations.unwrap_or_default(),
        ))
    }

    /// The owning controller of a pod, followed from a `ReplicaSet` to its Deployment.
    ///
    /// # Errors
    /// When that cannot be read now.
    pub async fn owner(&mut self, namespace: &str, pod: &Value) -> Result<Option<PodOwner>, Error> {
        let owners = pod
            .get("metadata")
            .and_then(|metadata| metadata.get("ownerReferences")?.as_array());
        match owners.into_iter().flatten().find_map(controller) {
            Some(owner) if owner.kind == "ReplicaSet" => self.follow(namespace, owner).await,
            other => Ok(other),
        }
    }

    /// A `ReplicaSet` that is gone, or that no Deployment owns, is the owner itself.
    async fn follow(&mut self, namespace: &str, set: PodOwner) -> Result<Option<PodOwner>, Error> {
        if let Some(known) = self.deployments.get(&set.uid) {
            return Ok(known.clone());
        }
        let path = format!("/apis/apps/v1/namespaces/{namespace}/replicasets/{}", set.name);
        let found = self.cluster.get(&path).await?;
        let metadata = found.as_ref().and_then(|found| found.get("metadata"));
        let same = metadata.filter(|metadata| metadata.get("uid").and_then(Value::as_str) == Some(&set.uid));
        let owners = same.and_then(|metadata| metadata.get("ownerReferences")?.as_array());
        let owner = owners
            .into_iter()
            .flatten()
            .find_map(controller)
            .unwrap_or_else(|| set.clone());
        if self.deployments.len() >= REMEMBERED {
            self.deployments.clear();
        }
        self.deployments.insert(set.uid, Some(owner.clone()));
        Ok(Some(owner))
    }

    async fn labels_of(&mut self, namespace: &str) -> Result<BTreeMap<String, String>, Error> {
        if let Some((at, labels)) = self.labels.get(namespace)
            && at.elapsed() < LABELS_FRESH
        {
            return Ok(labels.clone());
        }
        let path = format!("/api/v1/namespaces/{namespace}");
        let found = self.cluster.get(&path).await?;
        let labels = found
            .as_ref()
            .and_then(|found| found.get("metadata")?.get("labels"));
        let labels: BTreeMap<String, String> = match labels {
            Some(labels) => serde_json::from_value(labels.clone()).map_err(|_| Error::Malformed {
                path,
                what: "labels of text",
            })?,
            None => BTreeMap::new(),
        };
        if self.labels.len() >= REMEMBERED {
            self.labels.clear();
        }
        self.labels
            .insert(namespace.to_owned(), (Instant::now(), labels.clone()));
        Ok(labels)
    }
}

fn controller(reference: &Value) -> Option<PodOwner> {
    reference.get("controller")?.as_bool()?.then_some(())?;
    let text = |key: &str| Some(reference.get(key)?.as_str()?.to_owned());
    Some(PodOwner {
        kind: text("kind")?,
        name: text("name")?,
        uid: text("uid")?,
    })
}
