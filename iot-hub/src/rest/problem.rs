//! Refusals as `application/problem+json`, and extractors that refuse in this form.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use iot_hub_api::problem::PROBLEM_JSON;
use iot_hub_api::{Problem, ProblemCode};
use iot_hub_core::CallError;
use iot_hub_store::StoreError;
use serde::de::DeserializeOwned;

use crate::pump::PumpGone;
use crate::serve::http::Patience;

/// A problem as a response.
#[derive(Debug)]
pub struct Refusal(pub Problem);

impl Refusal {
    pub(crate) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).expect("a problem has only string keys");
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<PumpGone> for Refusal {
    fn from(gone: PumpGone) -> Self {
        Self::new(ProblemCode::Unavailable, gone.to_string())
    }
}

impl From<StoreError> for Refusal {
    /// The details are for the log, not for callers.
    fn from(error: StoreError) -> Self {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, source, "the store failed a request");
        Self::new(ProblemCode::Internal, "the hub's store failed")
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        let problem = |code| Problem::new(code, error.to_string());
        Self(match &error {
            CallError::NoSuchDevice(_) => problem(ProblemCode::NoSuchDevice),
            CallError::NoSuchDeployment(_) => problem(ProblemCode::NoSuchDeployment),
            CallError::BadCondition {
                field,
                position,
                message,
            } => Problem::new(ProblemCode::BadCondition, message.clone())
                .at_field(format!("target.{field}"))
                .at_position(u64::try_from(*position).unwrap_or(u64::MAX)),
            CallError::BadManifest(_) => problem(ProblemCode::BadManifest).at_field("manifest"),
            CallError::BadObject { .. } => problem(ProblemCode::BadObject).at_field("objects"),
            CallError::BadKeyWrap { .. } => problem(ProblemCode::BadKeyWrap).at_field("wraps"),
            CallError::BadTags(_) => problem(ProblemCode::BadTags).at_field("tags"),
            CallError::NotYours => problem(ProblemCode::NotYours),
            CallError::DeviceIdTaken(_) | CallError::TombstonesLive { .. } => {
                problem(ProblemCode::DeviceIdTaken)
            }
            CallError::NotDecommissioned(_) => problem(ProblemCode::NotDecommissioned),
            CallError::EnrolmentSuperseded(_) => problem(ProblemCode::EnrolmentSuperseded),
            CallError::BeingDeleted => problem(ProblemCode::BeingDeleted),
            CallError::NotConnected(_) => problem(ProblemCode::DeviceNotConnected),
            CallError::NoStats(_) => problem(ProblemCode::DeviceLacksAbility),
            CallError::NotAnswered(_) => problem(ProblemCode::DeviceNotAnswered),
            CallError::LimitReached { .. } => problem(ProblemCode::LimitReached),
        })
    }
}

/// A JSON body; refuses with a problem that says where it went wrong.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        if !is_json {
            return Err(Refusal::new(
                ProblemCode::UnsupportedMediaType,
                "send content-type: application/json",
            ));
        }
        let patience: Patience = request.extensions().get().copied().unwrap_or_default();
        let bytes = tokio::time::timeout(patience.body, Bytes::from_request(request, state)).await;
        let late = |_| {
            let detail = format!("the body did not come within {} s", patience.body.as_secs());
            Refusal::new(ProblemCode::BadRequest, detail)
        };
        let bytes = bytes.map_err(late)?.map_err(|rejection| {
            let code = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => ProblemCode::TooLarge,
                _ => ProblemCode::BadRequest,
            };
            Refusal::new(code, rejection.body_text())
        })?;
        let parsed = serde_json::from_slice(&bytes);
        parsed
            .map(Self)
            .map_err(|error| Refusal::new(ProblemCode::BadRequest, error.to_string()))
    }
}

/// Path parameters; one that is not well formed names no resource.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(value)| Self(value))
            .map_err(|rejection| Refusal::new(ProblemCode::BadRequest, rejection.body_text()))
    }
}

/// Query parameters.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection| Refusal::new(ProblemCode::BadRequest, rejection.body_text()))
    }
}
