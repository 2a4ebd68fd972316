//! How each input changes what is known. Nothing is sent from here but notes and events.

use std::collections::BTreeSet;

use edge_protocol::v1::EventLevel;
use edge_protocol::{Now, PodUid};

use super::{Bridge, tell};
use crate::disconnect::Disconnect;
use crate::entry::{End, Entry, Held};
use crate::inference::{Absence, judge_absence};
use crate::io::{DeletionCause, Effect, HeldDeployment, Input, Note, PodList, WantedPod};

impl Bridge {
    pub(super) fn absorb(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::PodsListed(list) => self.list_pods(now, list, out),
            Input::WatchedTo { resource_version } => self.evidence.watched_to(resource_version),
            Input::PodSeen(pod) if self.evidence.trusts_changes() => self.see_pod(*pod, out),
            Input::PodVanished { uid, cause } if self.evidence.trusts_changes() => {
                self.lose_pod(uid, cause, out);
            }
            Input::PodSeen(_) | Input::PodVanished { .. } | Input::Wake => {}
            Input::NodeSeen { uid } => self.node_uid = uid,
            Input::DeploymentsListed(held) => self.list_deployments(held),
            Input::DeploymentChanged(held) => self.hold(*held),
            Input::DeploymentEnded { uid } => {
                if let Some(entry) = self.entries.get_mut(&uid) {
                    entry.release_hold();
                    self.dirty.insert(uid);
                }
            }
            Input::Ended { op, outcome } => self.end(now.mono_ms, op, outcome, out),
            Input::Elsewhere(found) => self.find_elsewhere(&found, out),
            Input::BrakeReleased => self.release_brake(),
            Input::Remembered { seq } => self.ground(seq),
        }
    }

    fn list_pods(&mut self, now: Now, list: PodList, out: &mut Vec<Effect>) {
        if let Err(why) = self.evidence.judge(&list) {
            out.push(Effect::Report(Note::ListIgnored { why }));
            return;
        }
        self.drop_foreign_holds();
        self.node_uid = list.node_uid;
        self.list_due = None;
        self.forget_owners();
        let present: BTreeSet<PodUid> = list.pods.iter().map(|pod| pod.uid.clone()).collect();
        for pod in list.pods {
            self.see_pod(pod, out);
        }
        let absent: Vec<PodUid> = self
            .entries
            .keys()
            .filter(|uid| !present.contains(uid))
            .cloned()
            .collect();
        self.judge_absent(now, absent, out);
        self.dirty.extend(self.entries.keys().cloned());
    }

    /// Which of the absent count as deleted, which as released, and which wait.
    fn judge_absent(&mut self, now: Now, absent: Vec<PodUid>, out: &mut Vec<Effect>) {
        let active = self.entries.values().filter(|entry| entry.is_active()).count();
        let mut allowance = self.brake.allowance(self.config.brake, active, now);
        if self.held_over {
            allowance = 0;
        }
        let held_back_before = self.held_back();
        for uid in absent {
            let Some(entry) = self.entries.get_mut(&uid) else {
                continue;
            };
            match judge_absence(entry, self.node_uid.as_deref(), now.mono_ms) {
                Absence::Since(since) => entry.missing_since = Some(since),
                Absence::Settled => entry.pod = None,
                Absence::Released => {
                    entry.infer(End::Release);
                    out.push(Effect::Report(Note::Released { uid }));
                }
                Absence::Deleted if allowance > 0 => {
                    allowance -= 1;
                    self.brake.record(self.config.brake, now);
                    entry.infer(End::Delete { grace_period_s: None });
                }
                Absence::Deleted => {
                    entry.pod = None;
                    entry.braked = true;
                }
            }
        }
        if self.deployments_known && !self.entries.values().any(Entry::is_in_limbo) {
            self.held_over = false;
        }
        let waiting = self.held_back();
        if waiting > held_back_before {
            let allowed = self.config.brake.limit(active);
            out.push(Effect::Report(Note::BrakeHolds { waiting, allowed }));
        }
    }

    /// What waited for a memory may go out.
    fn ground(&mut self, seq: u64) {
        self.kept = self.kept.max(seq);
        self.dirty.append(&mut self.ungrounded);
    }

    fn release_brake(&mut self) {
        self.held_over = false;
        for (uid, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.braked) {
            entry.infer(End::Delete { grace_period_s: None });
            self.dirty.insert(uid.clone());
        }
    }

    fn see_pod(&mut self, pod: WantedPod, out: &mut Vec<Effect>) {
        let uid = pod.uid.clone();
        let entry = self.entries.entry(uid.clone()).or_default();
        entry.missing_since = None;
        entry.seen_under.clone_from(&self.node_uid);
        entry.braked = false;
        entry.show = true;
        if entry.fate.is_some_and(|fate| fate.inferred) {
            entry.fate = None;
        }
        match pod.deletion {
            Some(deletion) => {
                let end = end_of(deletion.cause, pod.disconnect, deletion.grace_period_s);
                if end == End::Release && entry.fate.is_none() {
                    note_release(&uid, out);
                }
                entry.decide(end);
            }
            None => match &pod.plan {
                Err(refusal) => tell(entry, &uid, refusal, out),
                Ok(_) if entry.refused_put.is_none() => entry.told = None,
                Ok(_) => {}
            },
        }
        entry.pod = Some(pod);
        self.dirty.insert(uid);
    }

    fn lose_pod(&mut self, uid: PodUid, cause: DeletionCause, out: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(&uid) else {
            return;
        };
        let asked = entry.pod.as_ref().and_then(|pod| pod.deletion);
        let grace_period_s = asked.and_then(|deletion| deletion.grace_period_s);
        let end = end_of(cause, entry.disconnect(), grace_period_s);
        if end == End::Release && entry.fate.is_none() {
            out.push(Effect::Report(Note::Released { uid: uid.clone() }));
        }
        entry.decide(end);
        entry.pod = None;
        entry.missing_since = None;
        self.dirty.insert(uid);
    }

    fn list_deployments(&mut self, listed: Vec<HeldDeployment>) {
        let present: BTreeSet<PodUid> = listed.iter().map(|held| held.spec.uid.clone()).collect();
        self.deployments_known = true;
        for held in listed {
            self.hold(held);
        }
        for (uid, entry) in &mut self.entries {
            // The hub was away, or is another now: it may have changed its mind.
            if let Some(refused) = &mut entry.refused_put {
                refused.until_ms = 0;
            }
            if !present.contains(uid) {
                forget_unlisted(entry);
            }
        }
        self.dirty.extend(self.entries.keys().cloned());
    }

    /// A deployment of another source is not ours to know.
    fn hold(&mut self, held: HeldDeployment) {
        let source = &held.spec.source;
        let pinned = self.evidence.cluster_uid();
        if source.node != self.config.node || pinned.is_some_and(|pinned| pinned != source.cluster_uid) {
            return;
        }
        let uid = held.spec.uid.clone();
        self.entries
            .entry(uid.clone())
            .or_default()
            .hold(Held::from(held));
        self.dirty.insert(uid);
    }

    /// Deployments told before the cluster was known may turn out to be another's.
    fn drop_foreign_holds(&mut self) {
        let pinned = self.evidence.cluster_uid().unwrap_or_default();
        for entry in self.entries.values_mut() {
            entry.held.take_if(|held| held.spec.source.cluster_uid != pinned);
        }
    }
}

/// A put that the hub never told back may still be under way when a list is read, so that only a call can tell whether it arrived:
/// a live pod is put again, a pod with a fate is deleted or released again and the answer is `Missing`.
fn forget_unlisted(entry: &mut Entry) {
    if entry.held.is_some() || (entry.pod.is_none() && entry.fate.is_none()) {
        entry.release_hold();
    }
    entry.confirmed = None;
}

/// Law 1: only intent stops a workload, and `outrigger.io/disconnect: replace` declares the reaction to be intent.
fn end_of(cause: DeletionCause, disconnect: Disconnect, grace_period_s: Option<u32>) -> End {
    match (cause, disconnect) {
        (DeletionCause::Reaction, Disconnect::Run | Disconnect::StopAfter { .. }) => End::Release,
        (DeletionCause::Intent, _) | (DeletionCause::Reaction, Disconnect::Replace) => {
            End::Delete { grace_period_s }
        }
    }
}

fn note_release(uid: &PodUid, out: &mut Vec<Effect>) {
    out.push(Effect::Report(Note::Released { uid: uid.clone() }));
    out.push(Effect::Event {
        uid: uid.clone(),
        level: EventLevel::Warning,
        reason: "WorkloadReleased",
        message: "Kubernetes gave this pod up because its node was silent, which is no one's intent: the devices keep its \
                  containers until a successor takes over"
            .to_owned(),
    });
}
