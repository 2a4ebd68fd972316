//! What the device says of itself, and whether the hub of this session has it.

use edge_protocol::v1::{Facts, HeldImage, LinkClass, Pressures};

/// Facts that are not acknowledged for this long, in milliseconds, were lost, or the hub does not know their frame.
const ANSWER_MS: u64 = 30_000;

/// The facts, and how far the present session's hub is behind them.
///
/// They are told one frame at a time, and at most one in a keep-alive of the link's class, so that what flutters costs a link no more than
/// its heartbeat does. The newest are told, not each; what changes rarely is told at once.
///
/// Images are long and no decision of the hub needs them: a link that counts bytes does not carry them, and the hub keeps them over a hello.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Without images.
    facts: Option<Facts>,
    images: Vec<HeldImage>,
    /// The images that the hub has on disk, as far as this life of the agent knows.
    kept: Option<Vec<HeldImage>>,
    pressures: Pressures,
    /// The facts changed since they were last said in this session.
    news: bool,
    /// The frame that said them and is not acknowledged.
    asked: Option<Asked>,
    /// Before this the next frame waits.
    not_before_ms: u64,
}

#[derive(Debug)]
struct Asked {
    seq: u64,
    /// When no answer means that it was lost.
    lost_ms: u64,
    /// The images in it.
    images: Option<Vec<HeldImage>>,
    /// The rest of it the hub has already.
    images_alone: bool,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    Facts(Box<Facts>),
    /// The hub did not acknowledge what it was told.
    Lost,
}

impl Claims {
    /// Absent until something was measured; without images.
    pub(crate) fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    pub(crate) fn measured(&mut self, mut facts: Facts) {
        self.images = std::mem::take(&mut facts.images);
        self.hold(facts);
    }

    pub(crate) fn pressed(&mut self, pressures: Pressures) {
        self.pressures = pressures;
        if let Some(facts) = self.facts.clone() {
            self.hold(facts);
        }
    }

    fn hold(&mut self, facts: Facts) {
        let facts = Facts {
            pressures: self.pressures,
            ..facts
        };
        if self.facts.as_ref() != Some(&facts) {
            self.news = true;
            self.facts = Some(facts);
        }
    }

    /// A hello is being sent, which says all but the images.
    pub(crate) fn said_hello(&mut self) {
        self.news = false;
        self.asked = None;
    }

    /// The hub has on disk what frames up to this one said.
    pub(crate) fn acknowledged(&mut self, seq: Option<u64>) {
        if let Some(asked) = self.asked.take_if(|asked| seq >= Some(asked.seq)) {
            self.kept = asked.images.or(self.kept.take());
        }
    }

    /// What to do in a session whose next frame is this one.
    pub(crate) fn due(&mut self, seq: u64, link: LinkClass, now_ms: u64) -> Option<Telling> {
        if now_ms < self.wake_at(link)? {
            return None;
        }
        match self.asked.take() {
            // Images are not worth a session, which an old hub would cost each time.
            Some(asked) if asked.images_alone => {
                self.kept = asked.images;
                return None;
            }
            Some(_) => return Some(Telling::Lost),
            None => {}
        }
        let facts = self.facts.clone()?;
        let images = (link == LinkClass::Lan).then(|| self.images.clone());
        self.asked = Some(Asked {
            seq,
            lost_ms: now_ms + ANSWER_MS,
            images: images.clone(),
            images_alone: !self.news,
        });
        self.news = false;
        self.not_before_ms = now_ms + u64::from(link.keep_alive_s()) * 1000;
        Some(Telling::Facts(Box::new(Facts {
            images: images.unwrap_or_default(),
            ..facts
        })))
    }

    /// When something is due in a session over such a link.
    pub(crate) fn wake_at(&self, link: LinkClass) -> Option<u64> {
        let kept = self.kept.as_deref().unwrap_or_default();
        let news = self.news || (link == LinkClass::Lan && self.facts.is_some() && kept != self.images);
        let awaited = self.asked.as_ref().map(|asked| asked.lost_ms);
        awaited.or(news.then_some(self.not_before_ms))
    }

    /// The monotonic clock began anew.
    pub(crate) fn rebase(&mut self, now_ms: u64) {
        if let Some(asked) = &mut self.asked {
            asked.lost_ms = now_ms + ANSWER_MS;
        }
        self.not_before_ms = now_ms;
    }
}
