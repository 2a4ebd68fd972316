//! What the judges remember of the simulated world.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::Rung;
use edge_protocol::{Digest, PodUid, SessionEpoch, SetGeneration};

use crate::event::{At, Word};
use crate::world::World;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// What the hub had on disk for a device under a generation.
    pub(crate) sets: BTreeMap<(At, SetGeneration), Digest>,
    /// When a device got which tag.
    pub(crate) zones: Vec<(At, u64, &'static str)>,
    /// For whom a pod is, and since when.
    pub(crate) pods: BTreeMap<PodUid, (Option<&'static str>, u64)>,
    /// The last word of a device on a workload that reached the hub, by session and number in it.
    pub(crate) heard: BTreeMap<(At, PodUid), (Rung, Digest)>,
    heard_seq: BTreeMap<At, (SessionEpoch, u64)>,
    /// What a device ever said to be healthy.
    pub(crate) said_healthy: BTreeSet<(At, PodUid, Digest)>,
    /// What each pod was ever to take the place of.
    pub(crate) replaced: BTreeMap<PodUid, BTreeSet<PodUid>>,
    /// Pods whose place on a device a later one took, by running there.
    pub(crate) taken: BTreeSet<(At, PodUid)>,
    /// The hub is restored from an older state once in this seed.
    pub(crate) restored: bool,
    // Counts of chatter.
    pub(crate) frames: u64,
    pub(crate) calls: u64,
    pub(crate) reconnects: u64,
}

impl Ledger {
    /// A hub that begins knows what is on its disk. A restored one counts sessions from there.
    pub(crate) fn forget_words(&mut self) {
        self.heard.clear();
        self.heard_seq.clear();
    }
}

impl World {
    /// A frame of the device reached the hub.
    pub(crate) fn hear(&mut self, at: At, word: Option<&Word>) {
        let now = self.now;
        let device = &mut self.devices[at];
        let Some(word) = word else { return };
        let session = self
            .hub
            .disk
            .devices
            .get(&device.id)
            .map(|record| record.last_session);
        let (Some(session), true) = (word.session, word.session == session) else {
            // The hub refuses it, and hears nothing of the device until both agree on their session.
            return;
        };
        if now > device.heard_at + 40_000 {
            device.heard_since = now;
        }
        device.heard_at = now;
        let Some(status) = &word.status else { return };
        let last = self.ledger.heard_seq.get(&at);
        if last.is_some_and(|(epoch, seq)| *epoch == session && *seq >= word.seq) {
            return;
        }
        self.ledger.heard_seq.insert(at, (session, word.seq));
        if status.complete {
            self.ledger.heard.retain(|(of, _), _| *of != at);
        }
        for (uid, rung, manifest) in &status.rungs {
            self.ledger.heard.insert((at, uid.clone()), (*rung, *manifest));
        }
    }
}
