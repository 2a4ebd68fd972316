//! Where a resize stands, as a kubelet shows it (`SetPodResizePendingCondition` and `SetPodResizeInProgressCondition` of
//! `pkg/kubelet/status/status_manager.go`).
//!
//! These conditions are there only as long as they are true. One that is not is handed on without a status, which takes it away.

use edge_protocol::DeviceTime;
use edge_protocol::text::sanitise;
use edge_protocol::v1::{DeferredResize, Resizing, WorkloadStatus};
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::conditions::Conditions;
use super::super::time;

const PENDING: &str = "PodResizePending";
const IN_PROGRESS: &str = "PodResizeInProgress";
/// A device calls nothing infeasible.
const DEFERRED: &str = "Deferred";
const ERROR: &str = "Error";

/// What a kubelet would say, and since when it is so.
struct Standing<'a> {
    name: &'static str,
    reason: &'static str,
    message: &'a str,
    since: DeviceTime,
    /// When the resize began that it speaks of; absent where it always speaks of the pod as it is.
    began: Option<DeviceTime>,
}

/// No word is the word that nothing is being resized.
pub(super) fn all(conditions: &Conditions<'_>, word: Option<&WorkloadStatus>) -> Vec<PodCondition> {
    let found = [
        (PENDING, word.and_then(|word| word.deferred.as_ref()).map(pending)),
        (
            IN_PROGRESS,
            word.and_then(|word| word.resizing.as_ref()).map(in_progress),
        ),
    ];
    let shown = found.into_iter().filter_map(|(name, standing)| match standing {
        Some(standing) => Some(condition(conditions, &standing)),
        None => conditions.find(name).map(|_| PodCondition {
            type_: name.to_owned(),
            ..PodCondition::default()
        }),
    });
    shown.collect()
}

fn pending(deferred: &DeferredResize) -> Standing<'_> {
    Standing {
        name: PENDING,
        reason: DEFERRED,
        message: &deferred.message,
        since: deferred.since,
        began: None,
    }
}

fn in_progress(resizing: &Resizing) -> Standing<'_> {
    let failure = resizing.failure.as_ref();
    Standing {
        name: IN_PROGRESS,
        reason: failure.map_or("", |_| ERROR),
        message: failure.map_or("", |failure| &failure.message),
        since: failure.map_or(resizing.since, |failure| failure.since),
        began: Some(resizing.since),
    }
}

/// Its time moves with its reason, and the generation that it speaks of stays as long as it speaks of the same resize.
fn condition(conditions: &Conditions<'_>, standing: &Standing<'_>) -> PodCondition {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let previous = conditions.find(standing.name);
    let now = time::whole_seconds(conditions.around.now);
    let changed = previous.and_then(|previous| previous.last_transition_time.clone());
    let reason = some(standing.reason);
    let same = changed.clone().filter(|_| {
        let before = previous.and_then(|previous| previous.reason.as_deref());
        before.unwrap_or_default() == standing.reason
    });
    let at = time::of_device(standing.since).filter(|at| *at <= now);
    let at = at.map(Time).or(same).unwrap_or(Time(now));
    let began = standing.began.and_then(time::of_device);
    let speaks_of = previous
        .and_then(|previous| previous.observed_generation)
        .filter(|_| {
            standing.began.is_some()
                && began
                    .zip(changed)
                    .is_none_or(|(began, changed)| began <= changed.0)
        });
    PodCondition {
        type_: standing.name.to_owned(),
        status: "True".to_owned(),
        reason,
        message: some(&sanitise(standing.message)),
        last_probe_time: Some(at.clone()),
        last_transition_time: Some(at),
        observed_generation: speaks_of.or(conditions.around.observed_generation),
    }
}
