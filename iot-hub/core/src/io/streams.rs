//! Streams to devices: what is asked of the machine, and what becomes of it.

use edge_protocol::DeviceId;
use edge_protocol::v1::{Operator, StreamRefusal, StreamRequest, Ticket, ability};

/// One stream that a caller of the API asked for; never reused within a life of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// One stream of a tunnel that a device began with a ticket; never reused within a life of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PresentationId(pub u64);

/// What a caller wants of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAsk {
    pub device: DeviceId,
    pub operator: Operator,
    pub request: StreamRequest,
    /// Of the shell's randomness: the machine's own can be foreseen.
    pub ticket: Ticket,
}

/// Why a stream does not begin, or is cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamEnd {
    #[error("there is no device {0}")]
    NoSuchDevice(DeviceId),
    #[error("device {0} is not connected to the hub now")]
    NotConnected(DeviceId),
    #[error(
        "the agent of device {0} has not the ability {ability:?}: install a newer one",
        ability = ability::STREAMS
    )]
    NoStreams(DeviceId),
    #[error("what is asked of device {0} does not fit a message to it")]
    TooLarge(DeviceId),
    #[error("{what} has {limit} streams open already, and may have no more")]
    TooMany { what: String, limit: usize },
    #[error("device {device} did not open the stream within {seconds} s")]
    Unanswered { device: DeviceId, seconds: u64 },
    #[error("the connection to device {0} was lost")]
    SessionEnded(DeviceId),
    #[error("device {0} is admitted no more")]
    NotAdmitted(DeviceId),
}

impl StreamEnd {
    /// As the one who asked is told.
    pub fn refusal(&self) -> StreamRefusal {
        match self {
            Self::NoSuchDevice(_) => StreamRefusal::NotFound,
            Self::NotConnected(_) | Self::SessionEnded(_) | Self::NotAdmitted(_) => {
                StreamRefusal::NotConnected
            }
            Self::NoStreams(_) => StreamRefusal::NoStreams,
            Self::TooLarge(_) => StreamRefusal::Failed,
            Self::TooMany { .. } => StreamRefusal::TooMany,
            Self::Unanswered { .. } => StreamRefusal::Unanswered,
        }
    }
}
