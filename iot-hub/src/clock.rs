//! The process's clocks, read in one place.

use std::time::{Duration, Instant};

use edge_protocol::{BootId, Now};
use jiff::Timestamp;
use uuid::Uuid;

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Counts from the start of the process, which is as long as anything monotonic of the hub lives: its boot is its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    boot_id: BootId,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            boot_id: BootId(Uuid::new_v4()),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let mono_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now {
            mono_ms,
            wall_ms: wall_ms(),
            boot_id: self.boot_id,
        }
    }

    /// When the monotonic count reaches `mono_ms`; far away if it never does.
    pub(crate) fn instant(&self, mono_ms: u64) -> Instant {
        let far = self.start + Duration::from_hours(24 * 365 * 30);
        self.start
            .checked_add(Duration::from_millis(mono_ms))
            .unwrap_or(far)
            .min(far)
    }
}
