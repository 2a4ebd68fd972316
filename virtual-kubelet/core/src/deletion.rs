//! Why a pod is being deleted, read from its conditions.

use serde::Deserialize;

/// Only intent stops a workload (law 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A person or a controller wants this pod gone.
    Intent,
    /// Kubernetes reacted to the silence of a node.
    Reaction,
}

/// A condition of any object, as far as a decision reads it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    #[serde(default)]
    pub reason: String,
}

/// The reasons of `DisruptionTarget` that controllers give when they act on a silent or missing node; the others
/// (`EvictionByEvictionAPI`, `PreemptionByScheduler`, `TerminationByKubelet`) are someone's intent.
/// `k8s.io/api/core/v1` `PodReason…`, KEP-3329.
const REACTIONS: [&str; 2] = [BY_TAINT, "DeletionByPodGC"];
const BY_TAINT: &str = "DeletionByTaintManager";

/// The cause of a deletion. Without a condition that says otherwise it is intent: that is what `kubectl delete` leaves.
///
/// The taint manager acts on silence and on what a person tainted alike: `driven_away` says that its Node bears such a taint
/// ([`drives_away`](crate::taint::drives_away)), and then it is intent too.
pub fn deletion_cause(conditions: &[Condition], driven_away: bool) -> Cause {
    let reacted =
        reasons(conditions).any(|reason| REACTIONS.contains(&reason) && !(driven_away && reason == BY_TAINT));
    if reacted { Cause::Reaction } else { Cause::Intent }
}

/// Whether the taint manager deleted it, so that what its Node bears decides.
pub fn is_by_taint(conditions: &[Condition]) -> bool {
    reasons(conditions).any(|reason| reason == BY_TAINT)
}

fn reasons(conditions: &[Condition]) -> impl Iterator<Item = &str> {
    let told = |condition: &&Condition| condition.kind == "DisruptionTarget" && condition.status == "True";
    conditions
        .iter()
        .filter(told)
        .map(|condition| condition.reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &str, status: &str, reason: &str, expected: Cause) {
        let condition = Condition {
            kind: kind.into(),
            status: status.into(),
            reason: reason.into(),
        };
        assert_eq!(
            deletion_cause(&[condition], false),
            expected,
            "{kind} {status} {reason}"
        );
    }

    #[test]
    fn only_the_controllers_of_silence_react() {
        check(
            "DisruptionTarget",
            "True",
            "DeletionByTaintManager",
            Cause::Reaction,
        );
        check("DisruptionTarget", "True", "DeletionByPodGC", Cause::Reaction);
        check("DisruptionTarget", "False", "DeletionByPodGC", Cause::Intent);
        check("Ready", "True", "DeletionByPodGC", Cause::Intent);
        for reason in [
            "EvictionByEvictionAPI",
            "PreemptionByScheduler",
            "TerminationByKubelet",
            "",
        ] {
            check("DisruptionTarget", "True", reason, Cause::Intent);
        }
        assert_eq!(deletion_cause(&[], false), Cause::Intent);
    }

    #[test]
    fn what_a_person_tainted_is_meant() {
        let by = |reason: &str| {
            [Condition {
                kind: "DisruptionTarget".into(),
                status: "True".into(),
                reason: reason.into(),
            }]
        };
        assert_eq!(deletion_cause(&by(BY_TAINT), true), Cause::Intent);
        assert_eq!(deletion_cause(&by("DeletionByPodGC"), true), Cause::Reaction);
        assert!(is_by_taint(&by(BY_TAINT)) && !is_by_taint(&by("DeletionByPodGC")));
    }
}
