//! API tokens, enrolment tokens and enrolments.

use edge_protocol::{DeviceId, EnrolmentSerial, SealingKey};
use sqlx::{Executor, Row as _, Sqlite, SqliteConnection, SqlitePool, sqlite::SqliteRow};

use super::machine::json;
use crate::error::StoreError;
use crate::records::{ApiTokenRecord, Claim, Claimed, EnrolmentRecord, EnrolmentTokenRecord};
use crate::secret::SecretHash;

pub(super) async fn put_api_token(pool: &SqlitePool, token: &ApiTokenRecord) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO api_token (id, hash, principal, scope, created_ms) VALUES ($1, $2, $3, $4, $5)")
        .bind(token.id.clone())
        .bind(token.hash.column())
        .bind(token.principal.clone())
        .bind(token.scope.clone())
        .bind(token.created_ms)
        .execute(pool)
        .await
        .map(|_| ())
        .map_err(StoreError::sql("write an API token"))
}

pub(super) async fn api_token(pool: &SqlitePool, id: &str) -> Result<Option<ApiTokenRecord>, StoreError> {
    let row: Option<(String, String, String, i64)> =
        sqlx::query_as("SELECT hash, principal, scope, created_ms FROM api_token WHERE id = $1")
            .bind(id.to_owned())
            .fetch_optional(pool)
            .await
            .map_err(StoreError::sql("read an API token"))?;
    row.map(|(hash, principal, scope, created_ms)| {
        let hash = SecretHash::from_column(&hash).map_err(StoreError::damaged("api_token", id))?;
        Ok(ApiTokenRecord {
            id: id.to_owned(),
            hash,
            principal,
            scope,
            created_ms,
        })
    })
    .transpose()
}

pub(super) async fn put_enrolment_token(
    pool: &SqlitePool,
    token: &EnrolmentTokenRecord,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO enrolment_token (id, hash, device_group, tags, link, uses, used, expires_ms, device)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(token.id.clone())
    .bind(token.hash.column())
    .bind(token.group.clone())
    .bind(json(&token.tags))
    .bind(json(&token.link))
    .bind(i64::from(token.uses))
    .bind(i64::from(token.used))
    .bind(token.expires_ms)
    .bind(token.device.as_ref().map(DeviceId::to_string))
    .execute(pool)
    .await
    .map(|_| ())
    .map_err(StoreError::sql("write an enrolment token"))
}

pub(super) async fn enrolment_token(
    pool: &SqlitePool,
    id: &str,
) -> Result<Option<EnrolmentTokenRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM enrolment_token WHERE id = $1")
        .bind(id.to_owned())
        .fetch_optional(pool)
        .await
        .map_err(StoreError::sql("read an enrolment token"))?;
    row.as_ref().map(token_of).transpose()
}

pub(super) async fn enrolment_tokens(pool: &SqlitePool) -> Result<Vec<EnrolmentTokenRecord>, StoreError> {
    let rows = sqlx::query("SELECT * FROM enrolment_token ORDER BY expires_ms, id")
        .fetch_all(pool)
        .await
        .map_err(StoreError::sql("read enrolment tokens"))?;
    rows.iter().map(token_of).collect()
}

fn token_of(row: &SqliteRow) -> Result<EnrolmentTokenRecord, StoreError> {
    const TABLE: &str = "enrolment_token";
    let id: String = row.try_get("id").map_err(StoreError::sql(TABLE))?;
    let text = |column: &str| row.try_get::<String, _>(column).map_err(StoreError::sql(TABLE));
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(StoreError::sql(TABLE));
    let count = |column: &str| u32::try_from(number(column)?).map_err(StoreError::damaged(TABLE, id.clone()));
    let device: Option<String> = row.try_get("device").map_err(StoreError::sql(TABLE))?;
    Ok(EnrolmentTokenRecord {
        hash: SecretHash::from_column(&text("hash")?).map_err(StoreError::damaged(TABLE, id.clone()))?,
        group: text("device_group")?,
        tags: serde_json::from_str(&text("tags")?).map_err(StoreError::damaged(TABLE, id.clone()))?,
        link: serde_json::from_str(&text("link")?).map_err(StoreError::damaged(TABLE, id.clone()))?,
        uses: count("uses")?,
        used: count("used")?,
        expires_ms: number("expires_ms")?,
        device: device
            .map(DeviceId::new)
            .transpose()
            .map_err(StoreError::damaged(TABLE, id.clone()))?,
        id,
    })
}

pub(super) async fn drop_enrolment_token(pool: &SqlitePool, id: &str) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM enrolment_token WHERE id = $1")
        .bind(id.to_owned())
        .execute(pool)
        .await
        .map_err(StoreError::sql("drop an enrolment token"))?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn enrolment<'c>(
    executor: impl Executor<'c, Database = Sqlite>,
    token: &str,
    key_fingerprint: &str,
) -> Result<Option<EnrolmentRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM enrolment WHERE token = $1 AND key_fingerprint = $2")
        .bind(token.to_owned())
        .bind(key_fingerprint.to_owned())
        .fetch_optional(executor)
        .await
        .map_err(StoreError::sql("read an enrolment"))?;
    row.as_ref().map(enrolment_of).transpose()
}

pub(super) async fn device_enrolment(
    pool: &SqlitePool,
    device: &DeviceId,
    serial: &EnrolmentSerial,
) -> Result<Option<EnrolmentRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM enrolment WHERE device = $1 AND serial = $2")
        .bind(device.to_string())
        .bind(serial.to_string())
        .fetch_optional(pool)
        .await
        .map_err(StoreError::sql("read a device's enrolment"))?;
    row.as_ref().map(enrolment_of).transpose()
}

fn enrolment_of(row: &SqliteRow) -> Result<EnrolmentRecord, StoreError> {
    const TABLE: &str = "enrolment";
    let text = |column: &str| row.try_get::<String, _>(column).map_err(StoreError::sql(TABLE));
    let token = text("token")?;
    let sealing_key: Result<SealingKey, _> = text("sealing_key")?.parse();
    let previous: Option<String> = row.try_get("previous").map_err(StoreError::sql(TABLE))?;
    Ok(EnrolmentRecord {
        key_fingerprint: text("key_fingerprint")?,
        device: DeviceId::new(text("device")?).map_err(StoreError::damaged(TABLE, token.clone()))?,
        serial: EnrolmentSerial::new(text("serial")?).map_err(StoreError::damaged(TABLE, token.clone()))?,
        certificate_chain: text("certificate_chain")?,
        sealing_key: sealing_key.map_err(StoreError::damaged(TABLE, token.clone()))?,
        sealing_proof: serde_json::from_str(&text("sealing_proof")?)
            .map_err(StoreError::damaged(TABLE, token.clone()))?,
        previous: previous
            .map(EnrolmentSerial::new)
            .transpose()
            .map_err(StoreError::damaged(TABLE, token.clone()))?,
        at_ms: row.try_get("at_ms").map_err(StoreError::sql(TABLE))?,
        token,
    })
}

pub(super) async fn claim(connection: &mut SqliteConnection, claim: &Claim) -> Result<Claimed, StoreError> {
    let wanted = &claim.enrolment;
    if let Some(earlier) = enrolment(&mut *connection, &wanted.token, &wanted.key_fingerprint).await? {
        let young = claim.now_ms.saturating_sub(earlier.at_ms) < claim.repeat_within_ms;
        return Ok(if young {
            Claimed::Again(Box::new(earlier))
        } else {
            Claimed::Refused
        });
    }
    let taken = sqlx::query(
        "UPDATE enrolment_token SET used = used + 1 WHERE id = $1 AND used < uses AND expires_ms > $2",
    )
    .bind(wanted.token.clone())
    .bind(claim.now_ms)
    .execute(&mut *connection)
    .await
    .map_err(StoreError::sql("use an enrolment token"))?;
    if taken.rows_affected() == 0 {
        return Ok(Claimed::Refused);
    }
    sqlx::query(
        "INSERT INTO enrolment (token, key_fingerprint, device, serial, certificate_chain, sealing_key, sealing_proof, previous, at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(wanted.token.clone())
    .bind(wanted.key_fingerprint.clone())
    .bind(wanted.device.to_string())
    .bind(wanted.serial.to_string())
    .bind(wanted.certificate_chain.clone())
    .bind(wanted.sealing_key.to_string())
    .bind(json(&wanted.sealing_proof))
    .bind(wanted.previous.as_ref().map(EnrolmentSerial::to_string))
    .bind(wanted.at_ms)
    .execute(connection)
    .await
    .map_err(StoreError::sql("write an enrolment"))?;
    Ok(Claimed::New)
}

pub(super) async fn unclaim(
    connection: &mut SqliteConnection,
    token: &str,
    key_fingerprint: &str,
) -> Result<(), StoreError> {
    let gone = sqlx::query("DELETE FROM enrolment WHERE token = $1 AND key_fingerprint = $2")
        .bind(token.to_owned())
        .bind(key_fingerprint.to_owned())
        .execute(&mut *connection)
        .await
        .map_err(StoreError::sql("drop an enrolment"))?;
    if gone.rows_affected() > 0 {
        sqlx::query("UPDATE enrolment_token SET used = used - 1 WHERE id = $1 AND used > 0")
            .bind(token.to_owned())
            .execute(connection)
            .await
            .map_err(StoreError::sql("give back a use"))?;
    }
    Ok(())
}
