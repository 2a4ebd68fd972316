//! The conversation with the hub: hello, the binding of what it says to that hello, heartbeat and watchdog.

use edge_protocol::sign::Binding;
use edge_protocol::v1::{LinkClass, Statement};
use edge_protocol::{DeviceId, EnrolmentSerial, HubId, Nonce, SessionEpoch};

/// A hello that is not answered for this long, in milliseconds, was lost.
const ANSWER_MS: u64 = 10_000;
/// A snapshot that was asked for must begin to arrive within this long, in milliseconds.
const RESYNC_MS: u64 = 30_000;

/// Who talks to whom.
#[derive(Debug, Clone)]
pub(crate) struct Parties {
    pub(crate) hub: HubId,
    pub(crate) device: DeviceId,
    pub(crate) enrolment: EnrolmentSerial,
}

#[derive(Debug)]
enum State {
    Down,
    /// The link is up; the hello waits for the device's facts.
    Unsaid(Nonce),
    Asked {
        binding: Binding,
        since_ms: u64,
    },
    Up {
        binding: Binding,
        session: SessionEpoch,
    },
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Heartbeat,
    Reconnect(&'static str),
}

#[derive(Debug)]
pub(crate) struct Session {
    parties: Parties,
    state: State,
    /// Of the next frame.
    seq: u64,
    last_asked_ms: u64,
    last_word_ms: u64,
    link: LinkClass,
    /// The class that the connection was dialled with: its CONNECT declared this keep-alive, which holds as long as it lasts.
    dialled: LinkClass,
    resync_by_ms: Option<u64>,
}

impl Session {
    pub(crate) fn new(parties: Parties, link: LinkClass) -> Self {
        Self {
            parties,
            state: State::Down,
            seq: 0,
            last_asked_ms: 0,
            last_word_ms: 0,
            link,
            dialled: link,
            resync_by_ms: None,
        }
    }

    pub(crate) fn link_up(&mut self, nonce: [u8; 16]) {
        self.state = State::Unsaid(Nonce::from_bytes(nonce));
        self.dialled = self.link;
        self.seq = 0;
        self.resync_by_ms = None;
    }

    pub(crate) fn link_down(&mut self) {
        self.state = State::Down;
        self.resync_by_ms = None;
    }

    pub(crate) fn unsaid(&self) -> Option<&Nonce> {
        match &self.state {
            State::Unsaid(nonce) => Some(nonce),
            _ => None,
        }
    }

    /// The hello is being sent: from now on the answer is awaited.
    pub(crate) fn ask(&mut self, now_ms: u64) {
        if let State::Unsaid(nonce) = &self.state {
            let binding = Binding {
                hub: self.parties.hub,
                device: self.parties.device.clone(),
                enrolment: self.parties.enrolment.clone(),
                nonce: nonce.clone(),
                session: None,
                last_seq: 0,
            };
            self.state = State::Asked {
                binding,
                since_ms: now_ms,
            };
        }
    }

    /// What a statement must be bound to; `None` while nothing was asked, so that nothing can be an answer.
    pub(crate) fn binding(&self) -> Option<&Binding> {
        match &self.state {
            State::Asked { binding, .. } | State::Up { binding, .. } => Some(binding),
            _ => None,
        }
    }

    /// A statement that fits the binding. Whether it began the session.
    pub(crate) fn accept(&mut self, statement: &Statement, now_ms: u64) -> bool {
        let began = matches!(self.state, State::Asked { .. });
        let Some(mut binding) = self.binding().cloned() else {
            return false;
        };
        binding.session = Some(statement.session);
        binding.last_seq = statement.seq;
        self.state = State::Up {
            binding,
            session: statement.session,
        };
        self.last_word_ms = now_ms;
        began
    }

    /// The hub said something of this session.
    pub(crate) fn heard(&mut self, now_ms: u64) {
        self.last_word_ms = now_ms;
    }

    pub(crate) fn epoch(&self) -> Option<SessionEpoch> {
        match &self.state {
            State::Up { session, .. } => Some(*session),
            _ => None,
        }
    }

    /// The number of the next frame.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// A frame is being sent. One that the hub may leave without an answer takes no heartbeat's place: the silence after it would be
    /// taken for the hub's end.
    pub(crate) fn sent(&mut self, now_ms: u64, is_answered: bool) {
        self.seq += 1;
        if is_answered {
            self.last_asked_ms = now_ms;
        }
    }

    /// Of the next CONNECT, in seconds.
    pub(crate) fn keep_alive_s(&self) -> u16 {
        self.link.keep_alive_s()
    }

    /// As the hub assigned it last.
    pub(crate) fn link(&self) -> LinkClass {
        self.link
    }

    /// The hub assigned this class; whether it is another one.
    pub(crate) fn assign(&mut self, link: LinkClass) -> bool {
        std::mem::replace(&mut self.link, link) != link
    }

    /// A snapshot was asked for.
    pub(crate) fn await_resync(&mut self, now_ms: u64) {
        self.resync_by_ms.get_or_insert(now_ms + RESYNC_MS);
    }

    pub(crate) fn resynced(&mut self) {
        self.resync_by_ms = None;
    }

    /// What is due now. The watchdog comes first: a dead session needs no heartbeat.
    pub(crate) fn due(&mut self, now_ms: u64) -> Option<Due> {
        match &self.state {
            State::Asked { since_ms, .. } if now_ms >= since_ms + ANSWER_MS => {
                Some(Due::Reconnect("the hello was not answered"))
            }
            State::Up { .. } if now_ms >= self.last_word_ms + self.link.deadline_ms() => {
                Some(Due::Reconnect("the hub is silent"))
            }
            State::Up { .. } if self.resync_by_ms.is_some_and(|by| now_ms >= by) => {
                Some(Due::Reconnect("the snapshot that was asked for did not come"))
            }
            State::Up { .. } if now_ms >= self.last_asked_ms + self.heartbeat_ms() => Some(Due::Heartbeat),
            _ => None,
        }
    }

    pub(crate) fn wake_at(&self) -> Option<u64> {
        match &self.state {
            State::Asked { since_ms, .. } => Some(since_ms + ANSWER_MS),
            State::Up { .. } => {
                let watchdog = self.last_word_ms + self.link.deadline_ms();
                let beat = self.last_asked_ms + self.heartbeat_ms();
                Some(watchdog.min(beat).min(self.resync_by_ms.unwrap_or(u64::MAX)))
            }
            _ => None,
        }
    }

    /// The heartbeat is the connection's keep-alive too, so it comes as often as either side counts on: the hub by the class that it
    /// assigned, the connection's far end by what CONNECT declared.
    fn heartbeat_ms(&self) -> u64 {
        let seconds = self.link.keep_alive_s().min(self.dialled.keep_alive_s());
        u64::from(seconds) * 1_000
    }

    /// The monotonic clock began anew.
    pub(crate) fn rebase(&mut self, now_ms: u64) {
        self.last_asked_ms = now_ms;
        self.last_word_ms = now_ms;
        self.resync_by_ms = self.resync_by_ms.map(|_| now_ms + RESYNC_MS);
        if let State::Asked { since_ms, .. } = &mut self.state {
            *since_ms = now_ms;
        }
    }
}

#[cfg(test)]
mod tests;
