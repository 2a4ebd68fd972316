//! `/events` and `/audit`: what happened on devices, and who asked for which change.

use axum::Json;
use axum::extract::State;
use edge_protocol::{DeviceId, PodUid};
use iot_hub_api::{AuditEntry, DeviceEventRecord, List, Revision};
use iot_hub_store::{AuditRecord, EventQuery, HubStore as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::problem::{Query, Refusal};
use super::{Api, view};
use crate::grant::Principal;

/// The most that one answer holds.
const LIMIT: u32 = 1000;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// Only of this device.
    #[param(value_type = Option<String>)]
    device: Option<DeviceId>,
    /// Only of this deployment's workloads.
    #[param(value_type = Option<String>)]
    deployment: Option<PodUid>,
}

/// Events of devices, the newest first, at most 1,000.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(EventsQuery),
    responses((status = 200, description = "The newest", body = List<DeviceEventRecord>)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<EventsQuery>,
) -> Result<Json<List<DeviceEventRecord>>, Refusal> {
    let revision = Revision(api.pump.feed().revision());
    let query = EventQuery {
        devices: in_scope(&api, &caller.principal, query.device).await?,
        uid: query.deployment,
        limit: LIMIT,
    };
    let items = api.store.events(&query).await?.into_iter();
    let items = items
        .map(|(device, event)| DeviceEventRecord { device, event })
        .collect();
    Ok(Json(List { revision, items }))
}

/// The devices whose events the principal may read, `only` this one if given; `None`: all.
async fn in_scope(
    api: &Api,
    principal: &Principal,
    only: Option<DeviceId>,
) -> Result<Option<Vec<DeviceId>>, Refusal> {
    if principal.sees_all() {
        return Ok(only.map(|only| vec![only]));
    }
    let principal = principal.clone();
    let seen = api.pump.read(move |reading| {
        let devices: Vec<_> = match only {
            Some(only) => reading.hub.device(&only).into_iter().collect(),
            None => reading.hub.devices().collect(),
        };
        let devices = devices.into_iter().map(view::device);
        devices
            .filter(|device| principal.sees(device))
            .map(|device| device.id)
            .collect()
    });
    Ok(Some(seen.await?))
}

/// Who asked for which change, the newest first, at most 1,000.
#[utoipa::path(get, path = "/api/v1/audit", tag = "events",
    responses((status = 200, description = "The newest", body = List<AuditEntry>)))]
pub(super) async fn audit(State(api): State<Api>, caller: Caller) -> Result<Json<List<AuditEntry>>, Refusal> {
    caller.principal.require_admin()?;
    let revision = Revision(api.pump.feed().revision());
    let entry = |record: AuditRecord| {
        let AuditRecord {
            id,
            at_ms,
            principal,
            action,
            subject,
        } = record;
        AuditEntry {
            id,
            at_ms,
            principal,
            action,
            subject,
        }
    };
    let items = api.store.audit(LIMIT).await?.into_iter().map(entry).collect();
    Ok(Json(List { revision, items }))
}
