//! The machine's rows: writes in, a [`Restored`] out.

use edge_protocol::{DeviceId, Digest, Incarnation};
use iot_hub_core::{Restored, Write};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{SqliteConnection, SqlitePool};

use super::batch::Batch;
use super::signed;
use crate::error::StoreError;

const INCARNATION: &str = "incarnation";

/// Adds one write of the machine.
pub(super) fn put(batch: &mut Batch, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::Incarnation(incarnation) => batch
            .add("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
            .bind(INCARNATION)
            .bind(signed(INCARNATION, incarnation.0)?),
        Write::PutDevice(record) => batch
            .add("INSERT INTO device (id, record) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record")
            .bind(record.id.to_string())
            .bind(json(record)),
        Write::PutDeployment(record) => batch
            .add("INSERT INTO deployment (uid, record) VALUES (?, ?) ON CONFLICT (uid) DO UPDATE SET record = excluded.record")
            .bind(record.spec.uid.to_string())
            .bind(json(record)),
        Write::DropDeployment(uid) => batch.add("DELETE FROM deployment WHERE uid = ?").bind(uid.to_string()),
        Write::PutDeviceSet { device, set } => batch
            .add("INSERT INTO device_set (device, record) VALUES (?, ?) ON CONFLICT (device) DO UPDATE SET record = excluded.record")
            .bind(device.to_string())
            .bind(json(set)),
        Write::PutAssignment(record) => batch
            .add(
                "INSERT INTO assignment (uid, device, record) VALUES (?, ?, ?)
                 ON CONFLICT (uid, device) DO UPDATE SET record = excluded.record",
            )
            .bind(record.uid.to_string())
            .bind(record.device.to_string())
            .bind(json(record)),
        Write::DropAssignment { uid, device } => batch
            .add("DELETE FROM assignment WHERE uid = ? AND device = ?")
            .bind(uid.to_string())
            .bind(device.to_string()),
        Write::PutBlob { digest, body } => batch
            .add("INSERT INTO blob (digest, body) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING")
            .bind(digest.to_string())
            .bind(body.clone()),
        Write::DropBlob(digest) => batch.add("DELETE FROM blob WHERE digest = ?").bind(digest.to_string()),
        Write::PutKeyWrap(wrap) => batch
            .add("INSERT INTO key_wrap (key, sealing_key, record) VALUES (?, ?, ?) ON CONFLICT (key, sealing_key) DO UPDATE SET record = excluded.record")
            .bind(wrap.key.to_string())
            .bind(wrap.sealing_key.to_string())
            .bind(json(wrap)),
        Write::DropKeyWrap { key, sealing_key } => batch
            .add("DELETE FROM key_wrap WHERE key = ? AND sealing_key = ?")
            .bind(key.to_string())
            .bind(sealing_key.to_string()),
        // A device repeats events until they are acknowledged.
        Write::PutEvent { device, event } => batch
            .add("INSERT INTO device_event (device, seq, uid, at_ms, event) VALUES (?, ?, ?, ?, ?) ON CONFLICT (device, seq) DO NOTHING")
            .bind(device.to_string())
            .bind(signed("event sequence", event.seq)?)
            .bind(event.uid.to_string())
            .bind(event.at.wall_ms)
            .bind(json(event)),
    };
    Ok(())
}

pub(super) async fn load(pool: &SqlitePool) -> Result<Restored, StoreError> {
    // One read transaction: all tables as of one moment.
    let mut tx = pool.begin().await.map_err(StoreError::sql("load"))?;
    let incarnation: Option<i64> = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
        .bind(INCARNATION)
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::sql("load incarnation"))?;
    let incarnation = incarnation
        .map(|value| {
            u64::try_from(value)
                .map(Incarnation)
                .map_err(StoreError::damaged("meta", INCARNATION))
        })
        .transpose()?;
    let devices = rows("device", &mut tx, "SELECT id, record FROM device ORDER BY id").await?;
    let deployments = rows(
        "deployment",
        &mut tx,
        "SELECT uid, record FROM deployment ORDER BY uid",
    )
    .await?;
    let sets = rows(
        "device_set",
        &mut tx,
        "SELECT device, record FROM device_set ORDER BY device",
    )
    .await?;
    let assignments = rows(
        "assignment",
        &mut tx,
        "SELECT uid, record FROM assignment ORDER BY uid, device",
    )
    .await?;
    let blobs = texts("blob", &mut tx, "SELECT digest, body FROM blob ORDER BY digest").await?;
    let sql = "SELECT key, record FROM key_wrap ORDER BY key, sealing_key";
    let key_wraps = rows("key_wrap", &mut tx, sql).await?;
    Ok(Restored {
        key_wraps: key_wraps.into_iter().map(|(_, record)| record).collect(),
        incarnation,
        devices: devices.into_iter().map(|(_, record)| record).collect(),
        deployments: deployments.into_iter().map(|(_, record)| record).collect(),
        sets: keyed("device_set", sets, DeviceId::new)?,
        assignments: assignments.into_iter().map(|(_, record)| record).collect(),
        blobs: keyed("blob", blobs, |digest| digest.parse::<Digest>())?,
    })
}

async fn texts(
    table: &'static str,
    connection: &mut SqliteConnection,
    sql: &'static str,
) -> Result<Vec<(String, String)>, StoreError> {
    sqlx::query_as(sql)
        .fetch_all(connection)
        .await
        .map_err(StoreError::sql(table))
}

async fn rows<T: DeserializeOwned>(
    table: &'static str,
    connection: &mut SqliteConnection,
    sql: &'static str,
) -> Result<Vec<(String, T)>, StoreError> {
    let texts = texts(table, connection, sql).await?;
    let parse = |(key, text): (String, String)| match serde_json::from_str(&text) {
        Ok(record) => Ok((key, record)),
        Err(error) => Err(StoreError::damaged(table, key)(error)),
    };
    texts.into_iter().map(parse).collect()
}

fn keyed<K, T, E>(
    table: &'static str,
    rows: Vec<(String, T)>,
    key: impl Fn(String) -> Result<K, E>,
) -> Result<Vec<(K, T)>, StoreError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    rows.into_iter()
        .map(|(text, record)| match key(text.clone()) {
            Ok(key) => Ok((key, record)),
            Err(error) => Err(StoreError::damaged(table, text)(error)),
        })
        .collect()
}

/// A record as JSON; records have only string keys.
pub(super) fn json(record: &impl Serialize) -> String {
    serde_json::to_string(record).expect("records have only string keys")
}
