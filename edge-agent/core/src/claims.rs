//! What the device says of itself, and whether the hub of this session has it.

use edge_protocol::v1::{Facts, LinkClass, Pressures};

/// Facts that are not acknowledged for this long, in milliseconds, were lost, or the hub does not know their frame.
const ANSWER_MS: u64 = 30_000;

/// The facts, and how far the present session's hub is behind them.
///
/// They are told one frame at a time, and at most one in a keep-alive of the link's class, so that what flutters costs a link no more than
/// its heartbeat does. The newest are told, not each; what changes rarely is told at once.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    facts: Option<Facts>,
    pressures: Pressures,
    /// The facts changed since they were last said in this session.
    news: bool,
    /// The frame that said them and is not acknowledged, and when that means that it was lost.
    asked: Option<(u64, u64)>,
    /// Before this the next frame waits.
    not_before_ms: u64,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    Facts(Box<Facts>),
    /// The hub did not acknowledge what it was told.
    Lost,
}

impl Claims {
    /// Absent until something was measured.
    pub(crate) fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    pub(crate) fn measured(&mut self, facts: Facts) {
        let facts = Facts {
            pressures: self.pressures,
            ..facts
        };
        if self.facts.as_ref() != Some(&facts) {
            self.news = true;
            self.facts = Some(facts);
        }
    }

    pub(crate) fn pressed(&mut self, pressures: Pressures) {
        self.pressures = pressures;
        if let Some(facts) = self.facts.clone() {
            self.measured(facts);
        }
    }

    /// A hello is being sent, which says all.
    pub(crate) fn said_hello(&mut self) {
        self.news = false;
        self.asked = None;
    }

    /// The hub has on disk what frames up to this one said.
    pub(crate) fn acknowledged(&mut self, seq: Option<u64>) {
        if self.asked.is_some_and(|(asked, _)| seq >= Some(asked)) {
            self.asked = None;
        }
    }

    /// What to do in a session whose next frame is this one.
    pub(crate) fn due(&mut self, seq: u64, link: LinkClass, now_ms: u64) -> Option<Telling> {
        if now_ms < self.wake_at()? {
            return None;
        }
        if self.asked.is_some() {
            return Some(Telling::Lost);
        }
        self.news = false;
        self.asked = Some((seq, now_ms + ANSWER_MS));
        self.not_before_ms = now_ms + u64::from(link.keep_alive_s()) * 1000;
        self.facts.clone().map(Box::new).map(Telling::Facts)
    }

    /// When something is due in a session.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        let awaited = self.asked.map(|(_, lost_ms)| lost_ms);
        awaited.or(self.news.then_some(self.not_before_ms))
    }

    /// The monotonic clock began anew.
    pub(crate) fn rebase(&mut self, now_ms: u64) {
        self.asked = self.asked.map(|(seq, _)| (seq, now_ms + ANSWER_MS));
        self.not_before_ms = now_ms;
    }
}
