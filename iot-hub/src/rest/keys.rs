//! `/wanted-keys` and the keys of a deployment: how those who seal learn for whom, and bring what they wrapped.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge_protocol::PodUid;
use iot_hub_api::{KeyWraps, List, Problem, Revision, WantedKey, WantedKeys};
use iot_hub_core::Call;
use iot_hub_store::HubStore as _;

use super::Api;
use super::auth::Caller;
use super::deployments::owned;
use super::problem::{Body, Path, Refusal};

/// Keys told at a time. Whoever brings them asks for the others afterwards.
const LIMIT: usize = 1_024;

/// The content keys that devices wait for, of deployments of the caller's sources: the first of them, if there are many.
#[utoipa::path(get, path = "/api/v1/wanted-keys", tag = "keys",
    responses((status = 200, description = "By device, with the proof of its sealing key", body = List<WantedKeys>)))]
pub(super) async fn wanted(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<List<WantedKeys>>, Refusal> {
    let principal = caller.principal.clone();
    let read = api.pump.read(move |reading| {
        let wanted = reading.hub.wanted_keys(|source| principal.owns(source), LIMIT);
        (reading.revision, wanted)
    });
    let (revision, wanted) = read.await?;
    let mut devices: BTreeMap<_, Vec<WantedKey>> = BTreeMap::new();
    for wanted in wanted {
        let keys = devices.entry((wanted.device, wanted.enrolment)).or_default();
        keys.push(WantedKey {
            key: wanted.key,
            deployment: wanted.deployment,
        });
    }
    let mut items = Vec::with_capacity(devices.len());
    for ((device, serial), keys) in devices {
        let Some(enrolment) = api.store.device_enrolment(&device, &serial).await? else {
            tracing::warn!(%device, "the enrolment of a device that waits for keys is not known");
            continue;
        };
        items.push(WantedKeys {
            device,
            sealing_proof: enrolment.sealing_proof,
            certificate_chain: enrolment.certificate_chain,
            keys,
        });
    }
    let revision = Revision(revision);
    Ok(Json(List { revision, items }))
}

/// Brings content keys for devices of the deployment.
#[utoipa::path(put, path = "/api/v1/deployments/{uid}/keys", tag = "keys",
    params(("uid" = String, Path, description = "Pod UID")), request_body = KeyWraps,
    responses(
        (status = 204, description = "They are on disk, and on their way to devices that are connected"),
        (status = 404, description = "No such deployment", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "One has not the form of a wrap", body = Problem,
            content_type = "application/problem+json"),
    ))]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path(uid): Path<PodUid>,
    Body(KeyWraps { wraps }): Body<KeyWraps>,
) -> Result<StatusCode, Refusal> {
    owned(&api, &caller.principal, &uid).await?;
    let (subject, call) = (uid.to_string(), Call::PutKeyWraps { uid, wraps });
    api.change(&caller.principal, "put-keys", subject, call).await
}
