//! The agent's durable memory: SQLite in WAL mode with `synchronous=FULL`, on one thread of its own.
//!
//! Transactions that wait for the disk go there together, in order: one wait serves all of them.
//!
//! It maps [`Write`]s to rows and knows nothing of their meaning. A transaction is reported committed only after SQLite said so;
//! a failed one ends the process, because a store that cannot keep promises must not be asked for more.

mod checkpoint;
mod schema;

use std::path::{Path, PathBuf};
use std::thread;

use edge_agent_core::{Restored, TrustedSet, Tx, Write};
use edge_protocol::{Digest, TxId};
use rusqlite::{Connection, OptionalExtension as _, Params, params};
use tokio::sync::mpsc;

/// Transactions queued for the writer thread; the machine waits for commits, so more than a few are never open.
const QUEUE: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the store {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the store {path} is damaged: {finding}")]
    Damaged { path: PathBuf, finding: String },
    #[error("the store was written by a newer agent: schema {found}, this one knows {known}")]
    Newer { found: i64, known: i64 },
    #[error("the store failed while {doing}")]
    Failed {
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("a record of the store cannot be read: {what}")]
    Unreadable {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("the store's thread has ended")]
    Ended,
}

/// An open store, not yet running.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// For checkpoints.
    beside: Connection,
}

/// Hands transactions to the writer thread, in order.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    queue: mpsc::Sender<Tx>,
}

impl Store {
    /// Opens or creates the store, checks its integrity and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::Damaged`], [`StoreError::Newer`] or [`StoreError::Failed`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(open)?;
        schema::configure(&connection).map_err(open)?;
        let finding: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(open)?;
        if finding != "ok" {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                finding,
            });
        }
        schema::migrate(&connection)?;
        let beside = Connection::open(path).map_err(open)?;
        schema::configure_beside(&beside).map_err(open)?;
        Ok(Self { connection, beside })
    }

    /// Everything the store holds.
    ///
    /// # Errors
    /// [`StoreError::Failed`] or [`StoreError::Unreadable`].
    pub fn restore(&self) -> Result<Restored, StoreError> {
        let failed = |source| StoreError::Failed {
            doing: "reading",
            source,
        };
        let set: Option<String> = self
            .connection
            .query_row("SELECT document FROM trusted_set WHERE id = 1", [], |row| {
                row.get(0)
            })
            .optional()
            .map_err(failed)?;
        let set = set
            .map(|text| parse::<TrustedSet>("the trusted set", &text))
            .transpose()?;
        let pairs = |sql| -> Result<Vec<(String, String)>, StoreError> {
            let mut statement = self.connection.prepare(sql).map_err(failed)?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .map_err(failed)?;
            rows.collect::<Result<_, _>>().map_err(failed)
        };
        let blobs = pairs("SELECT digest, body FROM blob ORDER BY digest")?
            .into_iter()
            .map(|(digest, body)| Ok((parse("a blob's digest", &quoted(&digest))?, body)))
            .collect::<Result<_, StoreError>>()?;
        let workloads = pairs("SELECT uid, record FROM workload ORDER BY uid")?
            .into_iter()
            .map(|(uid, record)| Ok((parse("a workload's uid", &quoted(&uid))?, record)))
            .collect::<Result<_, StoreError>>()?;
        let events = pairs("SELECT seq || '', document FROM event ORDER BY seq")?
            .into_iter()
            .map(|(_, document)| parse("an event", &document))
            .collect::<Result<_, _>>()?;
        let meta = pairs("SELECT key, value FROM meta ORDER BY key")?;
        let objects = self.sound_objects()?;
        let keys = pairs("SELECT key, wrap FROM key_wrap ORDER BY key")?
            .into_iter()
            .map(|(_, wrap)| parse("a key", &wrap))
            .collect::<Result<_, _>>()?;
        Ok(Restored {
            set,
            blobs,
            objects,
            keys,
            workloads,
            events,
            meta,
        })
    }

    /// The objects whose bodies are what their digests say, read one at a time; the others are asked for again.
    fn sound_objects(&self) -> Result<Vec<(Digest, Option<Digest>)>, StoreError> {
        let failed = |source| StoreError::Failed {
            doing: "reading",
            source,
        };
        let sql = "SELECT digest, body, key FROM object ORDER BY digest";
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut sound = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let digest: String = row.get(0).map_err(failed)?;
            let body = row.get_ref(1).map_err(failed)?;
            let actual = body.as_bytes().map(Digest::of).ok();
            let key: Option<String> = row.get(2).map_err(failed)?;
            let key = key
                .map(|key| parse("an object's key", &quoted(&key)))
                .transpose()?;
            if let Some(actual) = actual.filter(|actual| actual.to_string() == digest) {
                sound.push((actual, key));
            }
        }
        Ok(sound)
    }

    /// Starts the writer thread. Commits are reported on `committed` in the order they were queued.
    ///
    /// The thread ends when every [`StoreHandle`] is gone; a transaction that fails is the last message, as an error.
    pub fn start(
        self,
        committed: mpsc::Sender<Result<TxId, StoreError>>,
    ) -> (StoreHandle, thread::JoinHandle<()>) {
        let (queue, mut transactions) = mpsc::channel::<Tx>(QUEUE);
        let mut connection = self.connection;
        let wrote = checkpoint::start(self.beside);
        let writer = thread::spawn(move || {
            while let Some(first) = transactions.blocking_recv() {
                let mut batch = vec![first];
                while let Ok(next) = transactions.try_recv() {
                    batch.push(next);
                }
                if let Err(error) = commit(&mut connection, &batch) {
                    // Whoever would hear it may have gone.
                    let _ = committed.blocking_send(Err(error));
                    return;
                }
                for tx in &batch {
                    if committed.blocking_send(Ok(tx.id)).is_err() {
                        return;
                    }
                }
                // A thread that ended of itself does nothing that is missed: SQLite has a bound of its own.
                let _ = wrote.send(batch.iter().map(|tx| tx.writes.len()).sum());
            }
        });
        (StoreHandle { queue }, writer)
    }
}

impl StoreHandle {
    /// Queues a transaction.
    ///
    /// # Errors
    /// [`StoreError::Ended`] when the writer thread is gone.
    pub async fn commit(&self, tx: Tx) -> Result<(), StoreError> {
        self.queue.send(tx).await.map_err(|_| StoreError::Ended)
    }
}

fn commit(connection: &mut Connection, batch: &[Tx]) -> Result<(), StoreError> {
    let failed = |source| StoreError::Failed {
        doing: "committing",
        source,
    };
    let transaction = connection.transaction().map_err(failed)?;
    for write in batch.iter().flat_map(|tx| &tx.writes) {
        apply(&transaction, write)?;
    }
    transaction.commit().map_err(failed)
}

fn apply(db: &Connection, write: &Write) -> Result<(), StoreError> {
    let done = match write {
        Write::Set(set) => {
            let document = encode("the trusted set", set)?;
            execute(
                db,
                "INSERT OR REPLACE INTO trusted_set (id, document) VALUES (1, ?1)",
                params![document],
            )
        }
        Write::PutBlob { digest, body } => execute(
            db,
            "INSERT OR REPLACE INTO blob (digest, body) VALUES (?1, ?2)",
            params![digest.to_string(), body],
        ),
        Write::DropBlob(digest) => execute(
            db,
            "DELETE FROM blob WHERE digest = ?1",
            params![digest.to_string()],
        ),
        Write::PutObject { digest, key, body } => execute(
            db,
            "INSERT OR REPLACE INTO object (digest, key, body) VALUES (?1, ?2, ?3)",
            params![digest.to_string(), key.map(|key| key.to_string()), body],
        ),
        Write::PutKey(wrap) => {
            let document = encode("a key", wrap)?;
            execute(
                db,
                "INSERT OR REPLACE INTO key_wrap (key, wrap) VALUES (?1, ?2)",
                params![wrap.key.to_string(), document],
            )
        }
        Write::DropKey(key) => execute(
            db,
            "DELETE FROM key_wrap WHERE key = ?1",
            params![key.to_string()],
        ),
        Write::DropObject(digest) => execute(
            db,
            "DELETE FROM object WHERE digest = ?1",
            params![digest.to_string()],
        ),
        Write::PutWorkload { uid, record } => execute(
            db,
            "INSERT OR REPLACE INTO workload (uid, record) VALUES (?1, ?2)",
            params![uid.as_str(), record],
        ),
        Write::DropWorkload(uid) => execute(db, "DELETE FROM workload WHERE uid = ?1", params![uid.as_str()]),
        Write::PutEvent(event) => {
            let seq = i64::try_from(event.seq).expect("a device does not live to write 2^63 events");
            let document = encode("an event", event)?;
            execute(
                db,
                "INSERT OR REPLACE INTO event (seq, document) VALUES (?1, ?2)",
                params![seq, document],
            )
        }
        Write::DropEventsUpTo(seq) => execute(
            db,
            "DELETE FROM event WHERE seq <= ?1",
            params![i64::try_from(*seq).unwrap_or(i64::MAX)],
        ),
        Write::PutMeta { key, value } => execute(
            db,
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)",
            params![key, value],
        ),
    };
    done.map(drop).map_err(|source| StoreError::Failed {
        doing: "writing",
        source,
    })
}

/// Statements are prepared once per life of the process.
fn execute(db: &Connection, sql: &str, parameters: impl Params) -> Result<usize, rusqlite::Error> {
    db.prepare_cached(sql)?.execute(parameters)
}

fn parse<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Unreadable { what, source })
}

fn encode<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Unreadable { what, source })
}

/// An id column as the JSON string that its type parses from.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
