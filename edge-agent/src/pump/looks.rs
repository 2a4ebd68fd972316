//! When to look at the runtime, and whether a look may be believed.
//!
//! The machine wants looks that began after every step it was told about had ended; an older one would show a container missing that
//! was just started. One look is under way at a time.

use std::time::Duration;

use tokio::time::Instant;

/// A look without any hint from the runtime, so that a lost hint is made good.
const IDLE: Duration = Duration::from_secs(30);
/// The next look after one that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Looks {
    /// Steps that have ended so far.
    steps: u64,
    looking: bool,
    wanted: bool,
    next: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Fresh,
    /// A step ended while it was under way; another one follows at once.
    Outdated,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            steps: 0,
            looking: false,
            wanted: true,
            next: None,
        }
    }
}

impl Looks {
    pub fn step_ended(&mut self) {
        self.steps += 1;
        self.wanted = true;
    }

    pub fn want_now(&mut self) {
        self.wanted = true;
    }

    /// The moment given by [`due`](Self::due) came.
    pub fn due_now(&mut self) {
        self.next = None;
        self.wanted = true;
    }

    pub fn due(&self) -> Option<Instant> {
        self.next
    }

    pub fn is_looking(&self) -> bool {
        self.looking
    }

    /// Whether to begin a look now; the mark comes back with its end.
    pub fn begin(&mut self) -> Option<u64> {
        if self.looking || !self.wanted {
            return None;
        }
        (self.looking, self.wanted, self.next) = (true, false, None);
        Some(self.steps)
    }

    pub fn ended(&mut self, begun: u64, ok: bool) -> Use {
        self.looking = false;
        if !ok {
            // A hint or an ended step must not turn a runtime that is away into a busy loop.
            self.wanted = false;
            self.next = Some(Instant::now() + AFTER_FAILURE);
            return Use::Fresh;
        }
        if begun < self.steps {
            self.wanted = true;
            return Use::Outdated;
        }
        self.next = Some(Instant::now() + IDLE);
        Use::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_began_before_a_step_ended_is_not_believed() {
        let mut looks = Looks::default();
        let begun = looks.begin().unwrap();
        looks.step_ended();
        assert_eq!(looks.begin(), None, "one at a time");
        assert_eq!(looks.ended(begun, true), Use::Outdated);
        let again = looks.begin().expect("another one follows at once");
        assert_eq!(looks.ended(again, true), Use::Fresh);
        assert_eq!(looks.begin(), None);
        assert!(looks.due().is_some());
    }
}
