//! What the judges let pass and what the weather spares the machines, all of it, each with its reason.
//!
//! An exemption is a promise that is not kept yet, or a limit of the simulation. Each is counted where it changes a verdict, and a run shows
//! the counts: one that is never used can go, and so must one whose fault is mended. Nobody adds one to make a seed pass without
//! saying here why the machines are right.
//!
//! Judges let pass:
//!
//! * [`waits_for_person`](World::waits_for_person): a restored hub contradicts a device, which keeps what it runs in quarantine. What is in
//!   quarantine waits for a person (law 4), so it neither ends nor changes, and a pod it belongs to does not settle.
//! * [`lost_its_place`](World::lost_its_place): an orphan whose successor ran on the device does not come back when the successor goes: its
//!   containers went with the takeover, and nobody asks for new ones. The hub lists it until a person removes it.
//! * [`was_released_before_restore`](World::was_released_before_restore): a hub that is restored to before a pod's release wants it again, and
//!   nobody else knows of the release, for the pod's object is gone. Its absence from lists then counts as a deletion (law 2), and what
//!   was an orphan ends. Law 1 would have it kept: to be mended in the bridge, which could release what it learns of by a restore only.
//! * [`knows_not_of_its_restore`](World::knows_not_of_its_restore): a hub learns that its store is an older one from the first device that
//!   holds a later set. Until then it may give a generation that was used before another content; the device calls that a conflict.
//! * [`was_once_out_of_target`](World::was_once_out_of_target): when which tags reached hub and device is known to no judge, so a device that
//!   was out of a pod's target at any time since may end it. A device that moves back in is therefore judged too mildly.
//! * [`lacks_objects`](World::lacks_objects): an orphan whose pod went before its secret was there never ran, and nothing brings that secret
//!   any more. It waits for its successor or for a person, as a container of a kubelet waits for a missing secret.
//!
//! Weather spares:
//!
//! * A bridge whose configuration names no cluster is not told of another one by its very first list, which pins what it tells of. Later
//!   lives are: the pin is in what they remember.
//! * Two lists in a row are never both lies: by law 2 two complete lists without a pod, a minute apart, are the truth.
//! * A terminal phase stays when a restored hub tells of earlier times: translating a roll-up to a pod's status keeps it (`translate`), which
//!   is not part of this world.

use edge_protocol::PodUid;
use edge_protocol::v1::Manifest;

use crate::coverage::Path;
use crate::event::At;
use crate::world::World;

impl World {
    pub(crate) fn waits_for_person(&self, at: At, uid: &PodUid) -> bool {
        let items = self.devices[at].disk.quarantine();
        let waits = items
            .iter()
            .any(|item| item.uid == *uid || self.replaces(uid, &item.uid));
        self.excused(Path::WaitsForPerson, waits)
    }

    /// On one device or another.
    pub(crate) fn waits_for_person_anywhere(&self, uid: &PodUid) -> bool {
        (0..self.devices.len()).any(|at| self.waits_for_person(at, uid))
    }

    pub(crate) fn lost_its_place(&self, at: At, uid: &PodUid) -> bool {
        let lost = self.ledger.taken.contains(&(at, uid.clone()));
        self.excused(Path::LostItsPlace, lost)
    }

    pub(crate) fn was_released_before_restore(&self, uid: &PodUid) -> bool {
        let released = self.ledger.restored && self.api.gone.get(uid).is_some_and(|gone| !gone.intended);
        self.excused(Path::ReleasedBeforeRestore, released)
    }

    pub(crate) fn knows_not_of_its_restore(&self) -> bool {
        self.excused(Path::KnowsNotOfRestore, self.ledger.restored)
    }

    pub(crate) fn was_once_out_of_target(&self, at: At, uid: &PodUid) -> bool {
        let Some((Some(zone), since)) = self.ledger.pods.get(uid) else {
            return false;
        };
        let mut history = self.ledger.zones.iter().filter(|(of, ..)| *of == at).peekable();
        while let Some((_, _, had)) = history.next() {
            let until = history.peek().map_or(u64::MAX, |(_, next, _)| *next);
            if had != zone && until >= *since {
                return self.excused(Path::OnceOutOfTarget, true);
            }
        }
        false
    }

    fn excused(&self, exemption: Path, holds: bool) -> bool {
        if holds {
            self.coverage.met(exemption);
        }
        holds
    }

    /// Its pod went before all objects were there that its volumes show: it never ran, and waits for its successor.
    pub(crate) fn lacks_objects(&self, uid: &PodUid) -> bool {
        let record = self.hub.disk.deployments.get(uid);
        let lacks = record
            .and_then(|record| serde_json::from_str::<Manifest>(&record.spec.manifest).ok())
            .is_some_and(|manifest| manifest.workload.volumes.len() > manifest.objects.len());
        self.excused(Path::LacksObjects, lacks)
    }

    /// By the manifest that the hub has of `next`.
    pub(crate) fn replaces(&self, next: &PodUid, uid: &PodUid) -> bool {
        let record = self.hub.disk.deployments.get(next);
        record
            .and_then(|record| serde_json::from_str::<Manifest>(&record.spec.manifest).ok())
            .is_some_and(|manifest| manifest.replaces.contains(uid))
    }
}
