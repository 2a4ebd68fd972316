//! The content keys of sealed objects: asked for while they are missing, kept as they came, opened only where an object is used.

use std::collections::BTreeSet;
use std::sync::Arc;

use edge_protocol::v1::{KeyWrap, MAX_WANTED_KEYS, Up};
use edge_protocol::{Digest, Lane, Now, SealingSecret};

use crate::agent::Agent;
use crate::io::{Note, Write};
use crate::roster::Touch;

/// How long an answer is waited for before the hub is asked again: what it did not have then it tells of by itself.
const ASK_AGAIN_MS: u64 = 60_000;

#[derive(Debug)]
pub(crate) struct Keys {
    secret: Arc<SealingSecret>,
    /// The keys whose wraps are on disk.
    held: BTreeSet<Digest>,
    /// What was asked for in this session, and when to ask again.
    asked: Option<(BTreeSet<Digest>, u64)>,
}

impl Keys {
    /// Takes what the store held; what is not for this device's present key goes.
    pub(crate) fn restored(secret: Arc<SealingSecret>, wraps: Vec<KeyWrap>) -> (Self, Vec<Write>) {
        let own = secret.public().fingerprint();
        let (ours, others): (Vec<KeyWrap>, Vec<KeyWrap>) =
            wraps.into_iter().partition(|wrap| wrap.sealing_key == own);
        let keys = Self {
            secret,
            held: ours.into_iter().map(|wrap| wrap.key).collect(),
            asked: None,
        };
        let drops = others.into_iter().map(|wrap| Write::DropKey(wrap.key)).collect();
        (keys, drops)
    }

    /// Another session: nothing was asked for in it.
    pub(crate) fn begin(&mut self) {
        self.asked = None;
    }

    pub(crate) fn wake_at(&self) -> Option<u64> {
        self.asked.as_ref().map(|(_, again)| *again)
    }

    /// Drops the keys that no sealed object here needs.
    pub(crate) fn keep(&mut self, named: &BTreeSet<Digest>) -> Vec<Write> {
        let unused: Vec<Digest> = self.held.difference(named).copied().collect();
        self.held.retain(|key| named.contains(key));
        unused.into_iter().map(Write::DropKey).collect()
    }
}

impl Agent {
    fn missing_keys(&self) -> BTreeSet<Digest> {
        let named = self.shelf.keys();
        named.difference(&self.keys.held).copied().collect()
    }

    /// Asks the hub for the keys that are missing, when others are than it was asked for, and from time to time.
    pub(crate) fn ask_for_keys(&mut self, now: &Now) {
        if self.session.epoch().is_none() {
            return self.keys.begin();
        }
        let missing = self.missing_keys();
        let asked = self.keys.asked.as_ref();
        if missing.is_empty() {
            self.keys.begin();
        } else if asked.is_none_or(|(asked, again)| !missing.is_subset(asked) || *again <= now.mono_ms) {
            let keys = missing.iter().copied().take(MAX_WANTED_KEYS).collect();
            self.keys.asked = Some((missing, now.mono_ms + ASK_AGAIN_MS));
            self.send(now, Lane::Status, Up::WantKeys { keys });
        }
    }

    /// Wraps from the hub. They are not signed: one that opens to the key that an object names is right, whoever made it.
    pub(crate) fn take_keys(&mut self, now: &Now, wraps: Vec<KeyWrap>) {
        let missing = self.missing_keys();
        let mut taken = BTreeSet::new();
        for wrap in wraps.into_iter().filter(|wrap| missing.contains(&wrap.key)) {
            match wrap.open(&self.keys.secret) {
                Ok(_) => {
                    taken.insert(wrap.key);
                    self.keys.held.insert(wrap.key);
                    self.writes.push(Write::PutKey(wrap));
                }
                Err(error) => self.note(Note::FrameRefused {
                    why: format!("the wrap of key {}: {error}", wrap.key),
                }),
            }
        }
        let opened = self.shelf.objects_with(&taken);
        if opened.is_empty() {
            return;
        }
        self.roster.each(|_, workload, _| {
            let manifest = workload.manifest.as_ref();
            let waits = manifest.is_some_and(|manifest| {
                manifest
                    .objects
                    .iter()
                    .any(|object| opened.contains(&object.digest))
            });
            if waits {
                // What waited for a key is tried again now.
                let failures = workload.failures.values_mut();
                failures.for_each(|failure| failure.until_ms = failure.until_ms.min(now.mono_ms));
            }
            Touch::of(waits)
        });
    }
}
