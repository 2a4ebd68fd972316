//! When to look at the runtime. One look is under way at a time, and the machine is told how many steps it knew of when it began: what
//! changed since, it does not believe.

use std::time::Duration;

use tokio::time::Instant;

/// A look without any hint from the runtime, so that a lost hint is made good.
const IDLE: Duration = Duration::from_secs(30);
/// The next look after one that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// So many times its own duration passes after a look before the next: when many steps end one after the other, what looking costs stays a
/// share of the whole, however much there is to see.
const REST: u32 = 2;

#[derive(Debug)]
pub(super) struct Looks {
    /// Steps that have ended so far.
    steps: u64,
    began: Option<Instant>,
    wanted: bool,
    /// Not before this moment, and at the latest then unless something is wanted earlier.
    rest_until: Option<Instant>,
    next: Option<Instant>,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            steps: 0,
            began: None,
            wanted: true,
            rest_until: None,
            next: None,
        }
    }
}

impl Looks {
    /// A step ended; whether it changed what a look shows.
    pub fn step_ended(&mut self, touched: bool) {
        self.steps += 1;
        self.wanted |= touched;
    }

    pub fn want_now(&mut self) {
        self.wanted = true;
    }

    /// The moment given by [`due`](Self::due) came.
    pub fn due_now(&mut self) {
        self.wanted = true;
    }

    /// When to look again, be it that something is wanted and the rest is over, or that nothing was heard for long.
    pub fn due(&self) -> Option<Instant> {
        if self.wanted { self.rest_until } else { self.next }
    }

    pub fn is_looking(&self) -> bool {
        self.began.is_some()
    }

    /// Whether to begin a look now; the number comes back with its end.
    pub fn begin(&mut self, now: Instant) -> Option<u64> {
        if self.is_looking() || !self.wanted || self.rest_until.is_some_and(|until| now < until) {
            return None;
        }
        (self.wanted, self.rest_until, self.next) = (false, None, None);
        self.began = Some(now);
        Some(self.steps)
    }

    pub fn ended(&mut self, told: u64, ok: bool, now: Instant) {
        let took = self.began.take().map_or(Duration::ZERO, |began| now - began);
        if !ok {
            // A hint or an ended step must not turn a runtime that is away into a busy loop.
            self.rest_until = Some(now + AFTER_FAILURE);
            self.wanted = true;
            return;
        }
        self.wanted |= told < self.steps;
        self.rest_until = Some(now + took * REST);
        self.next = Some(now + IDLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_follows_every_step_and_rests_in_between() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut looks = Looks::default();
        let first = looks.begin(start).unwrap();
        looks.step_ended(true);
        assert_eq!(looks.begin(start + ms(50)), None, "one at a time");
        looks.ended(first, true, start + ms(100));
        assert_eq!(looks.begin(start + ms(299)), None, "it rests");
        assert_eq!(looks.due(), Some(start + ms(300)));
        looks.due_now();
        let second = looks.begin(start + ms(300));
        let second = second.expect("a step ended while the first was under way");
        assert_eq!((first, second), (0, 1));
        looks.ended(second, true, start + ms(300));
        assert_eq!(looks.due(), Some(start + ms(300) + IDLE));
        looks.step_ended(false);
        assert_eq!(looks.begin(start + ms(300)), None, "a pull shows nowhere");
        looks.step_ended(true);
        assert_eq!(looks.begin(start + ms(300)), Some(3));
    }

    #[test]
    fn a_runtime_that_is_away_is_asked_once_a_second() {
        let start = Instant::now();
        let mut looks = Looks::default();
        let first = looks.begin(start).unwrap();
        looks.ended(first, false, start);
        looks.want_now();
        assert_eq!(looks.begin(start), None);
        assert_eq!(looks.due(), Some(start + AFTER_FAILURE));
        assert!(looks.begin(start + AFTER_FAILURE).is_some());
    }
}
