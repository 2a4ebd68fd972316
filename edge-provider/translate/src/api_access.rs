//! The volume and mounts that the API server adds to every pod by itself, recognised exactly.
//!
//! The shape is that of `TokenVolumeSource` and `mountServiceAccountToken` in
//! `plugin/pkg/admission/serviceaccount/admission.go` of Kubernetes 1.37. A volume that only resembles it was written by
//! someone who wants what it says, and is refused like any other.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::VolumeMount;
use serde_json::{Map, Value, json};

const NAME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

static SOURCE: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "defaultMode": 420,
        "sources": [
            { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [
                { "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } },
            ] } },
        ],
    })
});

/// The names of one pod's API access volumes; stock admission adds at most one.
#[derive(Debug, Default)]
pub(crate) struct ApiAccess<'a> {
    names: BTreeSet<&'a str>,
}

impl<'a> ApiAccess<'a> {
    /// Looks through the raw JSON of a pod's `spec`.
    pub(crate) fn find(spec: &'a Value) -> Self {
        let volumes = spec
            .get("volumes")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        let names = volumes
            .iter()
            .filter_map(Value::as_object)
            .filter(|volume| has_shape(volume));
        Self {
            names: names.filter_map(name).collect(),
        }
    }

    /// Whether the pod has one, that is, whether a token would have been mounted on a worker.
    pub(crate) fn is_present(&self) -> bool {
        !self.names.is_empty()
    }

    /// Whether a volume of this name is one of them.
    pub(crate) fn is_named(&self, volume: &str) -> bool {
        self.names.contains(volume)
    }

    pub(crate) fn is_volume(&self, volume: &Map<String, Value>) -> bool {
        has_shape(volume) && name(volume).is_some_and(|name| self.names.contains(name))
    }

    /// [`is_mount`](Self::is_mount) of what was read from the raw JSON.
    pub(crate) fn is_typed_mount(&self, mount: &VolumeMount) -> bool {
        self.is_named(&mount.name) && serde_json::to_value(mount).is_ok_and(|mount| self.is_mount(&mount))
    }

    pub(crate) fn is_mount(&self, mount: &Value) -> bool {
        let Some(volume) = mount.get("name").and_then(Value::as_str) else {
            return false;
        };
        self.names.contains(volume)
            && *mount == json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH })
    }
}

fn name(volume: &Map<String, Value>) -> Option<&str> {
    volume.get("name")?.as_str()
}

fn has_shape(volume: &Map<String, Value>) -> bool {
    name(volume).is_some_and(|name| name.starts_with(NAME_PREFIX))
        && volume.get("projected").is_some_and(|source| *source == *SOURCE)
}
