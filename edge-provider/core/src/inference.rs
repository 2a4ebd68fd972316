//! What the absence of a pod means: nothing at first, then deletion or release, by law 2.

use crate::disconnect::Disconnect;
use crate::entry::{End, Entry, Fate};

/// How long a pod must be absent, from the first complete list without it to a later one.
pub const ABSENCE_MS: u64 = 60_000;

/// What one complete list without the pod means for its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// Too early to tell; count from this time.
    Since(u64),
    /// Nothing runs that could be removed, or its end is decided already.
    Settled,
    /// It counts as deleted, if the brake lets it.
    Deleted,
    /// The Node was deleted in between, so the absence is no one's intent.
    Released,
}

/// Judges one complete list, handed in at `now_ms`, that lacks the pod. `node_uid` is the Node's UID read after that list.
pub fn judge_absence(entry: &Entry, node_uid: Option<&str>, now_ms: u64) -> Absence {
    if entry.fate.is_some() || entry.braked || !entry.may_exist() {
        return Absence::Settled;
    }
    let since = entry.missing_since.unwrap_or(now_ms);
    if now_ms.saturating_sub(since) < ABSENCE_MS {
        return Absence::Since(since);
    }
    if !entry.is_active() {
        // Released or being deleted already, or not yet told by the hub: a later list decides.
        return Absence::Since(since);
    }
    let bound_to = entry.held.as_ref().and_then(|held| held.spec.node_uid.as_deref());
    let same_node = bound_to.is_some() && bound_to == node_uid;
    if same_node || entry.disconnect() == Disconnect::Replace {
        Absence::Deleted
    } else {
        Absence::Released
    }
}

impl Entry {
    /// Takes an end that was inferred from absence.
    pub fn infer(&mut self, end: End) {
        self.pod = None;
        self.braked = false;
        self.grounded = None;
        self.fate = Some(Fate { end, inferred: true });
    }
}
