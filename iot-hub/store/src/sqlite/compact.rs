//! Compaction in small transactions, so that a commit waits for one of them at most, never for the whole of it.

use sqlx::SqlitePool;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};

use super::{SqliteStore, end, log, signed};
use crate::error::StoreError;

/// Rows that one transaction removes: a few milliseconds of the one connection that writes.
const BATCH: u32 = 1_000;

/// Forgets all but the newest log entries, and all but the newest events of each device. Cut off anywhere, the next one goes on.
pub(super) async fn compact(store: &SqliteStore, keep_log: u64, keep_events: u64) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    // The floor first: no reader counts on an entry that is about to go.
    let floor = log::raise_floor(&mut tx, keep_log).await?;
    end(tx).await?;
    let entries = || {
        sqlx::query(
            "DELETE FROM log WHERE revision IN
             (SELECT revision FROM log WHERE revision <= $1 ORDER BY revision LIMIT $2)",
        )
        .bind(floor)
        .bind(BATCH)
    };
    in_batches(store, "compact the log", entries).await?;

    let keep = signed("events kept", keep_events)?;
    let mut last = String::new();
    while let Some(device) = device_after(&store.reader, &last).await? {
        if let Some(upto) = surplus(&store.reader, &device, keep).await? {
            let events = || {
                sqlx::query(
                    "DELETE FROM device_event WHERE device = $1 AND seq IN
                     (SELECT seq FROM device_event WHERE device = $1 AND seq <= $2 ORDER BY seq LIMIT $3)",
                )
                .bind(device.clone())
                .bind(upto)
                .bind(BATCH)
            };
            in_batches(store, "compact events", events).await?;
        }
        last = device;
    }
    Ok(())
}

/// Repeats a bounded removal until it finds less than its bound.
async fn in_batches(
    store: &SqliteStore,
    operation: &'static str,
    removal: impl Fn() -> Query<'static, Sqlite, SqliteArguments>,
) -> Result<(), StoreError> {
    loop {
        let mut tx = store.begin().await?;
        let done = removal().execute(&mut *tx).await;
        let removed = done.map_err(StoreError::sql(operation))?.rows_affected();
        end(tx).await?;
        if removed < u64::from(BATCH) {
            return Ok(());
        }
    }
}

/// The next device with events: one step in the index, whatever the number of events.
async fn device_after(pool: &SqlitePool, device: &str) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar("SELECT MIN(device) FROM device_event WHERE device > $1")
        .bind(device.to_owned())
        .fetch_one(pool)
        .await
        .map_err(StoreError::sql("find devices with events"))
}

/// Up to which event a device's history is to go, if any of it is to.
async fn surplus(pool: &SqlitePool, device: &str, keep: i64) -> Result<Option<i64>, StoreError> {
    let ends: (i64, i64) = sqlx::query_as(
        "SELECT COALESCE((SELECT MIN(seq) FROM device_event WHERE device = $1), 0),
                COALESCE((SELECT MAX(seq) FROM device_event WHERE device = $1), 0)",
    )
    .bind(device.to_owned())
    .fetch_one(pool)
    .await
    .map_err(StoreError::sql("measure a device's events"))?;
    let upto = ends.1.saturating_sub(keep);
    Ok((ends.0 <= upto).then_some(upto))
}
