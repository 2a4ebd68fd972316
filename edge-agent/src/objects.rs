//! The objects that manifests name, opened: config maps, and what only this device can decrypt.
//!
//! Bodies are in the agent's store and are read when they are needed: what is opened lives as long as its use. Nothing here is written to a
//! disk in clear.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_protocol::sealing::ContentKey;
use edge_protocol::v1::{KeyWrap, ObjectData, ObjectRef, SealedObject};
use edge_protocol::{Digest, SealingSecret};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

/// A handle to the object blobs of this device; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Objects(Arc<Mutex<Source>>);

#[derive(Debug)]
enum Source {
    /// The agent's store, by a connection that only reads, and what opens what is sealed to this device.
    Store(Connection, Arc<SealingSecret>),
    /// What was put, for uses without a store: config maps only.
    Memory(BTreeMap<Digest, String>),
}

impl Default for Source {
    fn default() -> Self {
        Self::Memory(BTreeMap::new())
    }
}

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
    /// The objects of the agent's store. It must have been opened before, which brings its schema up to date.
    ///
    /// # Errors
    /// What SQLite says when the file cannot be opened.
    pub fn stored(path: &Path, secret: Arc<SealingSecret>) -> Result<Self, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        // Each object is read once: nothing is gained by a cache.
        connection.execute_batch("PRAGMA cache_size = -64; PRAGMA busy_timeout = 1000;")?;
        Ok(Self(Arc::new(Mutex::new(Source::Store(connection, secret)))))
    }

    /// Holds an object that is in no store; objects of a store come with the machine's transactions.
    pub fn put(&self, digest: Digest, body: String) {
        if let Source::Memory(bodies) = &mut *self.source() {
            bodies.insert(digest, body);
        }
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
        let damaged = |why: String| ObjectError::Damaged {
            kind: kind.clone(),
            name: name.clone(),
            why,
        };
        let source = self.source();
        let body = source.body(digest).map_err(|error| damaged(error.to_string()))?;
        let Some(body) = body else {
            return Err(ObjectError::Absent { kind, name });
        };
        if Digest::of(&body) != *digest {
            return Err(damaged("its body is not what its digest says".to_owned()));
        }
        if !sealed {
            return serde_json::from_str(&body).map_err(|error| damaged(place(&error)));
        }
        let object: SealedObject = serde_json::from_str(&body).map_err(|error| damaged(place(&error)))?;
        match source.key(&object.key).map_err(&damaged)? {
            None => Err(ObjectError::NotSealed { kind, name }),
            Some(key) => object.open(&key).map_err(|error| damaged(error.to_string())),
        }
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        // What is kept there is replaced whole: a panic in between leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn body(&self, digest: &Digest) -> Result<Option<String>, rusqlite::Error> {
        match self {
            Self::Memory(bodies) => Ok(bodies.get(digest).cloned()),
            Self::Store(connection, _) => {
                text(connection, "SELECT body FROM object WHERE digest = ?1", digest)
            }
        }
    }

    /// The content key, if it was wrapped for this device.
    fn key(&self, digest: &Digest) -> Result<Option<ContentKey>, String> {
        let Self::Store(connection, secret) = self else {
            return Ok(None);
        };
        let wrap = text(connection, "SELECT wrap FROM key_wrap WHERE key = ?1", digest);
        let Some(wrap) = wrap.map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let wrap: KeyWrap = serde_json::from_str(&wrap).map_err(|error| error.to_string())?;
        wrap.open(secret).map(Some).map_err(|error| error.to_string())
    }
}

fn text(connection: &Connection, sql: &str, digest: &Digest) -> Result<Option<String>, rusqlite::Error> {
    connection
        .prepare_cached(sql)?
        .query_row([digest.to_string()], |row| row.get(0))
        .optional()
}

/// Where a document went wrong. The parser's own words may quote its content.
fn place(error: &serde_json::Error) -> String {
    format!("no object at line {}, column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use edge_agent_core::{Tx, Write};
    use edge_protocol::TxId;
    use edge_protocol::sealing::{RootSecret, SealingScope};
    use edge_protocol::v1::object::kind;
    use tokio::sync::mpsc;

    use super::*;
    use crate::store::Store;

    fn reference(digest: Digest, sealed: bool) -> ObjectRef {
        ObjectRef {
            kind: kind::CONFIG_MAP.to_owned(),
            name: "settings".to_owned(),
            digest,
            sealed,
        }
    }

    #[tokio::test]
    async fn objects_are_read_from_the_store_as_they_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        let store = Store::open(&path).unwrap();
        let device = Arc::new(SealingSecret::from_bytes([5; 32]));
        let objects = Objects::stored(&path, Arc::clone(&device)).unwrap();
        let (committed, mut done) = mpsc::channel(1);
        let (store, _writer) = store.start(committed);
        let body = r#"{"v":1,"kind":"ConfigMap","name":"settings","text":{"key":"value"}}"#;
        let digest = Digest::of(body);
        let absent = Err(ObjectError::Absent {
            kind: kind::CONFIG_MAP.to_owned(),
            name: "settings".to_owned(),
        });
        assert_eq!(objects.open(&reference(digest, false)), absent);
        let mut commit = async |write| {
            let tx = Tx {
                id: TxId(1),
                writes: vec![write],
            };
            store.commit(tx).await.unwrap();
            done.recv().await.unwrap().unwrap();
        };
        let body = body.to_owned();
        commit(Write::PutObject {
            digest,
            key: None,
            body,
        })
        .await;
        let data = objects.open(&reference(digest, false)).unwrap();
        assert_eq!(data.get("key"), Some(b"value".as_slice()));
        commit(Write::DropObject(digest)).await;
        assert_eq!(objects.open(&reference(digest, false)), absent);

        // A sealed one waits for its key, and opens with it.
        let root = RootSecret::from_bytes([9; 32]);
        let scope = SealingScope {
            cluster: "c".to_owned(),
            namespace: "default".to_owned(),
        };
        let sealed = root.seal(&scope, &data);
        let digest = Digest::of(&sealed.body);
        commit(Write::PutObject {
            digest,
            key: Some(sealed.key.digest()),
            body: sealed.body,
        })
        .await;
        let waits = objects.open(&reference(digest, true));
        assert!(matches!(waits, Err(ObjectError::NotSealed { .. })), "{waits:?}");
        let other = SealingSecret::from_bytes([6; 32]).public();
        commit(Write::PutKey(root.wrap(&sealed.key, &other))).await;
        let foreign = objects.open(&reference(digest, true)).unwrap_err();
        assert!(
            foreign.to_string().contains("sealed to another device"),
            "{foreign}"
        );
        commit(Write::PutKey(root.wrap(&sealed.key, &device.public()))).await;
        assert_eq!(objects.open(&reference(digest, true)).unwrap(), data);
    }

    #[test]
    fn what_is_not_the_object_is_not_quoted() {
        let objects = Objects::default();
        let body = r#"{"v":"hunter2"}"#.to_owned();
        let digest = Digest::of(&body);
        objects.put(digest, body);
        let error = objects.open(&reference(digest, false)).unwrap_err();
        assert!(matches!(error, ObjectError::Damaged { .. }), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        objects.put(Digest::of("other"), "x".to_owned());
        let error = objects.open(&reference(Digest::of("other"), false)).unwrap_err();
        assert!(error.to_string().contains("not what its digest says"), "{error}");
    }
}
