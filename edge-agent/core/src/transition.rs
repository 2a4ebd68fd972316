//! What a new trusted set makes of a workload's record. It is applied to a copy when the set is written, and again when it is on disk.

use std::sync::Arc;

use edge_protocol::v1::{Manifest, Reason, Tombstone};
use edge_protocol::{Digest, ItemState, Now, SetItem};

use crate::admission;
use crate::allocation;
use crate::record::{Ending, Record};
use crate::roster::Touch;
use crate::shelf::{self, Shelf};
use crate::workload::{DEFAULT_GRACE_S, Subject, Workload};

/// A blob as this agent understands it.
#[derive(Debug, Clone)]
pub(crate) enum Doc {
    Manifest(Arc<Manifest>),
    Tombstone(Tombstone),
    /// Neither, or of a version this agent does not know: refused by name, so that one such blob holds up no other workload.
    Unusable(String),
}

impl Doc {
    pub(crate) fn parse(body: &str) -> Self {
        let version = match serde_json::from_str::<Manifest>(body) {
            Ok(manifest) if manifest.v == edge_protocol::v1::VERSION => {
                return Self::Manifest(Arc::new(manifest));
            }
            Ok(manifest) => manifest.v,
            Err(error) => match serde_json::from_str::<Tombstone>(body) {
                Ok(tombstone) if tombstone.v == edge_protocol::v1::VERSION => {
                    return Self::Tombstone(tombstone);
                }
                Ok(tombstone) => tombstone.v,
                Err(_) => return Self::Unusable(format!("not a manifest this agent can read: {error}")),
            },
        };
        Self::Unusable(format!("document version {version} is not known to this agent"))
    }
}

/// What transitions look things up in: blobs on disk, and those that come with the set.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) stored: &'a Shelf,
    pub(crate) coming: Option<&'a Shelf>,
    pub(crate) features: &'a [String],
    pub(crate) now: &'a Now,
}

/// Why a desired manifest is not acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Its blob is not here, or one of its objects.
    Missing,
    Refused(Reason, String),
}

impl Rules<'_> {
    fn doc(&self, digest: &Digest) -> Option<&Doc> {
        self.stored.doc(digest).or_else(|| self.coming?.doc(digest))
    }

    fn has_objects_of(&self, manifest: &Manifest) -> bool {
        let here = |digest| {
            self.stored.has_object(&digest) || self.coming.is_some_and(|coming| coming.has_object(&digest))
        };
        shelf::objects(manifest).all(here)
    }

    /// The manifest of an item that is to run, if this agent can honour all of it.
    pub(crate) fn manifest(&self, item: &SetItem) -> Result<Arc<Manifest>, Unusable> {
        let refused = |message: String| Unusable::Refused(Reason::RequirementNotMet, message);
        match self.doc(&item.digest) {
            None => Err(Unusable::Missing),
            Some(Doc::Manifest(manifest)) if manifest.uid == item.uid => {
                match admission::unmet(manifest, self.features) {
                    Some(lacks) => Err(refused(lacks)),
                    None if self.has_objects_of(manifest) => Ok(Arc::clone(manifest)),
                    None => Err(Unusable::Missing),
                }
            }
            Some(Doc::Manifest(_) | Doc::Tombstone(_)) => {
                Err(refused("its blob is not its manifest".to_owned()))
            }
            Some(Doc::Unusable(why)) => Err(refused(why.clone())),
        }
    }

    fn grace_s(&self, record: &Record) -> u32 {
        match record.manifest.and_then(|digest| self.doc(&digest)) {
            Some(Doc::Manifest(manifest)) => manifest.workload.termination_grace_period_s,
            _ => DEFAULT_GRACE_S,
        }
    }

    /// The grace a tombstone gives; an unreadable one stops nothing.
    fn tombstone(&self, item: &SetItem, record: &Record) -> Option<u32> {
        match self.doc(&item.digest) {
            Some(Doc::Tombstone(tombstone)) if tombstone.uid == item.uid => {
                Some(tombstone.grace_period_s.unwrap_or_else(|| self.grace_s(record)))
            }
            _ => None,
        }
    }

    /// The record after the desired item changed from `before` to `after`. Idempotent.
    ///
    /// Absence ends a workload only when the set before named it: what no trusted set ever named is kept.
    pub(crate) fn apply(&self, record: &mut Record, before: Option<&SetItem>, after: Option<&SetItem>) {
        let grace_s = match after {
            Some(item) if item.state == ItemState::Stop => self.tombstone(item, record),
            Some(item) => {
                if record.ending.is_none() {
                    self.run(record, item);
                }
                None
            }
            None => before.map(|_| self.grace_s(record)),
        };
        let Some(grace_s) = grace_s else { return };
        if let Some(item) = after {
            record.revision = item.revision;
        }
        match &mut record.ending {
            None => record.ending = Some(Ending::new(self.now, grace_s)),
            Some(ending) if after.is_some() && before != after => ending.shorten(self.now, grace_s),
            Some(_) => {}
        }
    }

    fn run(&self, record: &mut Record, item: &SetItem) {
        if let Ok(manifest) = self.manifest(item) {
            if let Some(Doc::Manifest(before)) = record.manifest.and_then(|digest| self.doc(&digest)) {
                record.follows(before, &manifest);
            }
            record.manifest = Some(item.digest);
            record.revision = item.revision;
            record.rejected = record
                .rejected
                .take()
                .filter(|rejected| rejected.manifest == item.digest);
        }
    }

    /// Brings a workload in line with its item in force, which is held against the hub's word or not, where `before` was in force. Idempotent.
    pub(crate) fn settle(
        &self,
        workload: &mut Workload,
        before: Option<&SetItem>,
        after: Option<&(SetItem, bool)>,
    ) -> Touch {
        let state = |workload: &Workload| {
            // Whether it is acted on as asked is known by its being the very same.
            let manifests = [&workload.asked, &workload.manifest].map(|it| it.as_ref().map(Arc::as_ptr));
            let (item, refused) = (workload.item.clone(), workload.refused.clone());
            (item, workload.quarantined, refused, manifests)
        };
        let (was, record) = (state(workload), workload.record.clone());
        let item = after.map(|(item, _)| item);
        self.apply(&mut workload.record, before, item);
        workload.quarantined = after.is_some_and(|(_, quarantined)| *quarantined);
        self.sync(workload, item.cloned());
        Touch::of(workload.record != record || state(workload) != was)
    }

    /// Brings what is derived from item and record up to date.
    fn sync(&self, workload: &mut Workload, item: Option<SetItem>) {
        workload.refused = match &item {
            Some(item) if item.state == ItemState::Stop => match self.doc(&item.digest) {
                Some(Doc::Unusable(why)) => Some((Reason::RequirementNotMet, why.clone())),
                _ => None,
            },
            Some(item) => match self.manifest(item) {
                Err(Unusable::Refused(reason, message)) => Some((reason, message)),
                _ => None,
            },
            None => None,
        };
        workload.item = item;
        workload.asked = match workload.record.manifest.and_then(|digest| self.doc(&digest)) {
            Some(Doc::Manifest(manifest)) => Some(Arc::clone(manifest)),
            _ => None,
        };
        let allocation = workload.record.allocated.as_ref();
        let asked = workload.asked.as_ref();
        let manifest = asked.map(|asked| allocation::allocated(asked, allocation));
        if manifest == workload.manifest {
            // Whether it is as asked is known by its being the very same.
            workload.manifest = manifest;
        } else {
            renew(workload, manifest);
        }
    }
}

/// Another manifest: images are asked for again where the container changed, and old failures say nothing any more.
fn renew(workload: &mut Workload, manifest: Option<Arc<Manifest>>) {
    let old = std::mem::replace(&mut workload.manifest, manifest);
    let changed: Vec<String> = workload
        .every_container()
        .filter(|spec| {
            !old.iter()
                .flat_map(|old| old.workload.every_container())
                .any(|o| o.name == spec.name && o.restart_digest == spec.restart_digest)
        })
        .map(|spec| spec.image.clone())
        .collect();
    workload.images.retain(|image| !changed.contains(image));
    workload.told_images.retain(|image| !changed.contains(image));
    workload.missing.clear();
    workload
        .failures
        .retain(|subject, _| !matches!(subject, Subject::Image(_) | Subject::Start(_) | Subject::Volumes));
}
