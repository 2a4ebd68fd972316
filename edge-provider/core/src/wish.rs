//! What should happen next for one UID: total functions over its entry, without a trace of how it came to be so.

use edge_protocol::v1::{DeploymentSpec, DeploymentState};

use crate::bridge::Dark;
use crate::entry::{Call, End, Entry, RefusedPut};
use crate::io::{PodPlan, PodView, WantedPod};

/// What the hub should be asked next.
#[derive(Debug, Clone, PartialEq)]
pub enum HubWish {
    Nothing,
    /// The deployment should be as the pod says; see [`needs_put`].
    Put,
    Delete {
        grace_period_s: Option<u32>,
    },
    Release,
}

pub fn hub_wish(entry: &Entry) -> HubWish {
    match entry.fate.map(|fate| fate.end) {
        Some(End::Delete { grace_period_s }) => delete_wish(entry, grace_period_s),
        Some(End::Release) => release_wish(entry),
        None if wants_to_run(entry) => HubWish::Put,
        None => HubWish::Nothing,
    }
}

/// A pod whose phase is final has nothing to start; one that the hub holds is left as it is.
fn wants_to_run(entry: &Entry) -> bool {
    let seen = entry.pod.as_ref().filter(|_| entry.missing_since.is_none());
    seen.is_some_and(|pod| pod.deletion.is_none() && !pod.terminal && pod.plan.is_ok())
}

fn delete_wish(entry: &Entry, grace_period_s: Option<u32>) -> HubWish {
    let wish = HubWish::Delete { grace_period_s };
    let shortens = |before| entry.effective_grace(grace_period_s) < entry.effective_grace(before);
    match (&entry.confirmed, entry.asked_state()) {
        _ if !entry.may_exist() => HubWish::Nothing,
        (
            Some(Call::Delete {
                grace_period_s: before,
            }),
            _,
        ) if !shortens(*before) => HubWish::Nothing,
        (
            _,
            Some(DeploymentState::Deleting {
                grace_period_s: before,
                ..
            }),
        ) if !shortens(before) => HubWish::Nothing,
        _ => wish,
    }
}

fn release_wish(entry: &Entry) -> HubWish {
    let at_rest = entry
        .asked_state()
        .is_some_and(|state| state != DeploymentState::Active);
    if at_rest || !entry.may_exist() || entry.confirmed == Some(Call::Release) {
        HubWish::Nothing
    } else {
        HubWish::Release
    }
}

/// The first put fixes `node_uid` and `replaces`; later ones take both from here.
pub struct FirstPut {
    pub node_uid: Option<String>,
    pub replaces: Vec<edge_protocol::PodUid>,
}

/// What an earlier put fixed, as the hub holds it or as it was last sent. `None` before the first put.
pub fn fixed_by_first_put(entry: &Entry) -> Option<FirstPut> {
    let spec = match (&entry.held, &entry.last_put) {
        (Some(held), _) => &held.spec,
        (None, Some(sent)) => sent,
        (None, None) => return None,
    };
    Some(FirstPut {
        node_uid: spec.node_uid.clone(),
        replaces: crate::successor::read_replaces(&spec.manifest),
    })
}

/// The document to put. When the hub holds an equal manifest its bytes are kept, so that a provider that writes the same content in
/// other bytes changes no digest.
pub fn compose(
    entry: &Entry,
    pod: &WantedPod,
    plan: &PodPlan,
    source: edge_protocol::v1::Source,
    first: FirstPut,
) -> DeploymentSpec {
    let mut manifest = plan.manifest.clone();
    manifest.replaces = first.replaces;
    let held = entry
        .held
        .as_ref()
        .filter(|held| held.manifest.as_ref() == Some(&manifest));
    let bytes = match held {
        Some(held) => held.spec.manifest.clone(),
        None => serde_json::to_string(&manifest).expect("a manifest has only string keys"),
    };
    DeploymentSpec {
        uid: pod.uid.clone(),
        source,
        node_uid: first.node_uid,
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        owner: pod.owner.clone(),
        target: plan.target.clone(),
        ready_policy: plan.ready_policy,
        manifest: bytes,
    }
}

/// Whether the hub has yet to be told `spec`: it differs from what it holds, or it holds it as an orphan's, or for lack of anything newer than
/// a backup.
pub fn needs_put(entry: &Entry, spec: &DeploymentSpec, now_ms: u64) -> bool {
    let stands = |refused: &RefusedPut| *refused.spec == *spec && now_ms < refused.until_ms;
    let refused = entry.refused_put.as_ref().is_some_and(stands);
    let confirmed = matches!(&entry.confirmed, Some(Call::Put(was)) if **was == *spec);
    let held = match &entry.held {
        Some(held) if matches!(held.state, DeploymentState::Deleting { .. }) => return false,
        Some(held) => held.state == DeploymentState::Active && held.spec == *spec && !held.status.unconfirmed,
        None => false,
    };
    !(refused || confirmed || held)
}

/// The last status of a pod that may leave the API server now: its workload has stopped where that can be known, or is released, or
/// never was.
pub fn finish_wish(entry: &Entry, dark: Dark) -> Option<PodView> {
    let pod = entry.pod.as_ref().filter(|_| entry.missing_since.is_none())?;
    if pod.deletion.is_none() || entry.finished {
        return None;
    }
    let state = entry.held.as_ref().map(|held| held.state);
    match entry.fate?.end {
        End::Delete { .. } => {
            let stopped = match &entry.held {
                None => !entry.may_exist(),
                Some(held) => {
                    let holds = dark == Dark::Holds && !held.status.stopping_offline.is_empty();
                    let owes = holds || held.status.stopping_online > 0;
                    matches!(held.state, DeploymentState::Deleting { .. }) && !owes
                }
            };
            stopped.then(|| PodView::Stopped(entry.last_status.clone()))
        }
        End::Release => {
            let released = match state {
                None => !entry.may_exist(),
                Some(state) => state != DeploymentState::Active,
            };
            let status = entry.last_status.clone();
            (released || entry.confirmed == Some(Call::Release))
                .then(|| status.map_or(PodView::Accepted, PodView::Deployed))
        }
    }
}

/// What the pod object should show now; nothing while its end is being written.
pub fn show_wish(entry: &Entry) -> Option<PodView> {
    let pod = entry.pod.as_ref().filter(|_| entry.missing_since.is_none())?;
    if entry.finished || entry.at_api.flight.is_some() {
        return None;
    }
    let refusal = match (&pod.plan, &entry.refused_put) {
        (Err(refusal), _) | (Ok(_), Some(RefusedPut { refusal, .. })) => Some(refusal.clone()),
        (Ok(_), None) => None,
    };
    let going = pod.terminal || pod.deletion.is_some();
    match (&entry.held, refusal) {
        (Some(held), Some(refusal)) if !going => Some(PodView::EditRefused {
            status: Box::new(held.status.clone()),
            refusal,
        }),
        (Some(held), _) => Some(PodView::Deployed(Box::new(held.status.clone()))),
        (None, _) if going => None,
        (None, Some(refusal)) => Some(PodView::Refused(refusal)),
        (None, None) => Some(PodView::Accepted),
    }
}
