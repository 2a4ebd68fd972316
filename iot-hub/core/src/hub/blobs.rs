//! Manifests, tombstones and objects by their digest, kept as long as a deployment or a set names them.

use std::collections::BTreeMap;

use edge_protocol::Digest;

use crate::io::Write;

#[derive(Debug, Default)]
pub(super) struct Blobs {
    blobs: BTreeMap<Digest, Blob>,
    /// The sum of the bodies' lengths.
    bytes: usize,
}

#[derive(Debug)]
struct Blob {
    /// How many deployments and set items name it.
    holders: usize,
    body: String,
    stored: bool,
}

impl Blobs {
    /// What the store held; nothing holds it yet.
    pub(super) fn restored(blobs: Vec<(Digest, String)>) -> Self {
        let stored = |body| Blob {
            holders: 0,
            body,
            stored: true,
        };
        Self {
            bytes: blobs.iter().map(|(_, body)| body.len()).sum(),
            blobs: blobs
                .into_iter()
                .map(|(digest, body)| (digest, stored(body)))
                .collect(),
        }
    }

    /// One more holder of a blob that may be new.
    pub(super) fn hold(&mut self, digest: Digest, body: &str) {
        let blob = self.blobs.entry(digest).or_insert_with(|| {
            self.bytes += body.len();
            Blob {
                holders: 0,
                body: body.to_owned(),
                stored: false,
            }
        });
        blob.holders += 1;
    }

    /// One more holder of a blob that the store is known to have had. One that is missing cannot be served.
    pub(super) fn hold_stored(&mut self, digest: &Digest) {
        if let Some(blob) = self.blobs.get_mut(digest) {
            blob.holders += 1;
        }
    }

    pub(super) fn release(&mut self, digest: &Digest) {
        if let Some(blob) = self.blobs.get_mut(digest) {
            blob.holders = blob.holders.saturating_sub(1);
        }
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&str> {
        self.blobs.get(digest).map(|blob| blob.body.as_str())
    }

    /// How many bytes all of them have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The digests that nothing holds.
    pub(super) fn idle(&self) -> impl Iterator<Item = Digest> {
        self.blobs
            .iter()
            .filter(|(_, blob)| blob.holders == 0)
            .map(|(digest, _)| *digest)
    }

    /// What is to be written of a blob whose holders changed.
    pub(super) fn settle(&mut self, digest: &Digest) -> Option<Write> {
        let blob = self.blobs.get_mut(digest)?;
        if blob.holders > 0 {
            let stored = std::mem::replace(&mut blob.stored, true);
            return (!stored).then(|| Write::PutBlob {
                digest: *digest,
                body: blob.body.clone(),
            });
        }
        let stored = blob.stored;
        self.bytes = self.bytes.saturating_sub(blob.body.len());
        self.blobs.remove(digest);
        stored.then_some(Write::DropBlob(*digest))
    }
}
