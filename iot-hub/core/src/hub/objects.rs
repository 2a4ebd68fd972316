//! The objects beside a deployment's manifest: taken with its put, kept as long as a deployment names them, given to its devices only.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::object::kind;
use edge_protocol::v1::{Blob, ObjectData, ObjectRef, SealedObject, VERSION};
use edge_protocol::{Digest, ItemState, PodUid, SetItem};

use super::{Hub, Turn};
use crate::fleet::{Deployment, Outline};
use crate::io::CallError;

/// Bodies of objects by their digest.
pub(super) type Bodies = BTreeMap<Digest, String>;

impl Hub {
    /// The bodies that came, if with those that the deployment has already they are all that its manifest names, each what it is said to be.
    ///
    /// What only other deployments have must come along all the same: whoever knows but the digest of an object has no right to its content.
    pub(super) fn check_objects(
        &self,
        uid: &PodUid,
        outline: &Outline,
        came: Vec<Blob>,
    ) -> Result<Bodies, CallError> {
        let limits = &self.config.limits;
        let came: Bodies = came.into_iter().map(|blob| (blob.digest, blob.body)).collect();
        let held = self.fleet.get(uid).map(Deployment::objects).unwrap_or_default();
        let mut sizes = BTreeMap::new();
        for object in &outline.objects {
            let digest = &object.digest;
            let own = || held.contains(digest).then(|| self.blobs.get(digest)).flatten();
            let body = came.get(digest).map(String::as_str).or_else(own);
            let checked = match body {
                None => Err("its body is missing".to_owned()),
                Some(body) if body.len() > limits.object_bytes => {
                    Err(format!("{} bytes exceed {}", body.len(), limits.object_bytes))
                }
                Some(body) => check(object, body).map(|()| body.len()),
            };
            let bad = |why| CallError::BadObject {
                kind: object.kind.clone(),
                name: object.name.clone(),
                why,
            };
            sizes.insert(*digest, checked.map_err(bad)?);
        }
        if let Some(stray) = came.keys().find(|digest| !sizes.contains_key(digest)) {
            return Err(CallError::BadManifest(format!(
                "{stray} came along, which it does not name"
            )));
        }
        let limit = limits.deployment_object_bytes;
        if sizes.values().sum::<usize>() > limit {
            return Err(CallError::LimitReached {
                what: "bytes of objects in a deployment",
                limit,
            });
        }
        let new = came.iter().filter(|(digest, _)| self.blobs.get(digest).is_none());
        let new: usize = new.map(|(_, body)| body.len()).sum();
        if new > 0 && self.blobs.bytes().saturating_add(new) > limits.objects_bytes {
            return Err(CallError::LimitReached {
                what: "bytes of blobs",
                limit: limits.objects_bytes,
            });
        }
        Ok(came)
    }

    /// One more holder of all that the deployment names; what did not come along is held already.
    pub(super) fn hold_blobs(&mut self, turn: &mut Turn, deployment: &mut Deployment, came: &Bodies) {
        let record = &deployment.record;
        self.blobs.hold(record.manifest, &record.spec.manifest);
        for object in deployment.objects() {
            match came.get(&object) {
                Some(body) => self.blobs.hold(object, body),
                None => self.blobs.hold_stored(&object),
            }
        }
        turn.blobs.extend(deployment.blobs());
        let sealed = deployment.outline.objects.iter().filter(|object| object.sealed);
        let bodies = sealed.filter_map(|object| self.blobs.get(&object.digest));
        deployment.keys = bodies.filter_map(SealedObject::key_of).collect();
        self.keys.name(&deployment.record.spec.uid, &deployment.keys);
    }

    pub(super) fn release_blobs(&mut self, turn: &mut Turn, blobs: BTreeSet<Digest>) {
        for blob in &blobs {
            self.blobs.release(blob);
        }
        turn.blobs.extend(blobs);
    }

    /// The objects of an item's manifest, less those that the device has if it holds the manifest `held`.
    pub(super) fn objects_beyond(&self, item: &SetItem, held: Option<Digest>) -> BTreeSet<Digest> {
        let present = |deployment: &&Deployment| deployment.record.manifest == item.digest;
        match self.fleet.get(&item.uid).filter(present) {
            Some(deployment) if item.state != ItemState::Stop => deployment.objects_beyond(held),
            _ => BTreeSet::new(),
        }
    }
}

/// Whether the body is the object that the manifest says it is.
fn check(object: &ObjectRef, body: &str) -> Result<(), String> {
    if Digest::of(body) != object.digest {
        return Err("its body does not have its digest".to_owned());
    }
    if kind::is_secret(&object.kind) && !object.sealed {
        return Err("it is not sealed".to_owned());
    }
    // Where it went wrong, not the parser's words: they quote the content.
    let unreadable = |error: serde_json::Error| {
        let what = if object.sealed { "sealed object" } else { "object" };
        format!(
            "its body is no {what} (line {}, column {})",
            error.line(),
            error.column()
        )
    };
    let (v, kind, name) = if object.sealed {
        let SealedObject { v, kind, name, .. } = serde_json::from_str(body).map_err(unreadable)?;
        (v, kind, name)
    } else {
        let ObjectData { v, kind, name, .. } = serde_json::from_str(body).map_err(unreadable)?;
        (v, kind, name)
    };
    if v != VERSION {
        return Err(format!("version {v} of its body is not {VERSION}"));
    }
    if (&kind, &name) != (&object.kind, &object.name) {
        return Err(format!("its body is {kind} {name:?}"));
    }
    Ok(())
}
