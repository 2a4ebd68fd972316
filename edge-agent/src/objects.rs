//! The objects that manifests name, opened: config maps, and what only this device can decrypt.
//!
//! What is opened lives as long as its use. Nothing here is written to a disk in clear.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_protocol::Digest;
use edge_protocol::v1::{ObjectData, ObjectRef};

/// A handle to the object blobs of this device; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Objects(Arc<Mutex<BTreeMap<Digest, String>>>);

/// Why an object cannot be read now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Its blob has not come yet.
    #[error("{kind} {name:?} has not arrived on the device yet")]
    Absent { kind: String, name: String },
    /// It is sealed, and its content key for this device has not come yet.
    #[error("{kind} {name:?} waits for its key: nobody sealed it to this device yet")]
    NotSealed { kind: String, name: String },
    #[error("{kind} {name:?} cannot be read: {why}")]
    Damaged { kind: String, name: String, why: String },
}

impl Objects {
    pub fn put(&self, digest: Digest, body: String) {
        self.bodies().insert(digest, body);
    }

    pub fn forget(&self, digest: &Digest) {
        self.bodies().remove(digest);
    }

    /// The object in clear.
    ///
    /// # Errors
    /// [`ObjectError`]; only `Damaged` does not heal by waiting.
    pub fn open(&self, reference: &ObjectRef) -> Result<ObjectData, ObjectError> {
        let ObjectRef {
            kind,
            name,
            digest,
            sealed,
        } = reference;
        let (kind, name) = (kind.clone(), name.clone());
        let bodies = self.bodies();
        let Some(body) = bodies.get(digest) else {
            return Err(ObjectError::Absent { kind, name });
        };
        if *sealed {
            return Err(ObjectError::NotSealed { kind, name });
        }
        serde_json::from_str(body).map_err(|error| ObjectError::Damaged {
            kind,
            name,
            why: error.to_string(),
        })
    }

    fn bodies(&self) -> MutexGuard<'_, BTreeMap<Digest, String>> {
        // What is kept there is replaced whole: a panic in between leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
