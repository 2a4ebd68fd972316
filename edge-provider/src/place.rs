//! How far the events of devices have been told: the place in the hub's log that is left to the next process, so that what happens while none
//! listens is told by that one.

use std::time::Duration;

use iot_hub_client::api::Revision;
use tokio::time::Instant;
use virtual_kubelet::ProcessMemory;

/// What was heard this long ago is taken to be written to the API server, which it is unless many wait. The rest the next process tells once
/// more: under the same name, where the device's time can be trusted and it is the first of its kind.
const SETTLED: Duration = Duration::from_secs(5);

/// Sole owner of the process' memory.
#[derive(Debug)]
pub struct Place {
    memory: ProcessMemory,
    told: Told,
}

/// How far it is, and what of that may be left.
#[derive(Debug, Default)]
struct Told {
    upto: Option<Revision>,
    /// Waits to be left, and since when.
    settling: Option<(Revision, Instant)>,
}

impl Place {
    pub fn new(memory: ProcessMemory) -> Self {
        Self {
            memory,
            told: Told::default(),
        }
    }

    /// Waits until this process leads, and goes on where the one before it was.
    pub async fn restore(&mut self) {
        if let Some(text) = self.memory.restored().await {
            self.told.restore(&text);
        }
    }

    /// Where to go on after a list of this revision. What changed before the list is told twice then, which changes nothing.
    pub fn after(&self, listed: Revision) -> Revision {
        self.told.after(listed)
    }

    /// Everything up to here was heard.
    pub fn reached(&mut self, revision: Revision) {
        if let Some(settled) = self.told.reached(revision, Instant::now()) {
            self.memory.leave(settled.0.to_string());
        }
    }

    /// The hub has forgotten what came after.
    pub fn lost(&mut self) {
        self.told.upto = None;
    }
}

impl Told {
    fn restore(&mut self, text: &str) {
        self.upto = text
            .parse()
            .map(Revision)
            .inspect_err(
                |error| tracing::error!(%error, "the leader lease does not say what was told of devices"),
            )
            .ok();
    }

    /// A hub that is behind what was told was restored: its revisions mean something else.
    fn after(&self, listed: Revision) -> Revision {
        self.upto.map_or(listed, |told| told.min(listed))
    }

    /// What may be left now.
    fn reached(&mut self, revision: Revision, now: Instant) -> Option<Revision> {
        self.upto = Some(revision);
        let settled = match self.settling {
            None => revision,
            Some((earlier, since)) if now.duration_since(since) >= SETTLED => earlier,
            Some(_) => return None,
        };
        self.settling = Some((revision, now));
        Some(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_was_heard_a_while_ago_and_is_where_the_next_goes_on() {
        let begun = Instant::now();
        let mut told = Told::default();
        assert_eq!(told.after(Revision(40)), Revision(40), "nothing was told yet");
        let mut left = Vec::new();
        for (revision, second) in [(40, 0), (41, 1), (45, 4), (46, 5), (47, 9), (50, 12)] {
            let at = begun + Duration::from_secs(second);
            left.extend(told.reached(Revision(revision), at));
        }
        assert_eq!(left, [40, 40, 46].map(Revision));
        assert_eq!(told.after(Revision(60)), Revision(50));
        let mut next = Told::default();
        next.restore("46");
        assert_eq!(next.after(Revision(60)), Revision(46));
        assert_eq!(next.after(Revision(30)), Revision(30), "the hub was restored");
        next.restore("what?");
        assert_eq!(next.after(Revision(60)), Revision(60));
    }
}
