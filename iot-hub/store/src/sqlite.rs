//! SQLite: one connection that writes, a few that read; WAL with `synchronous=FULL`.
//!
//! * `schema`: migrations, applied once each, in one transaction.
//! * `machine`: the machine's rows, both ways; `batch`: how many of them are written at once.
//! * `log`: the revisioned log, events and audit; `compact` forgets the oldest of them.
//! * `tokens`: API tokens, enrolment tokens and enrolments.

mod batch;
mod compact;
mod log;
mod machine;
mod schema;
mod tokens;

use std::path::Path;
use std::time::Duration;

use edge_protocol::v1::DeviceEvent;
use edge_protocol::{DeviceId, EnrolmentSerial};
use iot_hub_core::Restored;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

use crate::error::StoreError;
use crate::records::{
    ApiTokenRecord, AuditRecord, Claim, Claimed, EnrolmentRecord, EnrolmentTokenRecord, EventQuery, Job,
    LogEntry, LogPage,
};
use crate::store::HubStore;

use batch::Batch;

/// How long one try to write waits for another process (the command line, for one) that writes at the moment.
const BUSY: Duration = Duration::from_secs(1);
/// Tries until a writer that does not let go is an error.
const ATTEMPTS: u32 = 60;
const READERS: u32 = 4;

/// A store in one SQLite file. Clones share its connections.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, creates it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`] if it cannot be opened or migrated, [`StoreError::NewerSchema`] if a newer program wrote it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let pool = |size: u32| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .idle_timeout(None)
                .max_lifetime(None)
                // A file does not hang up.
                .test_before_acquire(false)
        };
        let writer = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        schema::migrate(&writer, path).await?;
        let reader = pool(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(failed)?;
        Ok(Self { writer, reader })
    }

    /// Waits for running operations, then closes all connections.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// A transaction that holds the write lock from its beginning, so that what it reads cannot change before it writes.
    /// Waiting for it is safe to repeat: nothing was written yet.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        let mut attempts = 1;
        loop {
            match self.writer.begin_with("BEGIN IMMEDIATE").await {
                Err(error) if attempts < ATTEMPTS && is_taken(&error) => attempts += 1,
                done => return done.map_err(StoreError::sql("begin")),
            }
        }
    }
}

/// Whether someone else writes at the moment: another process, or another task of this one.
fn is_taken(error: &sqlx::Error) -> bool {
    // SQLITE_BUSY is the primary code, the low byte, of all its kinds (sqlite.org/rescode.html).
    let busy = |code: &str| code.parse::<u32>().is_ok_and(|code| code & 0xff == 5);
    match error {
        sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| busy(&code)),
        _ => false,
    }
}

async fn end(tx: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
    tx.commit().await.map_err(StoreError::sql("commit"))
}

/// A count as SQL holds it.
fn signed(what: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::OutOfRange { what, value })
}

impl HubStore for SqliteStore {
    async fn load(&self) -> Result<Restored, StoreError> {
        machine::load(&self.reader).await
    }

    async fn commit(&self, jobs: Vec<Job>) -> Result<Vec<Vec<LogEntry>>, StoreError> {
        let mut tx = self.begin().await?;
        let mut revision = log::head(&mut *tx).await?;
        let mut entries = Vec::with_capacity(jobs.len());
        let mut batch = Batch::default();
        for job in jobs {
            for write in &job.tx.writes {
                machine::put(&mut batch, write)?;
                if batch.is_full() {
                    batch.execute(&mut tx).await?;
                }
            }
            entries.push(log::append(&mut batch, &mut revision, job.at_ms, job.tx.changes)?);
            if let Some(cause) = &job.cause {
                log::append_audit(&mut batch, cause);
            }
        }
        batch.execute(&mut tx).await?;
        end(tx).await?;
        Ok(entries)
    }

    async fn head(&self) -> Result<u64, StoreError> {
        log::head(&self.reader).await
    }

    async fn log_after(&self, revision: u64, limit: u32) -> Result<LogPage, StoreError> {
        log::after(&self.reader, revision, limit).await
    }

    async fn compact(&self, keep_log: u64, keep_events: u64) -> Result<(), StoreError> {
        compact::compact(self, keep_log, keep_events).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<(DeviceId, DeviceEvent)>, StoreError> {
        log::events(&self.reader, query).await
    }

    async fn event(&self, device: &DeviceId, seq: u64) -> Result<Option<DeviceEvent>, StoreError> {
        log::event(&self.reader, device, seq).await
    }

    async fn put_api_token(&self, token: &ApiTokenRecord) -> Result<(), StoreError> {
        tokens::put_api_token(&self.writer, token).await
    }

    async fn api_token(&self, id: &str) -> Result<Option<ApiTokenRecord>, StoreError> {
        tokens::api_token(&self.reader, id).await
    }

    async fn put_enrolment_token(&self, token: &EnrolmentTokenRecord) -> Result<(), StoreError> {
        tokens::put_enrolment_token(&self.writer, token).await
    }

    async fn enrolment_token(&self, id: &str) -> Result<Option<EnrolmentTokenRecord>, StoreError> {
        tokens::enrolment_token(&self.reader, id).await
    }

    async fn enrolment_tokens(&self) -> Result<Vec<EnrolmentTokenRecord>, StoreError> {
        tokens::enrolment_tokens(&self.reader).await
    }

    async fn drop_enrolment_token(&self, id: &str) -> Result<bool, StoreError> {
        tokens::drop_enrolment_token(&self.writer, id).await
    }

    async fn enrolment(
        &self,
        token: &str,
        key_fingerprint: &str,
    ) -> Result<Option<EnrolmentRecord>, StoreError> {
        tokens::enrolment(&self.reader, token, key_fingerprint).await
    }

    async fn device_enrolment(
        &self,
        device: &DeviceId,
        serial: &EnrolmentSerial,
    ) -> Result<Option<EnrolmentRecord>, StoreError> {
        tokens::device_enrolment(&self.reader, device, serial).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let mut tx = self.begin().await?;
        let claimed = tokens::claim(&mut tx, claim).await?;
        end(tx).await?;
        Ok(claimed)
    }

    async fn unclaim(&self, token: &str, key_fingerprint: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tokens::unclaim(&mut tx, token, key_fingerprint).await?;
        end(tx).await
    }

    async fn put_audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::default();
        log::append_audit(&mut batch, record);
        batch.execute(&mut tx).await?;
        end(tx).await
    }

    async fn audit(&self, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        log::audit(&self.reader, limit).await
    }
}
