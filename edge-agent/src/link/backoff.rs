//! When to dial again after a connection ended.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_mins(1);

/// Counts connections that failed one after another.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A connection ended; `session` says how long the hub had spoken over it, if it ever did.
    ///
    /// One that served for as long as the longest pause was no failure: what ended it is news. One that is cut again and again as soon as it
    /// is up counts on, so that it is not dialled without end.
    pub(super) fn ended(&mut self, session: Option<Duration>, keep_alive: Duration) {
        if session.is_some_and(|lasted| lasted >= cap(keep_alive)) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// The longest that the next pause may be: nothing before the first dial, then from a second on doubling up to the cap. The pause
    /// itself is anywhere below it (full jitter), for a hub that comes back must not meet its whole fleet at once.
    pub(super) fn longest(&self, keep_alive: Duration) -> Duration {
        match self.failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST.saturating_mul(1 << doublings.min(16)).min(cap(keep_alive)),
        }
    }
}

/// A third of the keep-alive, and at most a minute: a link class that tells of a dead link within half a minute is not left in the dark for
/// a whole one when the link is back. That is 10 s for lan, a minute for cellular and satellite, whose every dial costs.
fn cap(keep_alive: Duration) -> Duration {
    (keep_alive / 3).clamp(FIRST, MOST)
}

#[cfg(test)]
mod tests {
    use edge_protocol::v1::LinkClass;

    use super::*;

    fn keep_alive(link: LinkClass) -> Duration {
        Duration::from_secs(link.keep_alive_s().into())
    }

    #[track_caller]
    fn check(link: LinkClass, sessions: &[Option<u64>], longest_s: &[u64]) {
        let keep_alive = keep_alive(link);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.longest(keep_alive), Duration::ZERO);
        let longest = sessions.iter().map(|session| {
            backoff.ended(session.map(Duration::from_secs), keep_alive);
            backoff.longest(keep_alive).as_secs()
        });
        assert_eq!(longest.collect::<Vec<_>>(), longest_s);
    }

    #[test]
    fn pauses_grow_with_failures_up_to_the_cap_of_the_link_class() {
        check(LinkClass::Lan, &[None; 6], &[1, 2, 4, 8, 10, 10]);
        check(LinkClass::Cellular, &[None; 8], &[1, 2, 4, 8, 16, 32, 60, 60]);
        check(LinkClass::Satellite, &[None; 8], &[1, 2, 4, 8, 16, 32, 60, 60]);
        check(
            LinkClass::Lan,
            &[None; 80],
            &[vec![1, 2, 4, 8], vec![10; 76]].concat(),
        );
    }

    #[test]
    fn a_link_that_was_up_for_long_begins_anew_and_one_that_flaps_does_not() {
        check(
            LinkClass::Lan,
            &[None, None, None, Some(10), None],
            &[1, 2, 4, 1, 2],
        );
        check(LinkClass::Lan, &[Some(9); 4], &[1, 2, 4, 8]);
        check(LinkClass::Lan, &[Some(3_600); 3], &[1, 1, 1]);
        check(LinkClass::Cellular, &[Some(10); 3], &[1, 2, 4]);
    }
}
