//! The set the device acts on, the one on its way there, and what a restored hub may not change.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::{Blob, Statement, StatementBody};
use edge_protocol::{DesiredSet, Digest, ItemState, PodUid, SetGeneration, SetItem, Verdict, judge};

use crate::agent::Limits;
use crate::io::TrustedSet;
use crate::shelf::{Coming, Shelf};

/// Where held items are kept that the hub's set contradicts: JSON of a list of [`SetItem`].
pub(crate) const QUARANTINE_KEY: &str = "quarantine";

/// A whole set, judged newer, that waits for its blobs or for the disk.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) set: TrustedSet,
    pub(crate) coming: Coming,
}

impl Candidate {
    fn items(&self) -> BTreeSet<Digest> {
        digests(self.set.items.iter())
    }
}

fn digests<'a>(items: impl Iterator<Item = &'a SetItem>) -> BTreeSet<Digest> {
    items.map(|item| item.digest).collect()
}

/// A snapshot that has not come to its end mark. Nothing is concluded from it.
#[derive(Debug)]
struct Assembly {
    generation: SetGeneration,
    digest: Digest,
    of: u32,
    parts: BTreeMap<u32, Vec<SetItem>>,
    coming: Coming,
}

/// What a statement's offer came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Not acted on: older, contradictory, or what is held already.
    Judged(Verdict),
    /// A part of more to come.
    Part,
    /// Complete; it waits for blobs and disk.
    Received,
    /// It speaks of a base that is not held: only a snapshot helps.
    BaseMissing,
    /// It breaks a bound: to hear it again would not help.
    Refused(String),
    /// It does not have the digest that was signed: a snapshot may help.
    Damaged(String),
}

#[derive(Debug, Default)]
pub(crate) struct Desired {
    pub(crate) trusted: Option<TrustedSet>,
    /// Items of earlier sets that stay in force.
    pub(crate) quarantine: BTreeMap<PodUid, SetItem>,
    assembly: Option<Assembly>,
    pub(crate) candidate: Option<Candidate>,
    pub(crate) committing: Option<Candidate>,
}

impl Desired {
    pub(crate) fn restored(trusted: Option<TrustedSet>, quarantine: Vec<SetItem>) -> Self {
        let quarantine = quarantine
            .into_iter()
            .map(|item| (item.uid.clone(), item))
            .collect();
        Self {
            trusted,
            quarantine,
            ..Self::default()
        }
    }

    /// The newest set accepted so far, on disk or not.
    fn newest(&self) -> Option<&TrustedSet> {
        let coming = self
            .candidate
            .as_ref()
            .or(self.committing.as_ref())
            .map(|candidate| &candidate.set);
        coming.or(self.trusted.as_ref())
    }

    fn base(&self, generation: SetGeneration, digest: Digest) -> Option<&TrustedSet> {
        let coming = [&self.candidate, &self.committing]
            .into_iter()
            .flatten()
            .map(|candidate| &candidate.set);
        coming
            .chain(&self.trusted)
            .find(|set| (set.generation, set.digest) == (generation, digest))
    }

    /// Takes what a verified statement offers. Only what `judge` calls newer gets any further.
    pub(crate) fn offer(
        &mut self,
        statement: Statement,
        blobs: Vec<Blob>,
        stored: &Shelf,
        limits: &Limits,
    ) -> Offer {
        let (generation, digest) = (statement.generation, statement.set_digest);
        let verdict = judge(
            self.newest().map(|set| (set.generation, set.digest)),
            (generation, digest),
        );
        if verdict != Verdict::Newer {
            return Offer::Judged(verdict);
        }
        let items = match statement.body {
            StatementBody::Same => {
                let Some(held) = self.trusted.as_ref().filter(|held| held.digest == digest) else {
                    return Offer::BaseMissing;
                };
                held.items.clone()
            }
            StatementBody::Delta {
                base,
                base_digest,
                put,
                forget,
            } => {
                let Some(base) = self.base(base, base_digest) else {
                    return Offer::BaseMissing;
                };
                base.items.clone().apply(put, &forget)
            }
            StatementBody::Snapshot { part, of, items } => {
                return match self.assemble((generation, digest), (part, of), items, limits) {
                    Err(why) => Offer::Refused(why),
                    Ok(()) => self.end_of_parts(blobs, stored, limits),
                };
            }
        };
        self.complete(generation, digest, items, blobs, stored, limits)
    }

    fn assemble(
        &mut self,
        (generation, digest): (SetGeneration, Digest),
        (part, of): (u32, u32),
        items: Vec<SetItem>,
        limits: &Limits,
    ) -> Result<(), String> {
        if part >= of || of > limits.parts {
            return Err(format!("part {part} of {of} is out of bounds"));
        }
        let same = |assembly: &&mut Assembly| {
            (assembly.generation, assembly.digest, assembly.of) == (generation, digest, of)
        };
        let mut assembly = match self.assembly.as_mut().filter(same) {
            Some(_) => self.assembly.take(),
            None => None,
        }
        .unwrap_or_else(|| Assembly {
            generation,
            digest,
            of,
            parts: BTreeMap::new(),
            coming: Coming::default(),
        });
        assembly.parts.insert(part, items);
        if let Some(why) = excess(assembly.parts.values().flatten(), limits) {
            self.assembly = None;
            return Err(why);
        }
        self.assembly = Some(assembly);
        Ok(())
    }

    fn end_of_parts(&mut self, blobs: Vec<Blob>, stored: &Shelf, limits: &Limits) -> Offer {
        let Some(mut assembly) = self.assembly.take() else {
            return Offer::Part;
        };
        let items = digests(assembly.parts.values().flatten());
        assembly.coming.take(blobs, &items, stored, limits.blob_bytes);
        if (assembly.parts.len() as u64) < u64::from(assembly.of) {
            self.assembly = Some(assembly);
            return Offer::Part;
        }
        let Assembly {
            generation,
            digest,
            parts,
            coming,
            ..
        } = assembly;
        let blobs = coming.into_blobs().collect();
        let items = parts.into_values().flatten().collect();
        self.complete(generation, digest, items, blobs, stored, limits)
    }

    fn complete(
        &mut self,
        generation: SetGeneration,
        digest: Digest,
        items: DesiredSet,
        blobs: Vec<Blob>,
        stored: &Shelf,
        limits: &Limits,
    ) -> Offer {
        if let Some(why) = excess(items.iter(), limits) {
            return Offer::Refused(why);
        }
        if items.digest() != digest {
            return Offer::Damaged("the set does not have the digest that was signed".to_owned());
        }
        // What the superseded candidate had fetched already is not fetched again.
        let earlier = self.candidate.take().into_iter();
        let earlier = earlier.flat_map(|earlier| earlier.coming.into_blobs());
        let mut coming = Coming::default();
        coming.take(
            earlier.chain(blobs).collect(),
            &digests(items.iter()),
            stored,
            limits.blob_bytes,
        );
        self.candidate = Some(Candidate {
            set: TrustedSet {
                generation,
                digest,
                items,
            },
            coming,
        });
        Offer::Received
    }

    /// Takes a fetched blob whose digest was checked, if the candidate waits for it.
    pub(crate) fn fill(&mut self, digest: Digest, body: &str, stored: &Shelf) {
        if let Some(candidate) = &mut self.candidate {
            let items = candidate.items();
            candidate.coming.fill(digest, body, &items, stored);
        }
    }

    /// What the candidate needs, manifests and their objects, that is neither on disk nor in hand.
    pub(crate) fn missing(&self, stored: &Shelf) -> BTreeSet<Digest> {
        let candidate = self.candidate.as_ref();
        candidate.map_or(BTreeSet::new(), |candidate| {
            candidate.coming.missing(&candidate.items(), stored)
        })
    }

    /// The objects of a blob that came for a set and is not on disk yet.
    pub(crate) fn coming_objects(&self, digest: &Digest) -> BTreeSet<Digest> {
        let coming = [&self.candidate, &self.committing].into_iter().flatten();
        coming
            .flat_map(|candidate| candidate.coming.shelf.objects_of(digest))
            .collect()
    }

    /// The items of the trusted set, and those that stay in force against it.
    pub(crate) fn on_disk(&self) -> impl Iterator<Item = &SetItem> {
        let items = self.trusted.iter().flat_map(|set| set.items.iter());
        items.chain(self.quarantine.values())
    }

    /// The blobs that the items of sets on their way to the disk name.
    pub(crate) fn coming_items(&self) -> impl Iterator<Item = Digest> {
        let coming = [&self.candidate, &self.committing].into_iter().flatten();
        coming.flat_map(Candidate::items)
    }

    /// The item in force for each workload, and whether it is held against the hub's word.
    pub(crate) fn in_force(&self) -> BTreeMap<PodUid, (SetItem, bool)> {
        self.trusted
            .as_ref()
            .map_or(BTreeMap::new(), |set| in_force(&set.items, &self.quarantine))
    }

    /// The blobs of the items in force.
    pub(crate) fn blobs_in_force(&self) -> impl Iterator<Item = Digest> {
        self.trusted.iter().flat_map(|set| {
            let offered = set.items.iter();
            let offered = offered.filter(|item| !self.quarantine.contains_key(&item.uid));
            offered.chain(self.quarantine.values()).map(|item| item.digest)
        })
    }

    /// The session is over: what was not complete is forgotten.
    pub(crate) fn drop_parts(&mut self) {
        self.assembly = None;
    }

    /// What stays in force against the set that comes (law 4): after a change of incarnation, held items that the new set lacks, or has
    /// in a version that `judge` calls stale or conflicting; and what was held so before, until the hub offers something newer.
    pub(crate) fn quarantine_after(&self, next: &TrustedSet) -> BTreeMap<PodUid, SetItem> {
        let Some(trusted) = &self.trusted else {
            return BTreeMap::new();
        };
        let restored = trusted.generation.incarnation != next.generation.incarnation;
        in_force(&trusted.items, &self.quarantine)
            .into_iter()
            .filter(|(uid, (held, quarantined))| {
                (restored || *quarantined)
                    && match next.items.get(uid) {
                        // A tombstone that was obeyed needs no one to repeat it.
                        None => held.state != ItemState::Stop,
                        Some(offered) => matches!(
                            judge(Some(side(held)), side(offered)),
                            Verdict::Stale | Verdict::Conflict
                        ),
                    }
            })
            .map(|(uid, (held, _))| (uid, held))
            .collect()
    }
}

/// The bound that these items break, in words.
fn excess<'a>(items: impl Iterator<Item = &'a SetItem>, limits: &Limits) -> Option<String> {
    let (mut runnable, mut tombstones) = (0, 0);
    for item in items {
        match item.state {
            ItemState::Run | ItemState::Orphan => runnable += 1,
            ItemState::Stop => tombstones += 1,
        }
    }
    if runnable > limits.items {
        Some(format!("a set of more than {} workloads", limits.items))
    } else if tombstones > limits.tombstones {
        Some(format!("a set of more than {} tombstones", limits.tombstones))
    } else {
        None
    }
}

/// Version and content of one item, state included.
fn side(item: &SetItem) -> (edge_protocol::DeploymentRevision, Digest) {
    (
        item.revision,
        std::iter::once(item.clone()).collect::<DesiredSet>().digest(),
    )
}

pub(crate) fn in_force(
    items: &DesiredSet,
    quarantine: &BTreeMap<PodUid, SetItem>,
) -> BTreeMap<PodUid, (SetItem, bool)> {
    let offered = items.iter().map(|item| (item.uid.clone(), (item.clone(), false)));
    let held = quarantine
        .values()
        .map(|item| (item.uid.clone(), (item.clone(), true)));
    offered.chain(held).collect()
}
