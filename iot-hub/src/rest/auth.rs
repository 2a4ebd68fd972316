//! Bearer tokens. A token is `id.secret`; the store keeps the hash of the secret.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use iot_hub_api::ProblemCode;
use iot_hub_store::HubStore as _;

use super::Api;
use super::problem::Refusal;
use crate::grant::Principal;

/// Longer than any token; what is longer is not looked at.
const MAX_TOKEN: usize = 256;

/// How long a request waits for others to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The authenticated caller of a route, which also holds one of the places for calls under way.
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        // A burst waits for its turn; who waits is bounded by the port's connections.
        let place = Arc::clone(&api.calls).acquire_owned();
        let place = tokio::time::timeout(PATIENCE, place)
            .await
            .ok()
            .and_then(Result::ok);
        let place = place
            .ok_or_else(|| Refusal::new(ProblemCode::TooManyRequests, "too many requests are under way"))?;
        let principal = authenticate(parts, api).await?;
        Ok(Self {
            principal,
            _place: place,
        })
    }
}

pub(super) async fn authenticate(parts: &Parts, api: &Api) -> Result<Principal, Refusal> {
    // One answer for every fault: it tells a guesser nothing.
    let refused = || {
        Refusal::new(
            ProblemCode::Unauthenticated,
            "send a valid token: authorization: Bearer <token>",
        )
    };
    let header = parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|value| value.strip_prefix("Bearer "))
        .filter(|token| token.len() <= MAX_TOKEN);
    let (id, secret) = token
        .and_then(|token| token.split_once('.'))
        .ok_or_else(refused)?;
    let record = api
        .store
        .api_token(id)
        .await?
        .filter(|record| record.hash.matches(secret))
        .ok_or_else(refused)?;
    let unusable = |error: &dyn std::fmt::Display| {
        tracing::error!(token = record.id, %error, "the grant of an API token is not readable");
        Refusal::new(ProblemCode::Internal, "the grant of this token is not readable")
    };
    let grant = serde_json::from_str(&record.scope).map_err(|error| unusable(&error))?;
    Principal::new(record.principal.clone(), grant).map_err(|error| unusable(&error))
}
