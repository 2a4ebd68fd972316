//! Making tokens: random secrets, shown once, kept as hashes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge_protocol::Digest;
use edge_protocol::v1::EnrolmentToken;
use iot_hub_api::{CreateEnrolmentToken, EnrolmentTokenCreated};
use iot_hub_store::secret::SecretHash;
use iot_hub_store::{ApiTokenRecord, EnrolmentTokenRecord};

use crate::clock;
use crate::grant::Grant;

/// 256 random bits as 43 characters.
fn secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// A short id, unique in practice; the store refuses a repeat.
fn id() -> String {
    edge_protocol::digest::hex(&rand::random::<[u8; 8]>())
}

/// An enrolment token for a validated request.
pub fn enrolment(ask: CreateEnrolmentToken, anchor: Digest) -> (EnrolmentTokenRecord, EnrolmentTokenCreated) {
    let CreateEnrolmentToken {
        group,
        tags,
        link,
        uses,
        ttl_s,
        device,
    } = ask;
    let token = EnrolmentToken {
        id: id(),
        secret: secret(),
        anchor,
    };
    let ttl_ms = i64::try_from(ttl_s).unwrap_or(i64::MAX).saturating_mul(1000);
    let expires_ms = clock::wall_ms().saturating_add(ttl_ms);
    let created = EnrolmentTokenCreated {
        id: token.id.clone(),
        token: token.reveal(),
        expires_ms,
    };
    let hash = SecretHash::of(&token.secret);
    let record = EnrolmentTokenRecord {
        id: token.id,
        hash,
        group,
        tags,
        link,
        uses,
        used: 0,
        expires_ms,
        device,
    };
    (record, created)
}

/// A token of the REST API, `id.secret`, and what the store keeps of it.
pub fn api(principal: &str, grant: &Grant) -> (ApiTokenRecord, String) {
    let (id, secret) = (id(), secret());
    let record = ApiTokenRecord {
        id: id.clone(),
        hash: SecretHash::of(&secret),
        principal: principal.to_owned(),
        scope: serde_json::to_string(grant).expect("a grant has only string keys"),
        created_ms: clock::wall_ms(),
    };
    (record, format!("{id}.{secret}"))
}
