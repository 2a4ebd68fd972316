//! Blobs at hand: what is on disk, and what came for a set that is on its way there.
//!
//! Manifests and tombstones are kept understood. Of objects only their presence is known here: their bodies are the store's and the
//! runtime's.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::Digest;
use edge_protocol::v1::{Blob, Manifest, SealedObject};

use crate::io::Write;
use crate::transition::Doc;

#[derive(Debug, Default)]
pub(crate) struct Shelf {
    docs: BTreeMap<Digest, Doc>,
    /// With the content key of each that is sealed.
    objects: BTreeMap<Digest, Option<Digest>>,
}

impl Shelf {
    pub(crate) fn new(docs: BTreeMap<Digest, Doc>, objects: BTreeMap<Digest, Option<Digest>>) -> Self {
        Self { docs, objects }
    }

    pub(crate) fn doc(&self, digest: &Digest) -> Option<&Doc> {
        self.docs.get(digest)
    }

    pub(crate) fn has_object(&self, digest: &Digest) -> bool {
        self.objects.contains_key(digest)
    }

    /// The content keys of the sealed objects.
    pub(crate) fn keys(&self) -> BTreeSet<Digest> {
        self.objects.values().flatten().copied().collect()
    }

    /// The objects that one of these keys opens.
    pub(crate) fn objects_with(&self, keys: &BTreeSet<Digest>) -> BTreeSet<Digest> {
        let objects = self.objects.iter();
        let opened = objects.filter(|(_, key)| key.is_some_and(|key| keys.contains(&key)));
        opened.map(|(digest, _)| *digest).collect()
    }

    pub(crate) fn put_doc(&mut self, digest: Digest, doc: Doc) {
        self.docs.insert(digest, doc);
    }

    /// An object, and how the store keeps it.
    pub(crate) fn put_object(&mut self, digest: Digest, body: String) -> Write {
        let key = SealedObject::key_of(&body);
        self.objects.insert(digest, key);
        Write::PutObject { digest, key, body }
    }

    pub(crate) fn absorb(&mut self, other: Self) {
        self.docs.extend(other.docs);
        self.objects.extend(other.objects);
    }

    /// The objects that a blob names, if it is a manifest that is here.
    pub(crate) fn objects_of(&self, digest: &Digest) -> BTreeSet<Digest> {
        match self.docs.get(digest) {
            Some(Doc::Manifest(manifest)) => objects(manifest).collect(),
            _ => BTreeSet::new(),
        }
    }

    /// Drops all but these, which the store should do too.
    pub(crate) fn keep(&mut self, docs: &BTreeSet<Digest>, objects: &BTreeSet<Digest>) -> Vec<Write> {
        let unused = |digest: &&Digest| !docs.contains(digest);
        let docs: Vec<Digest> = self.docs.keys().filter(unused).copied().collect();
        let unused = |digest: &&Digest| !objects.contains(digest);
        let objects: Vec<Digest> = self.objects.keys().filter(unused).copied().collect();
        self.docs.retain(|digest, _| !docs.contains(digest));
        self.objects.retain(|digest, _| !objects.contains(digest));
        let docs = docs.into_iter().map(Write::DropBlob);
        docs.chain(objects.into_iter().map(Write::DropObject)).collect()
    }
}

/// The objects that a manifest names.
pub(crate) fn objects(manifest: &Manifest) -> impl Iterator<Item = Digest> + '_ {
    manifest.objects.iter().map(|object| object.digest)
}

/// Blobs that came for a set and are not on disk yet.
#[derive(Debug, Default)]
pub(crate) struct Coming {
    /// Manifests and tombstones among them; objects once they are on their way to the disk.
    pub(crate) shelf: Shelf,
    objects: BTreeSet<Digest>,
    bodies: BTreeMap<Digest, String>,
    /// The sum of the bodies' lengths.
    bytes: usize,
}

impl Coming {
    /// Takes of these blobs what a set of such items needs: manifests and tombstones, and the objects of its manifests; what is new, what it
    /// claims to be, and within the bound.
    pub(crate) fn take(&mut self, blobs: Vec<Blob>, items: &BTreeSet<Digest>, stored: &Shelf, limit: usize) {
        let (docs, others): (Vec<Blob>, Vec<Blob>) =
            blobs.into_iter().partition(|blob| items.contains(&blob.digest));
        for blob in docs {
            if stored.doc(&blob.digest).is_none() && self.fits(&blob, limit) {
                self.shelf.put_doc(blob.digest, Doc::parse(&blob.body));
                self.insert(blob.digest, blob.body);
            }
        }
        let objects = self.objects(items, stored);
        for blob in others {
            let wanted = objects.contains(&blob.digest) && !stored.has_object(&blob.digest);
            if wanted && self.fits(&blob, limit) {
                self.objects.insert(blob.digest);
                self.insert(blob.digest, blob.body);
            }
        }
    }

    fn fits(&self, blob: &Blob, limit: usize) -> bool {
        !self.bodies.contains_key(&blob.digest)
            && self.bytes.saturating_add(blob.body.len()) <= limit
            && Digest::of(&blob.body) == blob.digest
    }

    fn insert(&mut self, digest: Digest, body: String) {
        self.bytes = self.bytes.saturating_add(body.len());
        self.bodies.insert(digest, body);
    }

    /// Takes one blob whose digest was checked, if a set of these items needs it.
    pub(crate) fn fill(&mut self, digest: Digest, body: &str, items: &BTreeSet<Digest>, stored: &Shelf) {
        if !self.missing(items, stored).contains(&digest) {
            return;
        }
        if self.objects(items, stored).contains(&digest) {
            self.objects.insert(digest);
        }
        if items.contains(&digest) {
            self.shelf.put_doc(digest, Doc::parse(body));
        }
        self.insert(digest, body.to_owned());
    }

    /// What a set of these items needs and has neither here nor on disk.
    pub(crate) fn missing(&self, items: &BTreeSet<Digest>, stored: &Shelf) -> BTreeSet<Digest> {
        let shelves = [&self.shelf, stored];
        let docs = items
            .iter()
            .filter(|digest| shelves.iter().all(|shelf| shelf.doc(digest).is_none()));
        let objects = self.objects(items, stored).into_iter();
        let objects = objects.filter(|digest| !self.objects.contains(digest) && !stored.has_object(digest));
        docs.copied().chain(objects).collect()
    }

    /// The objects of those of these items whose manifests are known.
    fn objects(&self, items: &BTreeSet<Digest>, stored: &Shelf) -> BTreeSet<Digest> {
        let of = |item| [&self.shelf, stored].map(|shelf: &Shelf| shelf.objects_of(item));
        items.iter().flat_map(of).flatten().collect()
    }

    /// The bodies as they came, for a set that may need some of them.
    pub(crate) fn into_blobs(self) -> impl Iterator<Item = Blob> {
        let blob = |(digest, body)| Blob { digest, body };
        self.bodies.into_iter().map(blob)
    }

    /// The bodies on their way to the disk: they are held here no longer.
    pub(crate) fn write(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        for (digest, body) in std::mem::take(&mut self.bodies) {
            if self.objects.contains(&digest) {
                writes.push(self.shelf.put_object(digest, body.clone()));
            }
            if self.shelf.doc(&digest).is_some() {
                writes.push(Write::PutBlob { digest, body });
            }
        }
        writes
    }
}
