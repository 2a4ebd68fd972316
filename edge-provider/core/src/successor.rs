//! Whose place a new pod takes on the devices: orphans of its own line, and with `update: replace` the revision before it.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::PodUid;
use edge_protocol::v1::{DeploymentState, Manifest};

use crate::entry::Entry;
use crate::io::{PodPlan, UpdateStrategy, WantedPod};

/// Labels by which controllers tell the revisions of one owner apart (Deployment; DaemonSet and StatefulSet).
const REVISION_LABELS: [&str; 2] = ["pod-template-hash", "controller-revision-hash"];

/// A predecessor whose fate is not yet known, so that the first put of `pod` must wait: put now, it would run beside what may be
/// its own orphan, and nothing would ever replace that.
pub fn undecided_predecessor<'e>(
    entries: &'e BTreeMap<PodUid, Entry>,
    pod: &WantedPod,
) -> Option<&'e PodUid> {
    entries
        .iter()
        .find(|(uid, entry)| **uid != pod.uid && entry.is_in_limbo() && is_same_line(entry, pod))
        .map(|(uid, _)| uid)
}

/// What the first put of `pod` replaces: at most one orphan of its line that no other claims, with [`UpdateStrategy::Replace`] every
/// unclaimed active deployment of the same owner with another revision label, and what these were to replace themselves and may not have
/// replaced on every device.
pub fn replaces(entries: &BTreeMap<PodUid, Entry>, pod: &WantedPod, plan: &PodPlan) -> Vec<PodUid> {
    let claimed = claimed(entries, Some(&pod.uid));
    let others = || {
        entries
            .iter()
            .filter(|(uid, _)| **uid != pod.uid && !claimed.contains(uid))
    };
    let orphan = others().find(|(_, entry)| entry.is_orphan() && is_same_line(entry, pod));
    let older = others().filter(|(_, entry)| {
        plan.update == UpdateStrategy::Replace
            && entry.is_active()
            && !entry.is_orphan()
            && is_same_owner(entry, pod)
            && is_other_revision(entry, &plan.manifest)
    });
    let found = orphan.into_iter().chain(older).map(|(uid, _)| uid.clone());
    with_those_behind(entries, found.collect())
}

/// With what these replace, and what that replaces in turn: all their places pass to the successor of the last.
fn with_those_behind(entries: &BTreeMap<PodUid, Entry>, mut found: Vec<PodUid>) -> Vec<PodUid> {
    let mut next = 0;
    while let Some(uid) = found.get(next) {
        let held = entries.get(uid).and_then(|entry| entry.held.as_ref());
        let manifest = held.and_then(|held| held.manifest.as_ref());
        let behind = manifest.into_iter().flat_map(|manifest| &manifest.replaces);
        let has_place = |older: &PodUid| {
            let entry = entries.get(older);
            entry.is_some_and(|entry| entry.is_orphan() || entry.is_active())
        };
        let new: Vec<PodUid> = behind
            .filter(|older| has_place(older) && !found.contains(older))
            .cloned()
            .collect();
        found.extend(new);
        next += 1;
    }
    found
}

/// Of the same controller, or of the same name where there is none to compare; never of another namespace, whose tenants' pods could
/// otherwise name a stranger's controller in their own owner references.
fn is_same_line(entry: &Entry, pod: &WantedPod) -> bool {
    let same_name = entry.held.as_ref().is_some_and(|held| held.spec.name == pod.name);
    (same_name && entry.namespace() == Some(&pod.namespace)) || is_same_owner(entry, pod)
}

fn is_same_owner(entry: &Entry, pod: &WantedPod) -> bool {
    match (entry.owner(), &pod.owner) {
        (Some(theirs), Some(ours)) => {
            theirs.uid == ours.uid && theirs.kind == ours.kind && entry.namespace() == Some(&pod.namespace)
        }
        _ => false,
    }
}

fn is_other_revision(entry: &Entry, ours: &Manifest) -> bool {
    let Some(theirs) = entry.held.as_ref().and_then(|held| held.manifest.as_ref()) else {
        return false;
    };
    REVISION_LABELS.iter().any(
        |label| match (theirs.labels.get(*label), ours.labels.get(*label)) {
            (Some(theirs), Some(ours)) => theirs != ours,
            _ => false,
        },
    )
}

/// Whether another pod of the same controller and revision is alive here: both run on every device that they target. The old and
/// the new pod of an update, or a pod and the one that replaces it, are not that.
pub fn is_multiplied(entries: &BTreeMap<PodUid, Entry>, pod: &WantedPod, plan: &PodPlan) -> bool {
    let is_twin = |entry: &Entry| {
        let other = entry
            .pod
            .as_ref()
            .filter(|_| entry.is_seen() && entry.fate.is_none());
        other.is_some_and(|other| {
            let same = other
                .plan
                .as_ref()
                .is_ok_and(|theirs| is_same_revision(&theirs.manifest, &plan.manifest));
            same && other.deletion.is_none() && !other.terminal
        })
    };
    entries
        .iter()
        .any(|(uid, entry)| *uid != pod.uid && is_same_owner(entry, pod) && is_twin(entry))
}

fn is_same_revision(one: &Manifest, other: &Manifest) -> bool {
    REVISION_LABELS
        .iter()
        .all(|label| one.labels.get(*label) == other.labels.get(*label))
}

/// What unseen puts and live deployments already replace, but for those of `except`. A deployment that is itself being deleted claims
/// nothing any more.
pub fn claimed(entries: &BTreeMap<PodUid, Entry>, except: Option<&PodUid>) -> BTreeSet<PodUid> {
    let mut claimed = BTreeSet::new();
    for (_, entry) in entries.iter().filter(|(uid, _)| Some(*uid) != except) {
        let live = |state| !matches!(state, DeploymentState::Deleting { .. });
        if let Some(held) = entry.held.as_ref().filter(|held| live(held.state)) {
            claimed.extend(
                held.manifest
                    .iter()
                    .flat_map(|manifest| manifest.replaces.clone()),
            );
        }
        if let Some(spec) = &entry.last_put {
            claimed.extend(read_replaces(&spec.manifest));
        }
    }
    claimed
}

/// What a manifest replaces; none when the bytes are no manifest.
pub fn read_replaces(manifest: &str) -> Vec<PodUid> {
    serde_json::from_str::<Manifest>(manifest)
        .map(|manifest| manifest.replaces)
        .unwrap_or_default()
}
