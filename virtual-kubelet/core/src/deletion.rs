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
const REACTIONS: [&str; 2] = ["DeletionByTaintManager", "DeletionByPodGC"];

/// The cause of a deletion. Without a condition that says otherwise it is intent: that is what `kubectl delete` leaves.
pub fn deletion_cause(conditions: &[Condition]) -> Cause {
    let reacted = conditions.iter().any(|condition| {
        condition.kind == "DisruptionTarget"
            && condition.status == "True"
            && REACTIONS.contains(&condition.reason.as_str())
    });
    if reacted { Cause::Reaction } else { Cause::Intent }
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
        assert_eq!(deletion_cause(&[condition]), expected, "{kind} {status} {reason}");
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
        assert_eq!(deletion_cause(&[]), Cause::Intent);
    }
}
