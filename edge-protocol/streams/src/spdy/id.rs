//! Stream ids and the codes of RST_STREAM.

use std::fmt;

/// Names a stream within its connection: 1 to 2³¹ − 1, odd for those that the client opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u32);

impl StreamId {
    pub const MAX: Self = Self(0x7fff_ffff);

    /// `None` for 0 and for what has no place in 31 bits.
    pub fn new(id: u32) -> Option<Self> {
        (1..=Self::MAX.0).contains(&id).then_some(Self(id))
    }

    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The status of RST_STREAM (SPDY/3, 2.6.3). A code that the specification does not name is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetCode(pub u32);

impl ResetCode {
    pub const PROTOCOL_ERROR: Self = Self(1);
    pub const INVALID_STREAM: Self = Self(2);
    pub const REFUSED_STREAM: Self = Self(3);
    pub const UNSUPPORTED_VERSION: Self = Self(4);
    pub const CANCEL: Self = Self(5);
    pub const INTERNAL_ERROR: Self = Self(6);
    pub const FLOW_CONTROL_ERROR: Self = Self(7);
    pub const STREAM_IN_USE: Self = Self(8);
    pub const STREAM_ALREADY_CLOSED: Self = Self(9);
}

impl fmt::Display for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::PROTOCOL_ERROR => "protocol error",
            Self::INVALID_STREAM => "invalid stream",
            Self::REFUSED_STREAM => "refused",
            Self::UNSUPPORTED_VERSION => "unsupported version",
            Self::CANCEL => "cancelled",
            Self::INTERNAL_ERROR => "internal error",
            Self::FLOW_CONTROL_ERROR => "flow control error",
            Self::STREAM_IN_USE => "stream in use",
            Self::STREAM_ALREADY_CLOSED => "stream already closed",
            Self(other) => return write!(f, "code {other}"),
        };
        f.write_str(name)
    }
}
