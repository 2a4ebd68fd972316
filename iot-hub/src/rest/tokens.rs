//! `/enrolment-tokens`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use iot_hub_api::{
    CreateEnrolmentToken, EnrolmentTokenCreated, EnrolmentTokenInfo, List, Problem, ProblemCode, Revision,
};
use iot_hub_store::{EnrolmentTokenRecord, HubStore as _};

use super::auth::Caller;
use super::change::audit;
use super::problem::{Body, Path, Refusal};
use super::{Api, validate};
use crate::token;

/// All enrolment tokens, without their secrets.
#[utoipa::path(get, path = "/api/v1/enrolment-tokens", tag = "enrolment",
    responses((status = 200, description = "All of them", body = List<EnrolmentTokenInfo>)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<List<EnrolmentTokenInfo>>, Refusal> {
    caller.principal.require_admin()?;
    let tokens = api.store.enrolment_tokens().await?;
    let info = |token: EnrolmentTokenRecord| EnrolmentTokenInfo {
        id: token.id,
        group: token.group,
        tags: token.tags,
        link: token.link,
        uses: token.uses,
        used: token.used,
        expires_ms: token.expires_ms,
        device: token.device,
    };
    let revision = Revision(api.pump.feed().revision());
    Ok(Json(List {
        revision,
        items: tokens.into_iter().map(info).collect(),
    }))
}

/// Makes a token. This answer is the only place where it is shown.
#[utoipa::path(post, path = "/api/v1/enrolment-tokens", tag = "enrolment", request_body = CreateEnrolmentToken,
    responses(
        (status = 201, description = "The token", body = EnrolmentTokenCreated),
        (status = 422, description = "A value is out of its range", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(ask): Body<CreateEnrolmentToken>,
) -> Result<(StatusCode, Json<EnrolmentTokenCreated>), Refusal> {
    caller.principal.require_admin()?;
    validate::enrolment_token(&ask)?;
    let (record, created) = token::enrolment(ask, api.authority.anchor());
    api.store.put_enrolment_token(&record).await?;
    api.store
        .put_audit(&audit(&caller.principal, "create-enrolment-token", record.id))
        .await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Withdraws a token. Devices that enrolled with it are not touched.
#[utoipa::path(delete, path = "/api/v1/enrolment-tokens/{id}", tag = "enrolment",
    params(("id" = String, Path, description = "Token id")),
    responses(
        (status = 204, description = "No device can enrol with it any more"),
        (status = 404, description = "No such token", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    caller.principal.require_admin()?;
    if !api.store.drop_enrolment_token(&id).await? {
        return Err(Refusal::new(
            ProblemCode::NotFound,
            "there is no such enrolment token",
        ));
    }
    api.store
        .put_audit(&audit(&caller.principal, "revoke-enrolment-token", id))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
