//! `/events` and `/audit`: what happened on devices, and who asked for which change.

use axum::Json;
use axum::extract::State;
use edge_protocol::{DeviceId, PodUid};
use iot_hub_api::{AuditEntry, DeviceEventRecord, List, Revision};
use iot_hub_store::{AuditRecord, EventQuery, HubStore as _};
use serde::Deserialize;
use std::collections::BTreeSet;
use utoipa::IntoParams;

use super::auth::Caller;
use super::problem::{Query, Refusal};
use super::{Api, view};

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
    let query = EventQuery {
        device: query.device,
        uid: query.deployment,
        limit: LIMIT,
    };
    let revision = Revision(api.pump.feed().revision());
    let events = api.store.events(&query).await?;
    let devices: BTreeSet<_> = events.iter().map(|(device, _)| device.clone()).collect();
    let views = api.pump.read(move |reading| {
        devices
            .iter()
            .filter_map(|id| reading.hub.device(id))
            .collect::<Vec<_>>()
    });
    let views = views.await?.into_iter().map(view::device);
    let seen: BTreeSet<_> = views
        .filter(|device| caller.principal.sees(device))
        .map(|device| device.id)
        .collect();
    let items = events.into_iter().filter(|(device, _)| seen.contains(device));
    let items = items
        .map(|(device, event)| DeviceEventRecord { device, event })
        .collect();
    Ok(Json(List { revision, items }))
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
