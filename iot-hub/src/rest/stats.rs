//! `/devices/{id}/stats`: what a device uses, as it says.

use axum::Json;
use axum::extract::State;
use edge_protocol::DeviceId;
use iot_hub_api::{DeviceStats, Problem, ProblemCode};
use iot_hub_core::{DeviceView, StatsView};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::problem::{Path, Query, Refusal};
use super::{Api, view};
use crate::pump::Reading;

/// As old as metrics-server lets its figures be (`--metric-resolution`), in milliseconds.
const DEFAULT_AGE_MS: u64 = 15_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatsQuery {
    /// An older sample is not good enough while the device can give a newer one, in milliseconds; 15,000 unless told. No device is asked more often
    /// than its link and its owner allow.
    max_age_ms: Option<u64>,
}

/// What a device and its workloads use: the newest sample, with its age.
///
/// If it is older than asked, the device is asked for another, and the answer waits for that for at most 5 s; what comes then may still be older. A
/// device that is away shows what it last said, for as long as somebody asks every ten minutes.
#[utoipa::path(get, path = "/api/v1/devices/{id}/stats", tag = "devices",
    params(("id" = String, Path, description = "Device id"), StatsQuery),
    responses(
        (status = 200, description = "The newest sample", body = DeviceStats),
        (status = 404, description = "No such device in scope", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There is no sample: the device is not connected, or its agent does not tell what it uses", body = Problem,
            content_type = "application/problem+json"),
        (status = 504, description = "There is no sample: the device did not answer in time", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn of_device(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<DeviceId>,
    Query(query): Query<StatsQuery>,
) -> Result<Json<DeviceStats>, Refusal> {
    let missing = || Refusal::new(ProblemCode::NoSuchDevice, format!("there is no device {id}"));
    let seen = |found: Option<DeviceView>| {
        let device = found.map(view::device);
        device
            .filter(|device| caller.principal.sees(device))
            .ok_or_else(missing)
    };
    let of = id.clone();
    seen(api.pump.read(move |reading| reading.hub.device(&of)).await?)?;
    let age_ms = query.max_age_ms.unwrap_or(DEFAULT_AGE_MS);
    api.pump.want_stats(id.clone(), age_ms).await??;
    let of = id.clone();
    let found = api.pump.read(move |reading| newest(reading, &of)).await?;
    // The tags that the caller sees it by may have changed meanwhile.
    let (device, stats) = found.ok_or_else(missing)?;
    seen(Some(device))?;
    Ok(Json(stats))
}

fn newest(reading: &Reading<'_>, id: &DeviceId) -> Option<(DeviceView, DeviceStats)> {
    let StatsView {
        stats,
        heard_ms,
        heard_wall_ms,
    } = reading.hub.stats(id)?;
    let told = DeviceStats {
        age_ms: reading.now.mono_ms.saturating_sub(*heard_ms),
        received_ms: *heard_wall_ms,
        stats: stats.as_ref().clone(),
    };
    Some((reading.hub.device(id)?, told))
}
