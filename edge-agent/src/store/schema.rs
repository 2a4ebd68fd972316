//! The tables, and how an older file becomes a present one.

use rusqlite::Connection;

use super::StoreError;

/// Migrations in order; the file's `user_version` counts those applied. Append-only.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE trusted_set (id INTEGER PRIMARY KEY CHECK (id = 1), document TEXT NOT NULL) STRICT;
    CREATE TABLE blob (digest TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE workload (uid TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE event (seq INTEGER PRIMARY KEY, document TEXT NOT NULL) STRICT;
",
    "CREATE TABLE object (digest TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;",
    "ALTER TABLE object ADD COLUMN key TEXT;
    CREATE TABLE key_wrap (key TEXT PRIMARY KEY, wrap TEXT NOT NULL) STRICT, WITHOUT ROWID;",
];

/// `synchronous=FULL`: what was acknowledged survives a power cut. The small cache keeps the agent small. Checkpoints are made beside the
/// writer; should they fall behind, its own bound is 4 MiB.
pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 1024;
         PRAGMA cache_size = -512;",
    )
}

/// As [`configure`], of a connection that makes checkpoints and nothing else.
pub(super) fn configure_beside(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA cache_size = 0;",
    )
}

pub(super) fn migrate(connection: &Connection) -> Result<(), StoreError> {
    let failed = |source| StoreError::Failed {
        doing: "migrating",
        source,
    };
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    let known = i64::try_from(MIGRATIONS.len()).expect("there are few migrations");
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (version, migration) in (1..).zip(MIGRATIONS).skip(done) {
        let sql = format!("BEGIN; {migration} PRAGMA user_version = {version}; COMMIT;");
        connection.execute_batch(&sql).map_err(failed)?;
    }
    Ok(())
}
