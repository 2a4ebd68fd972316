//! What went wrong with a call, and what a caller may do about it.

use iot_hub_api::{Problem, ProblemCode};

/// What a caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The same call may succeed later.
    Retry,
    /// The hub understood the call and will never accept it as it is.
    Reject,
    /// No call of this client can succeed: its options or its token are wrong.
    Fatal,
}

/// A call that did not succeed. Whether it changed anything is unknown unless it was [`Refused`](Self::Refused); all calls
/// are idempotent, so that repeating one is safe.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("option {option}: {message}")]
    Options { option: &'static str, message: String },
    #[error("{method} {path}: the hub could not be reached")]
    Transport {
        method: &'static str,
        path: String,
        #[source]
        source: reqwest::Error,
    },
    /// The hub answered with a problem document.
    #[error("{method} {path}: {problem}")]
    Refused {
        method: &'static str,
        path: String,
        problem: Box<Problem>,
    },
    /// An error status without a problem document: some proxy's word, not the hub's. Nothing may be concluded from it.
    #[error("{method} {path}: status {status} from something that is not the hub")]
    NotTheHub {
        method: &'static str,
        path: String,
        status: u16,
    },
    #[error("{method} {path}: the answer is not what this route answers")]
    Malformed {
        method: &'static str,
        path: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{method} {path}: the answer exceeds {limit} bytes")]
    TooLarge {
        method: &'static str,
        path: String,
        limit: usize,
    },
    #[error("the watch was lost: {why}")]
    WatchLost { why: &'static str },
    #[error("the hub did not open a stream: {why}")]
    StreamLost { why: &'static str },
}

impl ClientError {
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Options { .. } => Disposition::Fatal,
            Self::Refused { problem, .. } if problem.code == ProblemCode::Unauthenticated => {
                Disposition::Fatal
            }
            Self::Refused { problem, .. } if problem.status == 429 || problem.status >= 500 => {
                Disposition::Retry
            }
            Self::Refused { .. } | Self::TooLarge { .. } => Disposition::Reject,
            Self::Transport { .. }
            | Self::NotTheHub { .. }
            | Self::Malformed { .. }
            | Self::WatchLost { .. }
            | Self::StreamLost { .. } => Disposition::Retry,
        }
    }

    /// The hub's own reason, where it gave one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// Whether the hub itself said that there is no such device, deployment or token.
    pub fn is_not_found(&self) -> bool {
        self.problem().is_some_and(|problem| problem.status == 404)
    }
}
