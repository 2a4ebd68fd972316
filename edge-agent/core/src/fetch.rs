//! Blobs that are asked for over HTTPS: a few at a time, for ever, with backoff.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::Digest;

use crate::backoff::{Rng, STEPS};

#[derive(Debug)]
pub(crate) struct Fetches {
    at_once: usize,
    wanted: BTreeMap<Digest, Fetch>,
}

#[derive(Debug, Default)]
struct Fetch {
    under_way: bool,
    delay_ms: Option<u64>,
    until_ms: u64,
}

impl Fetches {
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            at_once,
            wanted: BTreeMap::new(),
        }
    }

    /// Exactly these are wanted from now on.
    pub(crate) fn want(&mut self, digests: &BTreeSet<Digest>) {
        self.wanted
            .retain(|digest, fetch| fetch.under_way || digests.contains(digest));
        for digest in digests {
            self.wanted.entry(*digest).or_default();
        }
    }

    /// Whether it is exactly these that are wanted, but for what is under way.
    #[cfg(debug_assertions)]
    pub(crate) fn wants(&self, digests: &BTreeSet<Digest>) -> bool {
        digests.iter().all(|digest| self.wanted.contains_key(digest))
            && self
                .wanted
                .iter()
                .all(|(digest, fetch)| fetch.under_way || digests.contains(digest))
    }

    /// What to ask for next.
    pub(crate) fn next(&mut self, now_ms: u64) -> Vec<Digest> {
        let under_way = self.wanted.values().filter(|fetch| fetch.under_way).count();
        let free = self.at_once.saturating_sub(under_way);
        let ready = self
            .wanted
            .iter_mut()
            .filter(|(_, fetch)| !fetch.under_way && fetch.until_ms <= now_ms);
        ready
            .take(free)
            .map(|(digest, fetch)| {
                fetch.under_way = true;
                *digest
            })
            .collect()
    }

    /// A try ended. Whether it was asked for.
    pub(crate) fn ended(&mut self, digest: &Digest, arrived: bool, rng: &mut Rng, now_ms: u64) -> bool {
        let Some(fetch) = self.wanted.get_mut(digest).filter(|fetch| fetch.under_way) else {
            return false;
        };
        if arrived {
            self.wanted.remove(digest);
        } else {
            fetch.under_way = false;
            let delay = STEPS.after(fetch.delay_ms);
            fetch.delay_ms = Some(delay);
            fetch.until_ms = now_ms + rng.jitter(delay);
        }
        true
    }

    pub(crate) fn wake_at(&self, now_ms: u64) -> Option<u64> {
        let waiting = self
            .wanted
            .values()
            .filter(|fetch| !fetch.under_way && fetch.until_ms > now_ms);
        waiting.map(|fetch| fetch.until_ms).min()
    }

    pub(crate) fn rebase(&mut self, now_ms: u64) {
        self.wanted.values_mut().for_each(|fetch| fetch.until_ms = now_ms);
    }
}
