//! The revisioned log, device events, audit.

use edge_protocol::DeviceId;
use edge_protocol::v1::DeviceEvent;
use iot_hub_core::Change;
use sqlx::{Executor, Sqlite, SqliteConnection, SqlitePool};

use super::batch::Batch;
use super::machine::json;
use super::signed;
use crate::error::StoreError;
use crate::records::{AuditRecord, EventQuery, LogEntry, LogPage};

/// Entries up to here are compacted away.
const FLOOR: &str = "log-floor";

fn unsigned(table: &'static str, value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(StoreError::damaged(table, value.to_string()))
}

pub(super) async fn head<'c>(executor: impl Executor<'c, Database = Sqlite>) -> Result<u64, StoreError> {
    let head: i64 = sqlx::query_scalar(
        "SELECT COALESCE((SELECT MAX(revision) FROM log), (SELECT value FROM meta WHERE key = $1), 0)",
    )
    .bind(FLOOR)
    .fetch_one(executor)
    .await
    .map_err(StoreError::sql("read the log's head"))?;
    unsigned("log", head)
}

async fn floor(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let floor: Option<i64> = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
        .bind(FLOOR)
        .fetch_optional(connection)
        .await
        .map_err(StoreError::sql("read the log's floor"))?;
    unsigned("meta", floor.unwrap_or(0))
}

/// Adds the changes of one transaction and says which numbers they got.
pub(super) fn append(
    batch: &mut Batch,
    revision: &mut u64,
    at_ms: i64,
    changes: Vec<Change>,
) -> Result<Vec<LogEntry>, StoreError> {
    let mut entries = Vec::with_capacity(changes.len());
    for change in changes {
        *revision += 1;
        batch
            .add("INSERT INTO log (revision, at_ms, change) VALUES (?, ?, ?)")
            .bind(signed("revision", *revision)?)
            .bind(at_ms)
            .bind(json(&change));
        entries.push(LogEntry {
            revision: *revision,
            at_ms,
            change,
        });
    }
    Ok(entries)
}

pub(super) async fn after(pool: &SqlitePool, revision: u64, limit: u32) -> Result<LogPage, StoreError> {
    // One statement, so that a compaction cannot come between floor, head and the rows. The first row is floor and head.
    // SQLite takes a bare parameter of LIMIT for a constant and prepares the statement anew each time that it is bound; a sum it does not.
    let mut rows: Vec<(bool, i64, i64, String)> = sqlx::query_as(
        "WITH held (floor) AS (SELECT (SELECT value FROM meta WHERE key = $1))
         SELECT 0 AS entry, COALESCE(floor, 0) AS revision, COALESCE((SELECT MAX(revision) FROM log), floor, 0) AS at_ms, '' AS change
         FROM held
         UNION ALL
         SELECT 1, revision, at_ms, change
         FROM (SELECT revision, at_ms, change FROM log WHERE revision > $2 ORDER BY revision LIMIT $3 + 0)
         ORDER BY entry, revision",
    )
    .bind(FLOOR)
    .bind(signed("revision", revision)?)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(StoreError::sql("read the log"))?;
    let entries = rows.split_off(1);
    let bounds = rows.first().map(|(_, floor, head, _)| (*floor, *head));
    let (floor, head) = bounds.expect("the statement's first half always gives one row");
    if revision > unsigned("log", head)? || revision < unsigned("meta", floor)? {
        return Ok(LogPage::Unknown);
    }
    let entry = |(_, revision, at_ms, change): (bool, i64, i64, String)| {
        Ok(LogEntry {
            revision: unsigned("log", revision)?,
            at_ms,
            change: serde_json::from_str(&change)
                .map_err(StoreError::damaged("log", revision.to_string()))?,
        })
    };
    entries
        .into_iter()
        .map(entry)
        .collect::<Result<_, _>>()
        .map(LogPage::Entries)
}

/// Raises the floor so that at most this many entries are above it; the floor there is then.
pub(super) async fn raise_floor(connection: &mut SqliteConnection, keep: u64) -> Result<i64, StoreError> {
    let held = floor(&mut *connection).await?;
    let target = head(&mut *connection).await?.saturating_sub(keep).max(held);
    let floor = signed("revision", target)?;
    if target > held {
        sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
            .bind(FLOOR)
            .bind(floor)
            .execute(connection)
            .await
            .map_err(StoreError::sql("raise the log's floor"))?;
    }
    Ok(floor)
}

pub(super) async fn events(
    pool: &SqlitePool,
    query: &EventQuery,
) -> Result<Vec<(DeviceId, DeviceEvent)>, StoreError> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT device, event FROM device_event
         WHERE ($1 IS NULL OR device IN (SELECT value FROM json_each($1))) AND ($2 IS NULL OR uid = $2)
         ORDER BY at_ms DESC, device, seq DESC LIMIT $3",
    )
    .bind(query.devices.as_ref().map(json))
    .bind(query.uid.as_ref().map(ToString::to_string))
    .bind(i64::from(query.limit))
    .fetch_all(pool)
    .await
    .map_err(StoreError::sql("read events"))?;
    let record = |(device, event): (String, String)| {
        let event =
            serde_json::from_str(&event).map_err(StoreError::damaged("device_event", device.clone()))?;
        let id = DeviceId::new(device.clone()).map_err(StoreError::damaged("device_event", device))?;
        Ok((id, event))
    };
    rows.into_iter().map(record).collect()
}

pub(super) async fn event(
    pool: &SqlitePool,
    device: &DeviceId,
    seq: u64,
) -> Result<Option<DeviceEvent>, StoreError> {
    let text: Option<String> =
        sqlx::query_scalar("SELECT event FROM device_event WHERE device = $1 AND seq = $2")
            .bind(device.to_string())
            .bind(signed("event sequence", seq)?)
            .fetch_optional(pool)
            .await
            .map_err(StoreError::sql("read an event"))?;
    text.map(|text| {
        serde_json::from_str(&text).map_err(StoreError::damaged("device_event", device.to_string()))
    })
    .transpose()
}

pub(super) fn append_audit(batch: &mut Batch, record: &AuditRecord) {
    batch
        .add(
            "INSERT INTO audit (id, at_ms, principal, action, subject)
             VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM audit), ?, ?, ?, ?)",
        )
        .bind(record.at_ms)
        .bind(record.principal.clone())
        .bind(record.action.clone())
        .bind(record.subject.clone());
}

pub(super) async fn audit(pool: &SqlitePool, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
    let rows: Vec<(i64, i64, String, String, String)> =
        sqlx::query_as("SELECT id, at_ms, principal, action, subject FROM audit ORDER BY id DESC LIMIT $1")
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await
            .map_err(StoreError::sql("read audit"))?;
    let record = |(id, at_ms, principal, action, subject)| {
        Ok(AuditRecord {
            id: unsigned("audit", id)?,
            at_ms,
            principal,
            action,
            subject,
        })
    };
    rows.into_iter().map(record).collect()
}
