//! What controllers do: they replace, scale down and collect pods, and give up those that they hear nothing of.

use edge_protocol::PodUid;
use edge_provider_core::{Deletion, DeletionCause, Disconnect};

use crate::coverage::Path;
use crate::event::UserEvent;
use crate::pods::Pod;
use crate::trace::say;
use crate::world::World;

impl World {
    /// What controllers do in the end with the older revisions of an owner.
    pub(crate) fn scale_down(&mut self) {
        let pods = || self.api.pods.values().filter(|pod| pod.deletion.is_none());
        let is_old = |pod: &&Pod| {
            pod.owner.is_some()
                && pods().any(|other| other.owner == pod.owner && other.template > pod.template)
        };
        let old: Vec<PodUid> = pods().filter(is_old).map(|pod| pod.uid.clone()).collect();
        for uid in old {
            self.delete(&uid, 5);
        }
    }

    /// The same pod once more, by its controller or by the name that someone applies again.
    pub(super) fn replace(&mut self, old: &PodUid) {
        let Some(pod) = self.users_copy(old) else { return };
        let newer = |other: &Pod| other.owner == pod.owner && other.template > pod.template;
        if pod.owner.is_some() && self.api.pods.values().any(newer) {
            // Its controller is scaling that revision down.
            return;
        }
        if pod.owner.is_none() && self.api.pods.values().any(|other| other.name == pod.name) {
            return self.user(1_000, 4_000, UserEvent::Replace(old.clone()));
        }
        let uid = self.new_uid();
        let name = if pod.owner.is_some() {
            uid.to_string()
        } else {
            pod.name.clone()
        };
        let next = Pod {
            name,
            uid,
            deletion: None,
            shown: None,
            finalizer: false,
            finished: false,
            ..pod
        };
        say!(self, "controller", "replaces {old} by {}", next.uid);
        self.add(next);
        if self.calm_at.is_some() {
            // The copy may be of a time when its secret was not there.
            self.make_missing_objects();
        }
    }

    fn users_copy(&self, uid: &PodUid) -> Option<Pod> {
        self.api
            .pods
            .get(uid)
            .or_else(|| self.api.copies.get(uid))
            .cloned()
    }

    /// The taint manager gives pods up.
    pub(super) fn evict(&mut self, live: &[PodUid]) {
        let from = self.rng.below(live.len());
        let count = 1 + self.rng.below(live.len());
        for uid in live.iter().skip(from).take(count) {
            self.give_up(uid, 30);
            self.pod_changed(uid);
        }
    }

    fn give_up(&mut self, uid: &PodUid, grace_s: u32) {
        let Some(pod) = self.api.pods.get_mut(uid) else {
            return;
        };
        self.coverage.met(Path::GivenUp);
        say!(self, "controller", "gives {uid} up");
        pod.deletion = Some(Deletion {
            grace_period_s: Some(grace_s),
            cause: DeletionCause::Reaction,
        });
        if pod.disconnect == Disconnect::Replace {
            self.api.intended.insert(uid.clone());
        }
        let (copy, finalizer) = (pod.clone(), pod.finalizer);
        self.api.copies.insert(uid.clone(), copy);
        if finalizer {
            self.user(2_000, 40_000, UserEvent::RemoveFinalizer(uid.clone()));
        }
        if self.rng.below(4) > 0 {
            self.user(500, 6_000, UserEvent::Replace(uid.clone()));
        }
    }

    pub(super) fn delete_node(&mut self) {
        if self.api.node.take().is_some() {
            self.coverage.met(Path::NodeDeleted);
            self.api.bump();
            self.node_changed();
            let round = self.api.resource_version;
            self.user(3_000, 40_000, UserEvent::CollectPods(round));
        }
    }

    /// The garbage collector removes pods of a node that is not there.
    pub(super) fn collect_pods(&mut self, _round: u64) {
        if self.api.node.is_some() {
            return;
        }
        let all: Vec<PodUid> = self.api.pods.keys().cloned().collect();
        for uid in all {
            if self.api.pods.get(&uid).is_some_and(|pod| pod.finalizer) {
                continue;
            }
            self.give_up(&uid, 0);
            if let Some(pod) = self.api.remove(&uid) {
                self.coverage.met(Path::Collected);
                self.api.collected.insert(uid);
                self.pod_gone(&pod);
            }
        }
    }
}
