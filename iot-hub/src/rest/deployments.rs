//! `/deployments`: what is to run where, and what the devices say of it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge_protocol::PodUid;
use edge_protocol::v1::TombstoneReason;
use iot_hub_api::{Assignment, Deployment, List, Problem, ProblemCode, PutDeployment, Revision};
use iot_hub_core::condition::Condition;
use iot_hub_core::{AssignmentView, Call, CallError};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::problem::{Body, Path, Query, Refusal};
use super::{Api, view};
use crate::grant::Principal;

/// The field whose characters the hub moves by adding a principal's scope.
const SCOPE: &str = "scope";

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceQuery {
    /// UID of the cluster's `kube-system` namespace.
    cluster_uid: Option<String>,
    /// Name of the virtual node.
    node: Option<String>,
}

/// All deployments of a source, or of all sources that the caller acts for.
#[utoipa::path(get, path = "/api/v1/deployments", tag = "deployments", params(SourceQuery),
    responses((status = 200, description = "All of them", body = List<Deployment>)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<SourceQuery>,
) -> Result<Json<List<Deployment>>, Refusal> {
    let principal = caller.principal.clone();
    let read = api.pump.read(move |reading| {
        let wanted = |part: &Option<String>, value: &String| part.as_ref().is_none_or(|part| part == value);
        let views = reading.hub.deployments().filter(|view| {
            let source = &view.record.spec.source;
            wanted(&query.cluster_uid, &source.cluster_uid)
                && wanted(&query.node, &source.node)
                && principal.owns(source)
        });
        let items = views.map(|item| view::deployment(item, reading, &principal));
        (reading.revision, items.collect())
    });
    let (revision, items) = read.await?;
    Ok(Json(List {
        revision: Revision(revision),
        items,
    }))
}

/// One deployment.
#[utoipa::path(get, path = "/api/v1/deployments/{uid}", tag = "deployments",
    params(("uid" = String, Path, description = "Pod UID")),
    responses(
        (status = 200, description = "The deployment", body = Deployment),
        (status = 404, description = "No such deployment", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn one(
    State(api): State<Api>,
    caller: Caller,
    Path(uid): Path<PodUid>,
) -> Result<Json<Deployment>, Refusal> {
    find(&api, &caller.principal, uid).await.map(Json)
}

/// Creates a deployment, replaces it, or confirms it when it is the same.
#[utoipa::path(put, path = "/api/v1/deployments/{uid}", tag = "deployments",
    params(("uid" = String, Path, description = "Pod UID; the same as in the body")), request_body = PutDeployment,
    responses(
        (status = 204, description = "It is on disk"),
        (status = 403, description = "Not the caller's source", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is being deleted", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Condition, manifest or an object not valid; `field` and `position` say where",
            body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path(uid): Path<PodUid>,
    Body(PutDeployment { spec, objects }): Body<PutDeployment>,
) -> Result<StatusCode, Refusal> {
    let principal = &caller.principal;
    if spec.uid != uid {
        let problem = Problem::new(ProblemCode::BadValue, "the body's uid is not that of the path");
        return Err(problem.at_field("uid").into());
    }
    principal.require_deployer(&spec.source)?;
    // By itself, so that a parenthesis too many cannot reach around the principal's scope.
    if let Err(error) = spec.target.scope.parse::<Condition>() {
        let problem = Problem::new(ProblemCode::BadCondition, format!("expected {}", error.expected));
        return Err(problem
            .at_field(format!("target.{SCOPE}"))
            .at_position(error.position as u64)
            .into());
    }
    let call = Call::PutDeployment {
        spec: Box::new(principal.narrow(spec)),
        objects,
    };
    match api
        .try_change(principal, "put-deployment", uid.to_string(), call)
        .await?
    {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(CallError::BadCondition {
            field,
            position,
            message,
        }) if field == SCOPE => {
            let position = position.saturating_sub(principal.narrowed_by());
            Err(CallError::BadCondition {
                field,
                position,
                message,
            }
            .into())
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteQuery {
    /// Seconds between SIGTERM and SIGKILL; a repeat may shorten it. Without it, the manifest's own.
    grace: Option<u32>,
    /// `deleted` (default) or `orphan-removed`.
    reason: Option<TombstoneReason>,
}

/// Stops the deployment on every device that may hold it.
#[utoipa::path(delete, path = "/api/v1/deployments/{uid}", tag = "deployments",
    params(("uid" = String, Path, description = "Pod UID"), DeleteQuery),
    responses(
        (status = 204, description = "Tombstones are on disk"),
        (status = 404, description = "No such deployment", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path(uid): Path<PodUid>,
    Query(query): Query<DeleteQuery>,
) -> Result<StatusCode, Refusal> {
    let reason = query.reason.unwrap_or(TombstoneReason::Deleted);
    if !matches!(reason, TombstoneReason::Deleted | TombstoneReason::OrphanRemoved) {
        let problem = Problem::new(
            ProblemCode::BadValue,
            "callers may give deleted or orphan-removed",
        );
        return Err(problem.at_field("reason").into());
    }
    let source = owned(&api, &caller.principal, &uid).await?;
    let subject = uid.to_string();
    let call = Call::DeleteDeployment {
        uid,
        source_node: Some(source),
        grace_period_s: query.grace,
        reason,
    };
    api.change(&caller.principal, "delete-deployment", subject, call)
        .await
}

/// The pod is gone by no one's intent: devices keep the workload as an orphan.
#[utoipa::path(post, path = "/api/v1/deployments/{uid}/release", tag = "deployments",
    params(("uid" = String, Path, description = "Pod UID")),
    responses((status = 204, description = "It is on disk, or was so already")))]
pub(super) async fn release(
    State(api): State<Api>,
    caller: Caller,
    Path(uid): Path<PodUid>,
) -> Result<StatusCode, Refusal> {
    owned(&api, &caller.principal, &uid).await?;
    let subject = uid.to_string();
    api.change(
        &caller.principal,
        "release-deployment",
        subject,
        Call::ReleaseDeployment { uid },
    )
    .await
}

/// The deployment on each of its devices in the caller's scope.
#[utoipa::path(get, path = "/api/v1/deployments/{uid}/assignments", tag = "deployments",
    params(("uid" = String, Path, description = "Pod UID")),
    responses((status = 200, description = "All of them", body = List<Assignment>)))]
pub(super) async fn assignments(
    State(api): State<Api>,
    caller: Caller,
    Path(uid): Path<PodUid>,
) -> Result<Json<List<Assignment>>, Refusal> {
    find(&api, &caller.principal, uid.clone()).await?;
    let principal = caller.principal.clone();
    let read = api.pump.read(move |reading| {
        let views = reading.hub.assignments(&uid).into_iter();
        let seen = |view: AssignmentView| {
            let device = reading.hub.device(&view.record.device)?;
            let last_seen_ms = device.last_seen_ms;
            principal
                .sees(&view::device(device))
                .then_some((last_seen_ms, view))
        };
        let items: Vec<_> = views.filter_map(seen).collect();
        (reading.revision, items)
    });
    let (revision, views) = read.await?;
    let assignment = |(last_seen_ms, view): (Option<i64>, AssignmentView)| Assignment {
        uid: view.record.uid,
        device: view.record.device,
        online: view.online,
        last_seen_ms,
        since_ms: view.record.since_ms,
        rung: view.rung,
        status: view.record.status,
        counted: view.record.counted,
        waiting: view.record.waiting,
        quarantined: view.quarantined.map(view::quarantined),
    };
    let items = views.into_iter().map(assignment).collect();
    Ok(Json(List {
        revision: Revision(revision),
        items,
    }))
}

async fn find(api: &Api, principal: &Principal, uid: PodUid) -> Result<Deployment, Refusal> {
    let missing = missing(&uid);
    let principal = principal.clone();
    let found = api.pump.read(move |reading| {
        let found = reading.hub.deployment(&uid);
        let found = found.filter(|view| principal.owns(&view.record.spec.source));
        found.map(|found| view::deployment(found, reading, &principal))
    });
    found.await?.ok_or(missing)
}

/// The node of a deployment that the caller may change.
pub(super) async fn owned(api: &Api, principal: &Principal, uid: &PodUid) -> Result<String, Refusal> {
    let key = uid.clone();
    let found = api.pump.read(move |reading| reading.hub.deployment(&key)).await?;
    let source = found.ok_or_else(|| missing(uid))?.record.spec.source;
    principal.require_deployer(&source)?;
    Ok(source.node)
}

fn missing(uid: &PodUid) -> Refusal {
    Refusal::new(
        ProblemCode::NoSuchDeployment,
        format!("there is no deployment {uid}"),
    )
}
