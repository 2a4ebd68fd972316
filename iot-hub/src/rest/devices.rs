//! `/devices`: registry and tags.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge_protocol::DeviceId;
use iot_hub_api::{Device, LinkUpdate, List, Problem, ProblemCode, Revision, StateUpdate, TagsUpdate};
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
