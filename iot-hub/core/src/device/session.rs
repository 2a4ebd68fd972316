//! A device's session: begun by a hello, bound to its nonce and connection, ended by the next one.

use edge_protocol::text::sanitise;
use edge_protocol::v1::{AckStage, Facts, HeldSet, Hello, SetAck, bounded_images};
use edge_protocol::{DesiredSet, Digest, Nonce, Now, SessionEpoch, SetGeneration, Verdict, judge};

use super::{Acknowledged, Device, Offered};
use crate::io::{ConnectionId, RefusedSet};

/// Abilities a device may list, and the bytes of each: claims are bounded before they are kept.
const MAX_FEATURES: usize = 64;
/// One of each family.
const MAX_ADDRESSES: usize = 2;
const MAX_FEATURE_BYTES: usize = 64;
/// Facts are names and versions; the longest is a host name.
const MAX_FACT_BYTES: usize = 253;

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) epoch: SessionEpoch,
    pub(crate) nonce: Nonce,
    connection: ConnectionId,
    /// The number of the next statement.
    pub(super) next_seq: u64,
    /// Status frames up to this number of the device's are done with: an older one is a late repeat.
    status_seq: u64,
    /// The newest frame that told facts.
    pub(crate) facts_seq: Option<u64>,
    /// Whether the first statement went out.
    pub(super) greeted: bool,
    /// Whether the device has said something in it: it knows its session.
    spoken: bool,
    /// Whether what the device holds is what `acknowledged` says. Without it only a snapshot makes sense.
    pub(super) knows_base: bool,
    pub(super) offered: Option<Offered>,
    /// The first event after a gap, and the frame that had it; see [`Device::takes_events`].
    gap: Option<(u64, u64)>,
}

impl Session {
    /// The set that the device has whole, though not yet on disk.
    pub(super) fn received(&self) -> Option<&DesiredSet> {
        self.offered
            .as_ref()
            .filter(|offered| offered.received)
            .map(|offered| &offered.items)
    }

    pub(crate) fn has_spoken(&self) -> bool {
        self.spoken
    }

    pub(crate) fn resend_at(&self) -> Option<u64> {
        self.offered.as_ref().and_then(|offered| offered.resend_at)
    }
}

/// What a hello's held set is, seen from the hub's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// The device holds the present set.
    Same,
    /// The device holds the acknowledged set, which is older.
    Known,
    /// The device holds nothing, or something older that is not remembered.
    Unknown,
    /// The device holds what this hub cannot have given it, had it not been restored from an older state.
    Ahead,
}

/// What an acknowledgement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckOutcome {
    /// A repeat, or of another time.
    Ignored,
    /// The ladder rose in memory.
    Received,
    /// `acknowledged` changed: to be written.
    Persisted,
    /// Offer again, as a snapshot.
    WantsSnapshot,
    /// The device holds something of its own against this set.
    Quarantined,
    /// The device does not take this set; it is not repeated.
    Refused,
}

impl Device {
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        self.session.as_deref_mut()
    }

    /// The device said something in its session.
    pub(crate) fn spoke(&mut self) {
        if let Some(session) = self.session_mut() {
            session.spoken = true;
        }
    }

    /// Whether that took away something received but not yet persisted.
    pub(crate) fn end_session(&mut self) -> bool {
        self.session
            .take()
            .is_some_and(|session| session.received().is_some())
    }

    /// Whether a set was received that is not yet persisted.
    pub(crate) fn has_received(&self) -> bool {
        self.session().is_some_and(|session| session.received().is_some())
    }

    /// Whether this hello is a repeat of the one that began the present session.
    pub(crate) fn is_repeat(&self, connection: ConnectionId, nonce: &Nonce) -> bool {
        self.session()
            .is_some_and(|session| session.connection == connection && session.nonce == *nonce)
    }

    /// Answer the present hello once more.
    pub(crate) fn greet_again(&mut self) {
        if let Some(session) = self.session_mut() {
            session.greeted = false;
            session.offered = None;
        }
    }

    /// Something of the next statement changed that is not the set: say it although the device is up to date.
    pub(crate) fn tell_again(&mut self) {
        if let Some(session) = self.session_mut() {
            session.greeted = false;
        }
    }

    /// Begins a session. The record must be on disk before anything of the session is sent, so that no epoch is ever given twice.
    pub(crate) fn begin(&mut self, connection: ConnectionId, hello: &Hello) -> SessionEpoch {
        self.record.last_session = SessionEpoch(self.record.last_session.0 + 1);
        self.record.agent_version = clipped(&hello.agent_version, MAX_FEATURE_BYTES);
        self.record.features = hello
            .features
            .iter()
            .take(MAX_FEATURES)
            .map(|feature| clipped(feature, MAX_FEATURE_BYTES))
            .collect();
        self.record.facts = Facts {
            images: std::mem::take(&mut self.record.facts.images),
            ..bounded_facts(&hello.facts)
        };
        self.session = Some(Box::new(Session {
            epoch: self.record.last_session,
            nonce: hello.nonce.clone(),
            connection,
            next_seq: 1,
            status_seq: 0,
            facts_seq: None,
            greeted: false,
            spoken: false,
            knows_base: false,
            offered: None,
            gap: None,
        }));
        self.record.last_session
    }

    /// Judges what the device holds against what the hub wants of it, and notes what that says about the acknowledged set.
    pub(crate) fn greet(&mut self, held: Option<&HeldSet>) -> Greeting {
        let held = held.map(|held| (held.generation, held.digest));
        let against = |set: (SetGeneration, Digest)| held.map(|held| judge(Some(set), held));
        let greeting = match against((self.generation, self.digest)) {
            Some(Verdict::Newer | Verdict::Conflict) => Greeting::Ahead,
            Some(Verdict::Same) => Greeting::Same,
            Some(Verdict::Stale) | None => {
                let acknowledged = self
                    .acknowledged()
                    .map(|(generation, set)| (generation, set.digest()));
                match acknowledged.and_then(against) {
                    Some(Verdict::Same) => Greeting::Known,
                    Some(Verdict::Conflict) => Greeting::Ahead,
                    Some(Verdict::Stale | Verdict::Newer) | None => Greeting::Unknown,
                }
            }
        };
        match greeting {
            Greeting::Same | Greeting::Known => self.knows_base(),
            // Whatever it once said, it does not hold it now.
            Greeting::Unknown | Greeting::Ahead => self.acknowledged = Acknowledged::Nothing,
        }
        greeting
    }

    fn knows_base(&mut self) {
        if let Some(session) = self.session_mut() {
            session.knows_base = true;
        }
    }

    /// The device holds the present set; whether that is news.
    pub(crate) fn acknowledge_current(&mut self) -> bool {
        let news = !matches!(self.acknowledged, Acknowledged::Current);
        self.acknowledged = Acknowledged::Current;
        news
    }

    pub(crate) fn ack(&mut self, ack: &SetAck, now: &Now) -> AckOutcome {
        let current = (self.generation, self.digest);
        let Some(session) = self.session.as_deref_mut() else {
            return AckOutcome::Ignored;
        };
        let Some(offered) = session
            .offered
            .as_mut()
            .filter(|offered| (offered.generation, offered.digest) == (ack.generation, ack.digest))
        else {
            return AckOutcome::Ignored;
        };
        match ack.stage {
            AckStage::Received if offered.received => AckOutcome::Ignored,
            AckStage::Received => {
                offered.received = true;
                AckOutcome::Received
            }
            AckStage::Persisted => {
                session.knows_base = true;
                self.refused = None;
                if let Some(offered) = session.offered.take() {
                    self.acknowledged = if (ack.generation, ack.digest) == current {
                        Acknowledged::Current
                    } else {
                        Acknowledged::Older(Box::new((offered.generation, offered.items)))
                    };
                }
                AckOutcome::Persisted
            }
            // A snapshot has no base: the word belongs to a delta that was sent earlier.
            AckStage::BaseMissing if !offered.is_delta => AckOutcome::Ignored,
            AckStage::BaseMissing => {
                session.knows_base = false;
                session.offered = None;
                AckOutcome::WantsSnapshot
            }
            // Said before `Persisted` of a set that contradicts some of what the device holds. Should that word be lost, the repeat brings it.
            AckStage::Quarantined => AckOutcome::Quarantined,
            AckStage::Stale | AckStage::Refused if offered.resend_at.is_none() => AckOutcome::Ignored,
            AckStage::Stale | AckStage::Refused => {
                offered.resend_at = None;
                self.refused = Some(RefusedSet {
                    generation: ack.generation,
                    stage: ack.stage,
                    since_ms: now.wall_ms,
                });
                AckOutcome::Refused
            }
            AckStage::Unknown => AckOutcome::Ignored,
        }
    }

    /// Facts that a frame of this number told. An older one than the newest is a late repeat.
    pub(crate) fn take_facts(&mut self, seq: u64, facts: &Facts) {
        let news = match self.session_mut() {
            Some(session) if session.facts_seq < Some(seq) => {
                session.facts_seq = Some(seq);
                true
            }
            _ => false,
        };
        if news {
            self.record.facts = bounded_facts(facts);
        }
    }

    /// Whether a status frame of this number is news. Lanes keep their order, so that an older one is a late repeat, and each
    /// report holds all that is not yet acknowledged: skipping loses nothing.
    pub(crate) fn takes_status(&mut self, seq: u64) -> bool {
        match self.session_mut() {
            Some(session) if seq > session.status_seq => {
                session.status_seq = seq;
                true
            }
            _ => false,
        }
    }

    /// Whether events beginning with `first` may follow what is stored. A gap may be a lost frame, whose content comes again once the
    /// hub repeats what it has, or the device forgot the events in between: then the same beginning comes in a later frame.
    pub(crate) fn takes_events(&mut self, first: u64, seq: u64) -> bool {
        let next = self.record.event_seq.saturating_add(1);
        let Some(session) = self.session_mut() else {
            return false;
        };
        if first <= next {
            session.gap = None;
            return true;
        }
        let again = session
            .gap
            .is_some_and(|(gap, frame)| gap == first && seq > frame);
        session.gap = if again { None } else { Some((first, seq)) };
        again
    }

    /// Notes for the record what only memory knew, before it is written.
    pub(crate) fn stamp(&mut self) {
        self.record.last_seen_ms = self.last_seen_ms();
    }

    /// Whether a liveness deadline has passed.
    pub(crate) fn is_past_deadline(&self, now: &Now) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now.mono_ms)
    }
}

fn bounded_facts(facts: &Facts) -> Facts {
    let text = |text: &str| clipped(text, MAX_FACT_BYTES);
    Facts {
        hostname: text(&facts.hostname),
        os: text(&facts.os),
        arch: text(&facts.arch),
        kernel_version: text(&facts.kernel_version),
        os_image: text(&facts.os_image),
        runtime_name: text(&facts.runtime_name),
        runtime_version: text(&facts.runtime_version),
        machine_id: text(&facts.machine_id),
        system_uuid: text(&facts.system_uuid),
        boot_id: text(&facts.boot_id),
        addresses: facts
            .addresses
            .iter()
            .take(MAX_ADDRESSES)
            .map(|address| text(address))
            .collect(),
        images: bounded_images(facts.images.clone()),
        pressures: facts.pressures,
        strict_groups: facts.strict_groups,
        cpu_milli: facts.cpu_milli,
        memory_bytes: facts.memory_bytes,
        ephemeral_storage_bytes: facts.ephemeral_storage_bytes,
        pods: facts.pods,
    }
}

/// A device's text without control characters, and at most this long.
pub(crate) fn clipped(text: &str, bytes: usize) -> String {
    let mut clean = sanitise(text);
    let mut end = bytes.min(clean.len());
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean.truncate(end);
    clean.shrink_to_fit();
    clean
}
