//! Objects of the cluster, as raw JSON, → the data that devices get.

use std::collections::BTreeMap;

use edge_protocol::v1::object::kind;
use edge_protocol::v1::{Bytes, ClaimPlugin, HostPathCheck, ObjectData, VERSION};
use serde_json::{Map, Value, json};

use super::Claim;

/// The key of a pull credential's one value, as `kubernetes.io/dockerconfigjson` has it.
const DOCKER_CONFIG: &str = ".dockerconfigjson";
/// The key of the older `kubernetes.io/dockercfg`, whose value is the map of registries alone.
const LEGACY_DOCKER_CONFIG: &str = ".dockercfg";

/// A claim with this finalizer stays usable while it is being deleted.
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// The JSON is not an object of the kind that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no {kind}: {what}")]
pub struct NotAnObject {
    pub kind: &'static str,
    pub what: &'static str,
}

/// A `ConfigMap`. Its `data` becomes text and its `binaryData` binary, even where that is UTF-8: variables are made from the first
/// only (`makeEnvironmentVariables` of `pkg/kubelet/kubelet_pods.go`).
///
/// # Errors
/// When it has no name, or values of another type.
pub fn config_map(object: &Value) -> Result<ObjectData, NotAnObject> {
    let wrong = |what| NotAnObject {
        kind: kind::CONFIG_MAP,
        what,
    };
    let mut data = empty(
        kind::CONFIG_MAP,
        name(object).ok_or_else(|| wrong("it has no name"))?,
    );
    for (key, value) in members(object, "data") {
        let text = value.as_str().ok_or_else(|| wrong("a value is no text"))?;
        data.text.insert(key.clone(), text.to_owned());
    }
    for (key, value) in members(object, "binaryData") {
        let bytes = decoded(value).ok_or_else(|| wrong("a binary value is no base64"))?;
        data.binary.insert(key.clone(), bytes);
    }
    Ok(data)
}

/// A `Secret`, its values decoded.
///
/// # Errors
/// When it has no name, or a value that is no base64.
pub fn secret(object: &Value) -> Result<ObjectData, NotAnObject> {
    let wrong = |what| NotAnObject {
        kind: kind::SECRET,
        what,
    };
    let mut data = empty(kind::SECRET, name(object).ok_or_else(|| wrong("it has no name"))?);
    for (key, value) in members(object, "data") {
        let bytes = decoded(value).ok_or_else(|| wrong("a value is no base64"))?;
        match String::from_utf8(bytes.0) {
            Ok(text) => {
                data.text.insert(key.clone(), text);
            }
            Err(error) => {
                data.binary.insert(key.clone(), Bytes(error.into_bytes()));
            }
        }
    }
    Ok(data)
}

/// A `Secret` of either docker type as a pull credential; `None` when it is of another type, which a kubelet passes over too, or its
/// text is no JSON (`secretsToTrackedDockerConfigs` of `pkg/credentialprovider/secrets/secrets.go`).
pub fn pull_credential(object: &Value) -> Option<ObjectData> {
    let secret = secret(object).ok()?;
    let read = |key: &str| serde_json::from_slice::<Value>(secret.get(key)?).ok();
    let config = match text(object, "/type")? {
        "kubernetes.io/dockerconfigjson" => read(DOCKER_CONFIG)?,
        "kubernetes.io/dockercfg" => json!({ "auths": read(LEGACY_DOCKER_CONFIG)? }),
        _ => return None,
    };
    let mut data = empty(kind::PULL_CREDENTIAL, secret.name);
    data.text.insert(DOCKER_CONFIG.to_owned(), config.to_string());
    Some(data)
}

/// A service account's token under the name that [`References::tokens`](crate::references::References) gave it.
pub fn token(name: impl Into<String>, token: impl Into<String>) -> ObjectData {
    let mut data = empty(kind::TOKEN, name.into());
    data.text.insert("token".to_owned(), token.into());
    data
}

/// What a claim and the volume that it is bound to mean for a device: directories of `local` and `hostPath` volumes.
///
/// When a claim counts as bound is the rule of `getPVCExtractPV` and `getPVSpec` of
/// `pkg/kubelet/volumemanager/populator/desired_state_of_world_populator.go`.
pub fn claim(claim: Option<&Value>, volume: Option<&Value>) -> Claim {
    let Some(claim) = claim else {
        return Claim::NotYet("the claim does not exist".to_owned());
    };
    let protected = claim
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .is_some_and(|finalizers| finalizers.iter().any(|finalizer| finalizer == PROTECTION));
    if claim.pointer("/metadata/deletionTimestamp").is_some() && !protected {
        return Claim::NotYet("the claim is being deleted".to_owned());
    }
    let bound = text(claim, "/status/phase") == Some("Bound")
        && text(claim, "/spec/volumeName").is_some_and(|name| !name.is_empty());
    if !bound {
        return Claim::NotYet("the claim is not bound".to_owned());
    }
    let Some(volume) = volume else {
        return Claim::NotYet("the claim's volume does not exist".to_owned());
    };
    if text(volume, "/spec/claimRef/uid") != text(claim, "/metadata/uid") {
        return Claim::NotYet("the volume is bound to another claim".to_owned());
    }
    if text(volume, "/spec/volumeMode") == Some("Block") {
        return Claim::Unsupported("a claim on a block device".to_owned());
    }
    directory(volume).unwrap_or_else(|| {
        Claim::Unsupported("a claim on a volume that is not of the device itself".to_owned())
    })
}

fn directory(volume: &Value) -> Option<Claim> {
    if let Some(path) = text(volume, "/spec/local/path") {
        return Some(Claim::Bound {
            path: path.to_owned(),
            check: HostPathCheck::Directory,
            plugin: ClaimPlugin::Local,
        });
    }
    let path = text(volume, "/spec/hostPath/path")?.to_owned();
    let kind = text(volume, "/spec/hostPath/type").unwrap_or_default();
    let check = crate::translate::volume::host_path_check(kind)?;
    Some(Claim::Bound {
        path,
        check,
        plugin: ClaimPlugin::HostPath,
    })
}

pub(super) fn empty(kind: &str, name: String) -> ObjectData {
    ObjectData {
        v: VERSION,
        kind: kind.to_owned(),
        name,
        text: BTreeMap::new(),
        binary: BTreeMap::new(),
    }
}

fn text<'v>(object: &'v Value, pointer: &str) -> Option<&'v str> {
    object.pointer(pointer)?.as_str()
}

fn name(object: &Value) -> Option<String> {
    text(object, "/metadata/name")
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

fn members<'v>(object: &'v Value, field: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    object
        .get(field)
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
}

fn decoded(value: &Value) -> Option<Bytes> {
    Bytes::try_from(value.as_str()?.to_owned()).ok()
}

#[cfg(test)]
mod tests;
