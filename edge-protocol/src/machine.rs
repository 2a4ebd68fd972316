//! The vocabulary that all sans-io machines share: what time it is, which lane, and what waits for the disk.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::BootId;
use crate::time::DeviceTime;

/// The moment of one `step`, handed in by the pump. A machine has no clock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back within one boot. Deadlines use this one.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch, for people and for certificates; may jump.
    pub wall_ms: i64,
    /// Which boot `mono_ms` counts from.
    pub boot_id: BootId,
}

impl Now {
    /// This moment as a device reports it.
    pub fn device_time(&self, wall_trusted: bool) -> DeviceTime {
        DeviceTime {
            boot_id: self.boot_id,
            mono_ms: self.mono_ms,
            wall_ms: self.wall_ms,
            wall_trusted,
        }
    }
}

/// One of the four topics between the hub and one device. A lane never waits behind another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// Hub → device, `dev/<id>/d`: the desired set.
    Desired,
    /// Hub → device, `dev/<id>/c`: acknowledgements and commands.
    Command,
    /// Device → hub, `dev/<id>/s`: hello, status and liveness.
    Status,
    /// Device → hub, `dev/<id>/b`: history.
    Bulk,
}

impl Lane {
    /// The last level of the lane's topic.
    pub fn topic_level(self) -> &'static str {
        match self {
            Self::Desired => "d",
            Self::Command => "c",
            Self::Status => "s",
            Self::Bulk => "b",
        }
    }
}

/// A transaction that a machine asked its pump to commit. Unique within one life of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId(pub u64);

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tx{}", self.0)
    }
}

/// Effects that may only be seen once a transaction is on disk.
///
/// A machine parks them with [`begin`](Self::begin) when it emits the commit, and releases them when the pump reports that commit.
/// A crash in between loses both, which is one of the two known states.
#[derive(Debug)]
pub struct AfterCommit<E> {
    next: u64,
    parked: BTreeMap<TxId, Vec<E>>,
}

impl<E> Default for AfterCommit<E> {
    fn default() -> Self {
        Self {
            next: 1,
            parked: BTreeMap::new(),
        }
    }
}

impl<E> AfterCommit<E> {
    /// Names a new transaction and parks what must wait for it.
    pub fn begin(&mut self, effects: Vec<E>) -> TxId {
        let tx = TxId(self.next);
        self.next += 1;
        self.parked.insert(tx, effects);
        tx
    }

    /// Parks effects behind the newest transaction under way, or gives them back when none is: they may then be seen at once.
    pub fn join(&mut self, effects: Vec<E>) -> Vec<E> {
        match self.parked.last_entry() {
            Some(mut newest) => {
                newest.get_mut().extend(effects);
                Vec::new()
            }
            None => effects,
        }
    }

    /// What the transaction released, in the order it was parked. A transaction is released once; a repeat gives nothing.
    pub fn committed(&mut self, tx: TxId) -> Vec<E> {
        self.parked.remove(&tx).unwrap_or_default()
    }

    /// Whether a commit is still under way.
    pub fn is_idle(&self) -> bool {
        self.parked.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_released_once_and_only_by_their_own_transaction() {
        let mut after = AfterCommit::default();
        let first = after.begin(vec!["a"]);
        let second = after.begin(vec!["b", "c"]);
        assert_eq!(after.committed(second), ["b", "c"]);
        assert!(after.committed(second).is_empty());
        assert!(!after.is_idle());
        assert_eq!(after.committed(first), ["a"]);
        assert!(after.is_idle());
    }

    #[test]
    fn what_follows_a_commit_waits_for_it() {
        let mut after = AfterCommit::default();
        assert_eq!(after.join(vec!["now"]), ["now"]);
        let first = after.begin(vec!["a"]);
        let second = after.begin(Vec::new());
        assert!(after.join(vec!["later"]).is_empty());
        assert_eq!(after.committed(first), ["a"]);
        assert_eq!(after.committed(second), ["later"]);
    }
}
