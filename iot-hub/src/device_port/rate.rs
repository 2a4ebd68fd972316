//! Attempts per address and minute, in bounded memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_mins(1);
/// Addresses remembered. When all are used by others in this minute, newcomers share one count, so that a flood from many
/// addresses is bounded too.
const MAX_ADDRESSES: usize = 4096;

pub(super) struct RateLimit {
    per_window: u32,
    state: Mutex<State>,
}

struct State {
    began: Instant,
    counts: HashMap<Source, u32>,
}

/// An IPv4 address, an IPv6 /64 (which one customer has), or all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    V4(u32),
    V6(u64),
    Others,
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                Self::V6(u64::try_from(address.to_bits() >> 64).expect("64 bits are left"))
            }
        }
    }
}

impl RateLimit {
    pub(super) fn new(per_window: u32) -> Self {
        Self {
            per_window,
            state: Mutex::new(State {
                began: Instant::now(),
                counts: HashMap::new(),
            }),
        }
    }

    /// Counts one attempt; whether it may go on.
    pub(super) fn admit(&self, address: IpAddr, now: Instant) -> bool {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        if now.saturating_duration_since(state.began) >= WINDOW {
            state.began = now;
            state.counts.clear();
        }
        let mut source = Source::from(address);
        if !state.counts.contains_key(&source) && state.counts.len() >= MAX_ADDRESSES {
            source = Source::Others;
        }
        let count = state.counts.entry(source).or_insert(0);
        *count = count.saturating_add(1);
        *count <= self.per_window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_and_memory_is_bounded() {
        let limit = RateLimit::new(2);
        let begin = Instant::now();
        let v6 = |tail: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, tail]);
        assert!(limit.admit(v6(1), begin) && limit.admit(v6(2), begin));
        assert!(!limit.admit(v6(3), begin), "one /64 is one source");
        assert!(limit.admit(IpAddr::from([10, 0, 0, 1]), begin));
        assert!(limit.admit(v6(4), begin + WINDOW), "a minute later");
        let many = (0..10_000u32).filter(|n| limit.admit(IpAddr::V4((*n).into()), begin + WINDOW));
        assert!(many.count() <= MAX_ADDRESSES + 2);
        assert!(limit.state.lock().unwrap().counts.len() <= MAX_ADDRESSES + 1);
    }
}
