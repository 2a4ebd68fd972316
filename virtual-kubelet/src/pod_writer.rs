//! Writes to one pod object, each bound to its UID: a pod of the same name that came later is never touched.

use serde_json::{Value, json};
use virtual_kubelet_core::tolerations::clear_seconds;
use virtual_kubelet_core::{completed, would_change};

use crate::cluster::{Cluster, PatchKind};
use crate::error::Error;
use crate::provider::{Annotations, ObservedPod};

/// What became of a write.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Nothing: it was as it should be.
    Same,
    /// The object after the write, as the API server answered it.
    Changed(Value),
    /// The pod of this UID is no more.
    Gone,
}

/// Writes pods. Every method is idempotent.
#[derive(Debug, Clone)]
pub struct PodWriter {
    cluster: Cluster,
}

impl PodWriter {
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// Merges `status` and `annotations` into the pod's, if that changes the object as it was last seen. It is one request: a write of the
    /// status may touch annotations too (`podStatusStrategy` of `pkg/registry/core/pod/strategy.go`).
    ///
    /// # Errors
    /// The API server's, but for those that mean that the pod is gone: 404, and what a UID that is another's gives, 409 or 422.
    pub async fn show(
        &self,
        pod: &ObservedPod,
        status: &Value,
        annotations: &Annotations,
    ) -> Result<Written, Error> {
        let current = pod.status().unwrap_or(&Value::Null);
        let status = completed(current, status.clone());
        let annotated = |(key, value): (&&str, &Option<String>)| pod.annotation(key) == value.as_deref();
        if !would_change(current, &status) && annotations.iter().all(annotated) {
            return Ok(Written::Same);
        }
        let mut body = json!({"metadata": {"uid": pod.uid}, "status": status});
        if !annotations.is_empty() {
            body["metadata"]["annotations"] = json!(annotations);
        }
        let path = format!("{}/status", path(pod));
        settle(self.cluster.patch(&path, PatchKind::Strategic, &body).await)
    }

    /// A last status, then the delete that ends the pod: grace 0, and only if it still has this UID.
    pub async fn finish(&self, pod: &ObservedPod, status: Option<&Value>) -> Result<(), Error> {
        if let Some(status) = status
            && self.show(pod, status, &Annotations::new()).await? == Written::Gone
        {
            return Ok(());
        }
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid},
        });
        settle(self.cluster.delete(&path(pod), &options).await).map(drop)
    }

    /// Clears `tolerationSeconds` of the tolerations of silence, so that no controller deletes the pod for it (law 1).
    pub async fn clear_toleration_seconds(&self, pod: &ObservedPod) -> Result<Written, Error> {
        let tolerations = pod
            .raw
            .get("spec")
            .and_then(|spec| spec.get("tolerations")?.as_array());
        match tolerations.and_then(|raw| clear_seconds(raw, &pod.uid)) {
            Some(patch) => settle(self.cluster.patch(&path(pod), PatchKind::Json, &patch).await),
            None => Ok(Written::Same),
        }
    }
}

fn path(pod: &ObservedPod) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name)
}

/// A patch that names another UID gets 422 for `metadata.uid` (an immutable field) or 409, a delete with such a precondition 409.
fn settle(result: Result<Value, Error>) -> Result<Written, Error> {
    let error = match result {
        Ok(object) => return Ok(Written::Changed(object)),
        Err(error) => error,
    };
    let is_gone = error.status().is_some_and(|status| match status.code {
        404 => true,
        409 => status.message.contains("UID"),
        422 => status.message.contains("metadata.uid"),
        _ => false,
    });
    if is_gone { Ok(Written::Gone) } else { Err(error) }
}
