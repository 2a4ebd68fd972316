//! Streams: what someone has a device do for them while both look on. A command in a container, its log, a connection to one of its ports.
//!
//! The hub says over MQTT what is asked, in a signed [`StreamOrder`]. The device dials the hub's tunnel if it has none, opens a stream of it, and
//! begins that with its [`StreamOpening`]: the hub gives the stream to whoever waits for this ticket, once. A device that will not says why the same way.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DeviceId, EnrolmentSerial, HubId, Nonce, PodUid, SessionEpoch};

/// How long a ticket is good for at the hub, in milliseconds: to dial, over a slow link too.
pub const TICKET_MS: u64 = 30_000;
/// The arguments of a command, in sum, in bytes: what Linux takes as one argument.
pub const MAX_COMMAND: usize = 128 << 10;
/// The opening of a stream, in bytes: a ticket, and a message when the device will not.
pub const MAX_OPENING: usize = 8 << 10;

/// What the hub signs. It is bound to the present session of the device as a [`Statement`](super::Statement) is, but has no number: statements travel
/// in another lane, and one that comes twice opens a stream that the hub gives to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOrder {
    pub v: u16,
    pub hub: HubId,
    pub device: DeviceId,
    pub enrolment: EnrolmentSerial,
    /// The nonce of the hello that began the session.
    pub nonce: Nonce,
    pub session: SessionEpoch,
    pub ticket: Ticket,
    pub operator: Operator,
    pub request: StreamRequest,
}

/// Who asks: for the device's own log, and for its policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Operator {
    /// The hub's name for the caller of its API.
    pub principal: String,
    /// The person on whose behalf that asks, as it says: the user of a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StreamRequest {
    /// A command in a running container.
    Exec {
        uid: PodUid,
        container: String,
        /// As it is executed: no shell sees it. At most [`MAX_COMMAND`] bytes.
        command: Vec<String>,
        stdio: Stdio,
    },
    /// The first process of a running container.
    Attach {
        uid: PodUid,
        container: String,
        stdio: Stdio,
    },
    /// One TCP connection to a port of the pod, from inside its network.
    PortForward { uid: PodUid, port: u16 },
    /// What a container wrote.
    Logs {
        uid: PodUid,
        container: String,
        query: LogQuery,
    },
    /// A kind of a newer hub: refused as such.
    #[serde(other)]
    Unknown,
}

/// Which of a process's streams are wanted. With a terminal there is no `stderr` of its own.
#[expect(clippy::struct_excessive_bools, reason = "four streams, each wanted or not")]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stdio {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Which lines of a log, as `PodLogOptions` of k8s.io/api/core/v1 has them. What is absent bounds nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[expect(clippy::struct_excessive_bools, reason = "as PodLogOptions has them")]
pub struct LogQuery {
    /// Go on with what is written from now on, until the instance that is read has ended, as under a kubelet.
    pub follow: bool,
    /// With `follow`: and on with the instances after it, until no other can come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub through_restarts: bool,
    /// Of the instance before the present one.
    pub previous: bool,
    /// Each line begins with its time (RFC 3339, nanoseconds).
    pub timestamps: bool,
    /// Lines of the runtime's, as a kubelet counts: of a long one each part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail_lines: Option<u64>,
    /// Seconds before now, by the device's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<u64>,
    /// Milliseconds since the Unix epoch, by the device's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Of both where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<LogSource>,
    /// Only what comes after this, of a log that was read before: a link was cut. Where the log begins otherwise (`tail_lines`, `since_seconds`,
    /// `since_ms`) counts for nothing then; `limit_bytes` is of this answer alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<LogPosition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LogSource {
    Stdout,
    Stderr,
}

/// Where a reader is in a container's log. It stays true when files are rotated: a file is known by its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogPosition {
    /// The instance of the container.
    pub attempt: u32,
    /// The time of the file's first line that has one, in nanoseconds since the Unix epoch.
    pub file: i64,
    /// The end of what was told, in bytes from the beginning of the file as it was written; of a very long line it may be inside.
    pub offset: u64,
}

/// The device's first word on a stream of the tunnel: a `u32` in network order, the length of the JSON that follows, at most [`MAX_OPENING`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOpening {
    pub v: u16,
    pub ticket: Ticket,
    pub answer: StreamAnswer,
}

/// What becomes of a stream that was asked for: the device's word to the hub, and the hub's to whoever asked it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StreamAnswer {
    /// What was asked goes on; the stream carries it.
    Begun,
    Refused {
        why: StreamRefusal,
        message: String,
    },
    /// An answer of a newer agent.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StreamRefusal {
    /// The device has no such workload or container.
    NotFound,
    /// It has, and it does not run.
    NotRunning,
    /// The device's own policy forbids it.
    Forbidden,
    /// As many streams are open as the device allows.
    Busy,
    /// A kind of stream that this agent does not know.
    Unsupported,
    /// It was tried, and did not work.
    Failed,
    /// The hub has no session with the device, or lost it before the stream began.
    NotConnected,
    /// The device's agent has no streams.
    NoStreams,
    /// The device did not open the stream within [`TICKET_MS`].
    Unanswered,
    /// As many streams are open, to the device or in all, as the hub allows.
    TooMany,
    #[serde(other)]
    Unknown,
}

/// What a stream is given for, once: 64 lower-case hex digits. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ticket(String);

/// The text is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a ticket is 64 lower-case hex digits")]
pub struct NoTicket;

impl Ticket {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(crate::digest::hex(&bytes))
    }
}

impl TryFrom<String> for Ticket {
    type Error = NoTicket;

    fn try_from(text: String) -> Result<Self, NoTicket> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 64 && text.bytes().all(is_digit))
            .then_some(Self(text))
            .ok_or(NoTicket)
    }
}

impl From<Ticket> for String {
    fn from(ticket: Ticket) -> Self {
        ticket.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}
