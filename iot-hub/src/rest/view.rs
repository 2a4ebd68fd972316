//! The machine's views as API documents.

use edge_protocol::ItemState;
use edge_protocol::v1::AckStage;
use iot_hub_api::{
    Deployment, Device, DeviceState, DeviceWorkload, Quarantined, RefusedSet, Surplus, WorkloadDesired,
};
use iot_hub_core::{DeploymentView, DeviceView, QuarantinedWorkload, WorkloadView};

use crate::grant::Principal;
use crate::pump::Reading;

pub(super) fn device(view: DeviceView) -> Device {
    let DeviceView {
        record,
        connected,
        online,
        last_seen_ms,
        generation,
        acknowledged,
        quarantine,
        refused,
        surplus,
    } = view;
    Device {
        id: record.id,
        enrolment: record.enrolment,
        sealing_key_fingerprint: Some(record.sealing_key.fingerprint()),
        group: record.group,
        tags: record.tags,
        link: record.link,
        state: state(record.state),
        facts: record.facts,
        agent_version: record.agent_version,
        features: record.features,
        connected,
        online,
        last_seen_ms: last_seen_ms.or(record.last_seen_ms),
        generation,
        acknowledged,
        quarantine: quarantine.into_iter().map(quarantined).collect(),
        refused: refused.map(|refused| RefusedSet {
            generation: refused.generation,
            why: match refused.stage {
                AckStage::Stale => "stale",
                _ => "refused",
            }
            .to_owned(),
            since_ms: refused.since_ms,
        }),
        surplus: Surplus {
            hellos: surplus.hellos,
            statuses: surplus.statuses,
            events: surplus.events,
            stats: surplus.stats,
            refusals: surplus.refusals,
        },
    }
}

pub(super) fn quarantined(workload: QuarantinedWorkload) -> Quarantined {
    let QuarantinedWorkload {
        uid,
        revision,
        since_ms,
        message,
    } = workload;
    Quarantined {
        uid,
        revision,
        since_ms,
        message,
    }
}

pub(super) fn workload(view: WorkloadView) -> DeviceWorkload {
    let (namespace, name) = view.name.unzip();
    DeviceWorkload {
        uid: view.uid,
        desired: match view.desired {
            None => WorkloadDesired::Nothing,
            Some(ItemState::Run) => WorkloadDesired::Run,
            Some(ItemState::Orphan) => WorkloadDesired::Orphan,
            Some(ItemState::Stop) => WorkloadDesired::Stop,
        },
        namespace,
        name,
    }
}

/// As this principal wrote it. Counts are of all its devices; those named as failing are in the principal's scope.
pub(super) fn deployment(view: DeploymentView, reading: &Reading<'_>, principal: &Principal) -> Deployment {
    let DeploymentView { record, mut status } = view;
    status.failing.retain(|failing| {
        let found = reading.hub.device(&failing.device);
        found.is_some_and(|found| principal.sees(&device(found)))
    });
    Deployment {
        spec: principal.widen(record.spec),
        manifest: record.manifest,
        revision: record.revision,
        state: record.state,
        created_ms: record.created_ms,
        status,
    }
}

fn state(state: iot_hub_core::DeviceState) -> DeviceState {
    match state {
        iot_hub_core::DeviceState::Active => DeviceState::Active,
        iot_hub_core::DeviceState::Disabled => DeviceState::Disabled,
        iot_hub_core::DeviceState::Decommissioned => DeviceState::Decommissioned,
    }
}

pub(super) fn core_state(state: DeviceState) -> iot_hub_core::DeviceState {
    match state {
        DeviceState::Active => iot_hub_core::DeviceState::Active,
        DeviceState::Disabled => iot_hub_core::DeviceState::Disabled,
        DeviceState::Decommissioned => iot_hub_core::DeviceState::Decommissioned,
    }
}
