//! Which pods may be on the Node: each is judged once, when it is new, by the Node as the API server has it then.
//!
//! A kubelet does not judge again what it once took in (`skipIgnorableChecks` of `pkg/kubelet/lifecycle/predicate.go`), and labels and taints
//! may change later. What has started, or is at the hub, was taken in, whoever did it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_protocol::PodUid;
use edge_provider_core::PodRefusal;
use virtual_kubelet::ObservedPod;
use virtual_kubelet::core::admission::{self, NodeFacts, Rejection};

use crate::reading::READING;

/// What was found of the pods of one node.
#[derive(Debug, Default)]
pub(super) struct Admissions {
    node: Option<Arc<NodeFacts>>,
    /// Whether the hub has said what it holds: before that, a pod that runs may look new.
    hub_is_known: bool,
    verdicts: BTreeMap<PodUid, Verdict>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Its Node, or what the hub holds, is not known yet.
    Waits,
    Admitted,
    Rejected(Rejection),
}

impl Admissions {
    /// Whether the pod may be on the Node; a refusal by [`READING`] means that it is not known yet. `is_held` says whether the hub has it.
    ///
    /// # Errors
    /// It may not, or not yet.
    pub(super) fn judge(&mut self, uid: &PodUid, pod: &ObservedPod, is_held: bool) -> Result<(), PodRefusal> {
        let verdict = match self.verdicts.get(uid) {
            _ if is_held => Verdict::Admitted,
            Some(known @ (Verdict::Admitted | Verdict::Rejected(_))) => known.clone(),
            None if has_started(pod) => Verdict::Admitted,
            _ if is_ending(pod) => Verdict::Admitted,
            // What waits may have been shown as seen by us: on the fleet node that is a start.
            Some(Verdict::Waits) | None => self.find(pod),
        };
        self.verdicts.insert(uid.clone(), verdict.clone());
        let (reason, message) = match verdict {
            Verdict::Admitted => return Ok(()),
            Verdict::Waits => (READING, ""),
            Verdict::Rejected(Rejection { reason, message }) => (reason, message),
        };
        Err(PodRefusal {
            reason,
            message: message.to_owned(),
        })
    }

    fn find(&self, pod: &ObservedPod) -> Verdict {
        match &self.node {
            Some(node) if self.hub_is_known => match admission::judge(&pod.raw, node) {
                Some(rejection) => Verdict::Rejected(rejection),
                None => Verdict::Admitted,
            },
            _ if admission::asks_of_labels(&pod.raw) => Verdict::Waits,
            // A taint alone is no reason to wait: who put it there drives the pod away.
            _ => Verdict::Admitted,
        }
    }

    /// The Node as it is now. Gives the pods that waited for that.
    pub(super) fn learn(&mut self, node: Option<Arc<NodeFacts>>) -> BTreeSet<PodUid> {
        self.node = node;
        self.waiting()
    }

    /// The hub has said what it holds. Gives the pods that waited for that.
    pub(super) fn know_hub(&mut self) -> BTreeSet<PodUid> {
        self.hub_is_known = true;
        self.waiting()
    }

    fn waiting(&self) -> BTreeSet<PodUid> {
        let is_known = self.node.is_some() && self.hub_is_known;
        let waits = self
            .verdicts
            .iter()
            .filter(|(_, verdict)| is_known && **verdict == Verdict::Waits);
        waits.map(|(uid, _)| uid.clone()).collect()
    }

    pub(super) fn forget(&mut self, uid: &PodUid) {
        self.verdicts.remove(uid);
    }

    /// Only these are left.
    pub(super) fn retain(&mut self, keep: impl Fn(&PodUid) -> bool) {
        self.verdicts.retain(|uid, _| keep(uid));
    }
}

/// Somebody took it in before.
fn has_started(pod: &ObservedPod) -> bool {
    let started = pod.status().and_then(|status| status.get("startTime"));
    started.is_some_and(|at| !at.is_null())
}

/// There is nothing to take in any more.
fn is_ending(pod: &ObservedPod) -> bool {
    pod.is_terminal() || pod.deletion().is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn uid() -> PodUid {
        PodUid::new("u1").unwrap()
    }

    fn pod(hall: Option<&str>, status: &Value) -> ObservedPod {
        let selector = hall.map(|hall| json!({"hall": hall}));
        ObservedPod {
            uid: "u1".into(),
            namespace: "shop".into(),
            name: "web".into(),
            raw: json!({"metadata": {}, "spec": {"nodeSelector": selector}, "status": status}),
            owner: None,
            namespace_labels: BTreeMap::new(),
            driven_away: false,
        }
    }

    fn node(hall: &str, taints: &Value) -> Arc<NodeFacts> {
        let node =
            json!({"metadata": {"name": "press-7", "labels": {"hall": hall}}, "spec": {"taints": taints}});
        Arc::new(NodeFacts::of(&node))
    }

    fn knowing(hall: &str) -> Admissions {
        let mut admissions = Admissions::default();
        admissions.know_hub();
        admissions.learn(Some(node(hall, &json!([]))));
        admissions
    }

    /// The reason against a pod, of which the hub has nothing.
    fn judged(admissions: &mut Admissions, pod: &ObservedPod) -> Option<&'static str> {
        let judged = admissions.judge(&uid(), pod, false);
        judged.err().map(|refusal| refusal.reason)
    }

    #[test]
    fn a_new_pod_waits_for_its_node_and_for_the_hub() {
        let asks = pod(Some("8"), &json!({}));
        let mut admissions = Admissions::default();
        assert_eq!(judged(&mut admissions, &asks), Some(READING));
        assert!(admissions.learn(Some(node("7", &json!([])))).is_empty());
        assert_eq!(judged(&mut admissions, &asks), Some(READING));
        assert_eq!(admissions.know_hub(), [uid()].into());
        // What waited is no older for having been shown.
        let shown = pod(
            Some("8"),
            &json!({"phase": "Pending", "startTime": "2026-11-21T00:00:00Z"}),
        );
        assert_eq!(judged(&mut admissions, &shown), Some(admission::NODE_AFFINITY));
    }

    #[test]
    fn what_asks_nothing_waits_for_nothing() {
        let asks_nothing = pod(None, &json!({}));
        assert_eq!(judged(&mut Admissions::default(), &asks_nothing), None);
        let mut tainted = knowing("7");
        tainted.learn(Some(node("7", &json!([{"key": "mine", "effect": "NoExecute"}]))));
        let reason = Some(admission::TAINT_TOLERATION);
        assert_eq!(judged(&mut tainted, &asks_nothing), reason);
    }

    #[test]
    fn what_was_judged_is_not_judged_again() {
        let mut admissions = knowing("7");
        let asks = pod(Some("7"), &json!({}));
        assert_eq!(judged(&mut admissions, &asks), None);
        assert!(admissions.learn(Some(node("8", &json!([])))).is_empty());
        assert_eq!(judged(&mut admissions, &asks), None);
        // A rejection is final too, but for what the hub has.
        let mut admissions = knowing("8");
        assert_eq!(judged(&mut admissions, &asks), Some(admission::NODE_AFFINITY));
        admissions.learn(Some(node("7", &json!([]))));
        assert_eq!(judged(&mut admissions, &asks), Some(admission::NODE_AFFINITY));
        assert_eq!(admissions.judge(&uid(), &asks, true), Ok(()));
        // Another of that name is another.
        admissions.forget(&uid());
        assert_eq!(judged(&mut admissions, &asks), None);
    }

    #[test]
    fn what_started_or_is_at_the_hub_was_taken_in() {
        let mut old = knowing("8");
        let started = pod(Some("7"), &json!({"startTime": "2026-11-21T00:00:00Z"}));
        assert_eq!(judged(&mut old, &started), None);
        let ended = pod(Some("7"), &json!({"phase": "Failed"}));
        assert_eq!(judged(&mut knowing("8"), &ended), None);
        let new = pod(Some("7"), &json!({"startTime": null}));
        assert_eq!(knowing("8").judge(&uid(), &new, true), Ok(()));
        assert_eq!(judged(&mut knowing("8"), &new), Some(admission::NODE_AFFINITY));
    }
}
