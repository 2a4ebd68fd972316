//! `/devices`: registry and tags.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge_protocol::DeviceId;
use iot_hub_api::{
    Device, DeviceWorkload, ForgetDevice, LinkUpdate, List, Problem, ProblemCode, Revision, StateUpdate,
    TagsUpdate,
};
use iot_hub_core::Call;

use super::auth::Caller;
use super::problem::{Body, Path, Refusal};
use super::{Api, validate, view};

/// All devices in the caller's scope.
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices",
    responses((status = 200, description = "All devices in scope", body = List<Device>)))]
pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Result<Json<List<Device>>, Refusal> {
    let (revision, views) = api
        .pump
        .read(|reading| (reading.revision, reading.hub.devices().collect::<Vec<_>>()))
        .await?;
    let devices = views.into_iter().map(view::device);
    let items = devices.filter(|device| caller.principal.sees(device)).collect();
    Ok(Json(List {
        revision: Revision(revision),
        items,
    }))
}

/// One device.
#[utoipa::path(get, path = "/api/v1/devices/{id}", tag = "devices", params(("id" = String, Path, description = "Device id")),
    responses(
        (status = 200, description = "The device", body = Device),
        (status = 404, description = "No such device in scope", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn one(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<DeviceId>,
) -> Result<Json<Device>, Refusal> {
    let missing = Refusal::new(ProblemCode::NoSuchDevice, format!("there is no device {id}"));
    let found = api.pump.read(move |reading| reading.hub.device(&id)).await?;
    let device = found
        .map(view::device)
        .filter(|device| caller.principal.sees(device));
    device.map(Json).ok_or(missing)
}

/// Replaces all tags of a device. Deployments follow at once.
#[utoipa::path(put, path = "/api/v1/devices/{id}/tags", tag = "devices", params(("id" = String, Path, description = "Device id")),
    request_body = TagsUpdate,
    responses(
        (status = 204, description = "Done, or it was so already"),
        (status = 422, description = "The tags are not valid", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn set_tags(
    State(api): State<Api>,
    caller: Caller,
    Path(device): Path<DeviceId>,
    Body(update): Body<TagsUpdate>,
) -> Result<StatusCode, Refusal> {
    validate::tags(&update.tags)?;
    let subject = device.to_string();
    admin(
        &api,
        &caller,
        "set-tags",
        subject,
        Call::SetTags {
            device,
            tags: update.tags,
        },
    )
    .await
}

/// Assigns the link class of a device, used from its next CONNECT.
#[utoipa::path(put, path = "/api/v1/devices/{id}/link", tag = "devices", params(("id" = String, Path, description = "Device id")),
    request_body = LinkUpdate, responses((status = 204, description = "Done, or it was so already")))]
pub(super) async fn set_link(
    State(api): State<Api>,
    caller: Caller,
    Path(device): Path<DeviceId>,
    Body(update): Body<LinkUpdate>,
) -> Result<StatusCode, Refusal> {
    let subject = device.to_string();
    admin(
        &api,
        &caller,
        "set-link",
        subject,
        Call::SetLink {
            device,
            link: update.link,
        },
    )
    .await
}

/// Disables, enables or decommissions a device.
#[utoipa::path(put, path = "/api/v1/devices/{id}/state", tag = "devices", params(("id" = String, Path, description = "Device id")),
    request_body = StateUpdate, responses((status = 204, description = "Done, or it was so already")))]
pub(super) async fn set_state(
    State(api): State<Api>,
    caller: Caller,
    Path(device): Path<DeviceId>,
    Body(update): Body<StateUpdate>,
) -> Result<StatusCode, Refusal> {
    let subject = device.to_string();
    let state = view::core_state(update.state);
    admin(
        &api,
        &caller,
        "set-device-state",
        subject,
        Call::SetDeviceState { device, state },
    )
    .await
}

/// What may run on a device, by the last that it acknowledged and all that it was told since. Also of one that is decommissioned.
#[utoipa::path(get, path = "/api/v1/devices/{id}/workloads", tag = "devices", params(("id" = String, Path, description = "Device id")),
    responses(
        (status = 200, description = "All of them", body = List<DeviceWorkload>),
        (status = 404, description = "No such device in scope", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn workloads(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<DeviceId>,
) -> Result<Json<List<DeviceWorkload>>, Refusal> {
    let missing = Refusal::new(ProblemCode::NoSuchDevice, format!("there is no device {id}"));
    let (revision, found) = api
        .pump
        .read(move |reading| {
            let found = reading.hub.device(&id).zip(reading.hub.workloads(&id));
            (reading.revision, found)
        })
        .await?;
    let (_, held) = found
        .filter(|(device, _)| caller.principal.sees(&view::device(device.clone())))
        .ok_or(missing)?;
    Ok(Json(List {
        revision: Revision(revision),
        items: held.into_iter().map(view::workload).collect(),
    }))
}

/// Gives the id of a decommissioned device free although tombstones live there: what they were to stop may run on.
#[utoipa::path(post, path = "/api/v1/devices/{id}/forget", tag = "devices", params(("id" = String, Path, description = "Device id")),
    request_body = ForgetDevice,
    responses(
        (status = 204, description = "Done, or it was so already"),
        (status = 409, description = "The device is not decommissioned", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Running workloads are not accepted", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn forget(
    State(api): State<Api>,
    caller: Caller,
    Path(device): Path<DeviceId>,
    Body(ask): Body<ForgetDevice>,
) -> Result<StatusCode, Refusal> {
    caller.principal.require_admin()?;
    let id = device.clone();
    let held = api.pump.read(move |reading| reading.hub.workloads(&id)).await?;
    let held = held.unwrap_or_default().len();
    if !ask.accept_running_workloads {
        let detail =
            format!("must be true: {held} workloads may run on {device}, and nothing would stop them");
        let problem = Problem::new(ProblemCode::BadValue, detail).at_field("accept_running_workloads");
        return Err(problem.into());
    }
    let subject = format!("{device}, where {held} workloads may run");
    let call = Call::ForgetDevice { device };
    api.change(&caller.principal, "forget-device", subject, call)
        .await
}

async fn admin(
    api: &Api,
    caller: &Caller,
    action: &str,
    subject: String,
    call: Call,
) -> Result<StatusCode, Refusal> {
    caller.principal.require_admin()?;
    api.change(&caller.principal, action, subject, call).await
}
