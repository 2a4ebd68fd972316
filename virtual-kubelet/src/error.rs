//! What went wrong with a call of the API server.

/// One failed call, or the loss of what this process needs to go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{method} {path}")]
    Call {
        method: &'static str,
        path: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("{method} {path}: no answer in {seconds} s")]
    Timeout {
        method: &'static str,
        path: String,
        seconds: u64,
    },
    #[error("{path}: the answer lacks {what}")]
    Malformed { path: String, what: &'static str },
    #[error(
        "the leader lease {lease} was lost: another process may lead now, so this one ends; started again it stands by"
    )]
    LeaseLost { lease: String },
    #[error("task {task} ended")]
    TaskEnded { task: &'static str },
}

impl Error {
    /// The API server's own status, when it gave one.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Call { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// The HTTP status of the API server's answer.
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    /// The error with all its causes, for one line of a log.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// Any error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
