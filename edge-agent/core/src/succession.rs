//! Which workload has the place when one names another in `replaces`.
//!
//! The order is pull, stop, start: the older one is superseded only when all images of the newer are present, and each of its stops is
//! asked for only while they are (law 6). Should the newer go before it took over, or be changed to images that are not here, the older
//! goes on. The same order holds on the way back.
//!
//! Only workloads of one namespace displace each other: a uid is no secret, and who may name it has no rights over it.

use std::collections::BTreeSet;

use edge_protocol::v1::Manifest;
use edge_protocol::{ItemState, PodUid};

use crate::lifecycle;
use crate::plan::{Mark, World};
use crate::record::Superseded;
use crate::workload::{Subject, Workload};

/// The next change of places among these, at most one per call.
pub(crate) fn next(world: World<'_>, whom: &BTreeSet<PodUid>) -> Option<(PodUid, Mark)> {
    let them = || whom.iter().filter_map(|uid| world.workloads.get_key_value(uid));
    them()
        .find_map(|(uid, workload)| displaced(world, uid, workload))
        .or_else(|| {
            them().find_map(|(uid, workload)| returned(world, workload).map(|mark| (uid.clone(), mark)))
        })
}

/// One that this workload may displace now. One that is superseded itself displaces nobody, so no circle can stop both.
fn displaced(world: World<'_>, uid: &PodUid, workload: &Workload) -> Option<(PodUid, Mark)> {
    let manifest = workload.manifest.as_ref()?;
    let may = workload.wants_run()
        && workload.record.admitted
        && workload.record.superseded.is_none()
        && !workload.is_blind()
        && !manifest.replaces.is_empty()
        && lifecycle::images_ready(&world.given(uid, workload));
    let older = manifest.replaces.iter().filter(|_| may).find(|older| {
        *older != uid
            && world.workloads.get(*older).is_some_and(|older| {
                older.record.ending.is_none()
                    && older.record.superseded.is_none()
                    && !older.quarantined
                    && may_displace(manifest, older)
            })
    })?;
    Some((older.clone(), Mark::Superseded { by: uid.clone() }))
}

/// One namespace, or a leftover in the runtime that no set and no record names. While the manifest of what is named cannot be read, nobody
/// takes its place.
fn may_displace(manifest: &Manifest, older: &Workload) -> bool {
    match &older.manifest {
        Some(older) => older.namespace == manifest.namespace,
        None => older.item.is_none() && older.record.manifest.is_none(),
    }
}

/// The workloads that this manifest names and whose place it could have: those known to be of another namespace are not among them.
pub(crate) fn replaced<'a>(world: World<'a>, manifest: &'a Manifest) -> impl Iterator<Item = &'a PodUid> {
    manifest.replaces.iter().filter(move |uid| {
        world
            .workloads
            .get(*uid)
            .and_then(|older| older.manifest.as_ref())
            .is_none_or(|older| older.namespace == manifest.namespace)
    })
}

/// The workloads whose place another has that is on its way out: when they are desired again, they wait until it has left.
pub(crate) fn vacating(world: World<'_>) -> BTreeSet<&PodUid> {
    world
        .leaving
        .iter()
        .filter(|uid| !world.is_clear(uid))
        .filter_map(|uid| world.workloads.get(uid)?.manifest.as_deref())
        .flat_map(|manifest| replaced(world, manifest))
        .collect()
}

/// Whether a superseded workload may be stopped now: its successor could start.
pub(crate) fn may_stop(world: World<'_>, superseded: &Superseded) -> bool {
    let ready = |successor: &Workload| {
        successor.wants_run()
            && successor.manifest.is_some()
            && lifecycle::images_ready(&world.given(&superseded.by, successor))
    };
    superseded.for_good || world.workloads.get(&superseded.by).is_some_and(ready)
}

/// A successor that never started and cannot: it was changed since it took the place, or an image of it cannot be had. Merely unknown
/// images, as after a crash, are no reason to waver.
fn fell_short(world: World<'_>, superseded: &Superseded, successor: &Workload) -> bool {
    let fails = |subject: &Subject| matches!(subject, Subject::Image(_));
    successor.record.attempts.is_empty()
        && !lifecycle::images_ready(&world.given(&superseded.by, successor))
        && (successor.record.manifest != superseded.manifest || successor.failures.keys().any(fails))
}

/// What becomes of a superseded workload whose successor is no longer desired, or cannot start.
fn returned(world: World<'_>, workload: &Workload) -> Option<Mark> {
    let superseded = workload.record.superseded.as_ref()?;
    let successor = world.workloads.get(&superseded.by);
    let stands = |successor: &Workload| successor.wants_run() && !fell_short(world, superseded, successor);
    if superseded.for_good || workload.record.ending.is_some() || successor.is_some_and(stands) {
        return None;
    }
    let runs = workload
        .item
        .as_ref()
        .is_some_and(|item| item.state == ItemState::Run);
    if !runs && successor.is_some_and(|successor| !successor.record.attempts.is_empty()) {
        return Some(Mark::SupersededForGood);
    }
    (!workload.is_busy() && !workload.is_blind() && world.is_clear(&superseded.by)).then_some(Mark::GoesOn)
}
