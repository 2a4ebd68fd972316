//! Which of several processes for the same node writes: a lease that is taken over when its holder stops renewing it.
//!
//! As client-go's `leaderelection`: a holder's clock is never compared with ours. What counts is for how long, by our own monotonic
//! clock, the lease was not seen to change.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::lease::{LeaseAction, LeaseFacts, LeaseSpec, micro_time};

/// A lease not seen to change for this long is free. With the tries below, a standby takes over within 15 s of the last renewal when
/// the API server answers. client-go's default is 15 s and a try every 2 s, which would be 17.
pub const DURATION_MS: u64 = 13_000;
/// A leader that could not renew for this long stops writing, before any other may begin: client-go's default.
pub const RENEW_DEADLINE_MS: u64 = 10_000;
/// How long one try may take: an API server that needs several seconds per call does not end a leader, and one lost answer leaves
/// time for a second try.
pub const TRY_MS: u64 = 4_000;
/// Where the lease carries what a leader leaves to the next one. It is opaque here; every renewal writes it.
pub const MEMORY: &str = "outrigger.io/evidence";
/// Where it carries what the process leaves beside the memories of its nodes.
pub const PROCESS: &str = "outrigger.io/process";
/// Before the name of a further node of the same process, whose memory is apart.
const MEMORY_OF: &str = "evidence.outrigger.io/";

/// The annotation of a node other than the one that the lease is named for. The node's name is a label.
pub fn memory_of(node: &str) -> String {
    format!("{MEMORY_OF}{node}")
}

/// What of a lease's annotations is memory.
pub fn memories(annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_memory =
        |(key, _): &(String, String)| key == MEMORY || key == PROCESS || key.starts_with(MEMORY_OF);
    annotations.into_iter().filter(is_memory).collect()
}
/// What a leader leaves, by annotation; `None` is nothing any more.
pub type LeftTexts = BTreeMap<String, Option<String>>;

/// Between two tries, of leader and standby alike.
pub const RETRY_MS: u64 = 1_000;

/// One candidate for one lease.
#[derive(Debug)]
pub struct Leader {
    namespace: String,
    name: String,
    identity: String,
    /// The lease as last seen, and since when it has been like that.
    observed: Option<(LeaseSpec, u64)>,
    /// The lease as this process last wrote it.
    held: Option<LeaseFacts>,
    /// When the write that last succeeded was begun.
    renewed_at: Option<u64>,
    memory: LeftTexts,
}

/// What to do after a look at the lease.
#[derive(Debug, Clone, PartialEq)]
pub enum LeaderStep {
    /// Write this; when it succeeded, tell by [`Leader::written`].
    Write(LeaseAction),
    /// Another leads; look again after [`RETRY_MS`].
    Wait { holder: String },
}

impl Leader {
    /// `identity` is unique to this process.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            observed: None,
            held: None,
            renewed_at: None,
            memory: BTreeMap::new(),
        }
    }

    /// What the next write leaves to the next leader, by annotation. What is not named here stays as the lease carries it.
    pub fn remember(&mut self, memory: LeftTexts) {
        self.memory = memory;
    }

    /// The body that renews the lease as it was last written, if this process has written it: no look is needed while nobody else
    /// writes (client-go's `tryAcquireOrRenew` does the same). Refused, the lease must be looked at.
    pub fn renewal(&self, wall: Timestamp) -> Option<Value> {
        Some(self.body(Some(self.held.as_ref()?), wall))
    }

    /// Decides on the lease as just read; `None` when there is none.
    pub fn look(&mut self, lease: Option<&LeaseFacts>, mono_ms: u64, wall: Timestamp) -> LeaderStep {
        self.held = None;
        let Some(lease) = lease else {
            self.observed = None;
            return LeaderStep::Write(LeaseAction::Create(self.body(None, wall)));
        };
        if self.observed.as_ref().is_none_or(|(spec, _)| *spec != lease.spec) {
            self.observed = Some((lease.spec.clone(), mono_ms));
        }
        let holder = lease.spec.holder_identity.clone().unwrap_or_default();
        let since = self.observed.as_ref().map_or(mono_ms, |(_, since)| *since);
        let is_ours = holder == self.identity;
        let is_free = holder.is_empty() || mono_ms.saturating_sub(since) >= DURATION_MS;
        if is_ours || is_free {
            LeaderStep::Write(LeaseAction::Put(self.body(Some(lease), wall)))
        } else {
            LeaderStep::Wait { holder }
        }
    }

    /// A write that was begun at `mono_ms` succeeded, and this is the lease now.
    pub fn written(&mut self, mono_ms: u64, lease: LeaseFacts) {
        self.renewed_at = Some(mono_ms);
        self.held = Some(lease);
    }

    /// A write was not answered: it may have arrived, so the lease must be looked at before the next.
    pub fn unanswered(&mut self) {
        self.held = None;
    }

    /// How long this process leads yet without another renewal; `None` before the first.
    pub fn time_left_ms(&self, mono_ms: u64) -> Option<u64> {
        let until = self.renewed_at?.saturating_add(RENEW_DEADLINE_MS);
        Some(until.saturating_sub(mono_ms))
    }

    /// Whether this process may write to the cluster now.
    pub fn leads(&self, mono_ms: u64) -> bool {
        self.time_left_ms(mono_ms).is_some_and(|left| left > 0)
    }

    /// The body that gives the lease up, so that a standby need not wait; only a leader writes it.
    pub fn resignation(&self, lease: &LeaseFacts, wall: Timestamp) -> Option<Value> {
        if lease.spec.holder_identity.as_deref() != Some(&self.identity) {
            return None;
        }
        let mut body = self.body(Some(lease), wall);
        body["spec"]["holderIdentity"] = json!("");
        body["spec"]["leaseDurationSeconds"] = json!(1);
        Some(body)
    }

    fn body(&self, lease: Option<&LeaseFacts>, wall: Timestamp) -> Value {
        let spec = lease.map(|lease| &lease.spec);
        let is_ours = spec.is_some_and(|spec| spec.holder_identity.as_deref() == Some(&self.identity));
        let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let acquired = spec
            .filter(|_| is_ours)
            .and_then(|spec| spec.acquire_time.clone());
        let mut metadata = json!({"name": self.name, "namespace": self.namespace});
        // A PUT replaces the whole object: what others wrote on it is kept.
        let mut annotations = lease
            .map(|lease| lease.metadata.annotations.clone())
            .unwrap_or_default();
        for (key, text) in &self.memory {
            match text {
                Some(text) => drop(annotations.insert(key.clone(), text.clone())),
                None => drop(annotations.remove(key)),
            }
        }
        metadata["annotations"] = json!(annotations);
        if let Some(lease) = lease {
            metadata["resourceVersion"] = json!(lease.metadata.resource_version);
        }
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": DURATION_MS / 1000,
                "leaseTransitions": transitions + i64::from(lease.is_some() && !is_ours),
                "acquireTime": acquired.unwrap_or_else(|| micro_time(wall)),
                "renewTime": micro_time(wall),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn lease(holder: &str, renewed: &str) -> LeaseFacts {
        serde_json::from_value(json!({
            "metadata": {"resourceVersion": "5"},
            "spec": {"holderIdentity": holder, "renewTime": renewed, "leaseTransitions": 3},
        }))
        .unwrap()
    }

    fn writes(step: &LeaderStep) -> bool {
        matches!(step, LeaderStep::Write(_))
    }

    #[test]
    fn a_standby_takes_over_after_silence_by_its_own_clock() {
        let mut standby = Leader::new("ns", "node", "b");
        assert!(!writes(&standby.look(Some(&lease("a", "1")), 0, wall())));
        assert!(
            !writes(&standby.look(Some(&lease("a", "2")), 12_000, wall())),
            "it was renewed"
        );
        assert!(!writes(&standby.look(Some(&lease("a", "2")), 24_999, wall())));
        let step = standby.look(Some(&lease("a", "2")), 25_000, wall());
        let LeaderStep::Write(LeaseAction::Put(body)) = step else {
            panic!("{step:?}")
        };
        assert_eq!(body["spec"]["leaseTransitions"], 4);
        assert_eq!(body["metadata"]["resourceVersion"], "5");
    }

    #[test]
    fn a_free_or_absent_lease_is_taken_at_once() {
        let mut leader = Leader::new("ns", "node", "b");
        assert!(matches!(
            leader.look(None, 0, wall()),
            LeaderStep::Write(LeaseAction::Create(_))
        ));
        assert!(writes(&leader.look(Some(&lease("", "1")), 0, wall())));
        assert!(writes(&leader.look(Some(&lease("b", "1")), 0, wall())));
    }

    #[test]
    fn a_leader_stops_before_another_may_begin() {
        let mut leader = Leader::new("ns", "node", "a");
        assert!(!leader.leads(0));
        leader.written(1_000, lease("a", "1"));
        assert!(leader.leads(10_999));
        assert!(!leader.leads(11_000));
        assert_eq!(leader.time_left_ms(4_000), Some(7_000));
        const { assert!(RENEW_DEADLINE_MS + 2_000 < DURATION_MS && DURATION_MS + RETRY_MS < 15_000) };
        // A try that hangs leaves time for another, however slow.
        const { assert!(TRY_MS + RETRY_MS + TRY_MS < RENEW_DEADLINE_MS) };
    }

    #[test]
    fn a_renewal_needs_no_look_until_it_is_refused() {
        let mut leader = Leader::new("ns", "node", "a");
        assert!(leader.renewal(wall()).is_none());
        leader.written(0, lease("a", "1"));
        for _ in 0..2 {
            let body = leader.renewal(wall()).unwrap();
            assert_eq!(body["metadata"]["resourceVersion"], "5");
            assert_eq!(body["spec"]["leaseTransitions"], 3);
        }
        leader.look(Some(&lease("b", "2")), 0, wall());
        assert!(leader.renewal(wall()).is_none(), "it is not ours any more");
    }

    #[test]
    fn only_the_holder_resigns() {
        let leader = Leader::new("ns", "node", "a");
        assert!(leader.resignation(&lease("b", "1"), wall()).is_none());
        let body = leader.resignation(&lease("a", "1"), wall()).unwrap();
        assert_eq!(body["spec"]["holderIdentity"], "");
    }

    #[test]
    fn what_a_leader_remembers_outlives_it_in_the_lease() {
        let annotated = |annotations: Value| -> LeaseFacts {
            let mut lease = json!({"metadata": {"resourceVersion": "5"}, "spec": {"holderIdentity": "a"}});
            lease["metadata"]["annotations"] = annotations;
            serde_json::from_value(lease).unwrap()
        };
        let written = |leader: &mut Leader, lease: &LeaseFacts| match leader.look(Some(lease), 0, wall()) {
            LeaderStep::Write(LeaseAction::Put(body)) => body["metadata"]["annotations"].clone(),
            step => panic!("{step:?}"),
        };
        let mut leader = Leader::new("ns", "node", "a");
        let before = json!({"theirs": "x", MEMORY: "old"});
        assert_eq!(written(&mut leader, &annotated(before.clone())), before);
        leader.remember(BTreeMap::from([(MEMORY.to_owned(), Some("new".to_owned()))]));
        let after = json!({"theirs": "x", MEMORY: "new"});
        assert_eq!(written(&mut leader, &annotated(before.clone())), after);
        assert_eq!(
            written(&mut leader, &annotated(json!({}))),
            json!({MEMORY: "new"})
        );
        let resigned = leader.resignation(&annotated(before), wall()).unwrap();
        assert_eq!(resigned["metadata"]["annotations"], after);
        let LeaderStep::Write(LeaseAction::Create(body)) = leader.look(None, 0, wall()) else {
            panic!("an absent lease is created")
        };
        assert_eq!(
            body["metadata"]["annotations"],
            json!({MEMORY: "new"}),
            "a deleted lease too"
        );
        let gone = memory_of("press-7");
        leader.remember(BTreeMap::from([(gone.clone(), None)]));
        let carried = annotated(json!({gone: "old", memory_of("press-8"): "other"}));
        assert_eq!(
            written(&mut leader, &carried),
            json!({memory_of("press-8"): "other"}),
            "what is forgotten is taken out, and nothing else"
        );
    }
}
