//! What can go wrong with a call, and what its caller should do.

use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};

/// One CRI call, as named in logs and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Version,
    Status,
    RunPodSandbox,
    StopPodSandbox,
    RemovePodSandbox,
    PodSandboxStatus,
    ListPodSandbox,
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    ListContainers,
    ContainerStatus,
    UpdateContainerResources,
    ReopenContainerLog,
    ExecSync,
    Exec,
    Attach,
    ContainerStats,
    ListContainerStats,
    ListPodSandboxStats,
    GetContainerEvents,
    ListImages,
    ImageStatus,
    PullImage,
    RemoveImage,
    ImageFsInfo,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The variants bear the names of the calls.
        fmt::Debug::fmt(self, f)
    }
}

/// What to do about a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The same call may succeed later: repeat it with backoff.
    Retry,
    /// The same call will fail again as long as the request or the object it names is the same.
    Reject,
    /// The peer does not speak CRI v1 as specified: nothing asked of it can be relied on.
    Fatal,
}

/// A failed call: which, on what, and how.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {id}: {kind}")]
pub struct CriError {
    pub operation: Operation,
    /// What the call was about: the id of a container or sandbox, a pod's `namespace/name`, an image reference, a
    /// selector; `-` for the runtime as a whole.
    pub id: String,
    pub kind: CriErrorKind,
    /// The runtime's own words, if it was the runtime that refused.
    #[source]
    pub(crate) status: Option<Box<Status>>,
}

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CriErrorKind {
    /// The sandbox, container or image does not exist.
    #[error("not found")]
    NotFound,
    /// The name (pod, container name and attempt) is taken.
    #[error("already exists")]
    AlreadyExists,
    /// The request is invalid, or the object's state forbids it.
    #[error("refused")]
    Refused,
    /// The runtime is too old for this call.
    #[error("not implemented by this runtime")]
    Unimplemented,
    /// The socket cannot be reached, or the connection broke during the call.
    #[error("runtime unavailable")]
    Unavailable,
    /// No answer within the deadline; the runtime may still carry the call out.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The runtime tried and failed. containerd reports nearly everything this way, pull failures too.
    #[error("failed in the runtime")]
    Failed,
    /// The answer lacks a mandatory part.
    #[error("answer lacks {0}")]
    Malformed(&'static str),
}

impl CriError {
    /// The runtime's own message, at most 1 KiB with control characters replaced, or the empty string. It may quote
    /// what the device's user chose (image names, commands), so it is data, never a format.
    pub fn detail(&self) -> String {
        const MAX_BYTES: usize = 1024;
        let mut text = String::new();
        for c in self.status.as_deref().map_or("", Status::message).chars() {
            let c = if c.is_control() { ' ' } else { c };
            if text.len() + c.len_utf8() > MAX_BYTES {
                break;
            }
            text.push(c);
        }
        text
    }

    /// The runtime's word as a kubelet shows it of a container that cannot be made or started (`startContainer` of
    /// `kuberuntime_container.go`); where the runtime said nothing, what happened.
    pub fn as_words(&self) -> String {
        match &self.status {
            Some(_) => self.detail(),
            None => self.to_string(),
        }
    }

    /// The runtime's word as a kubelet shows it of a pull: a code that says nothing is left out (`pullImageV1` of `cri-client`).
    pub fn as_pull(&self) -> String {
        match &self.status {
            Some(status) if status.code() == Code::Unknown => self.detail(),
            _ => self.as_status(),
        }
    }

    /// The runtime's word as Go's client of gRPC prints it, and so every kubelet; where the runtime said nothing, what happened.
    pub fn as_status(&self) -> String {
        let Some(status) = &self.status else {
            return self.to_string();
        };
        // Only one code is spelt in another way there.
        let code = match status.code() {
            Code::Cancelled => "Canceled".to_owned(),
            code => format!("{code:?}"),
        };
        format!("rpc error: code = {code} desc = {}", self.detail())
    }

    /// Whether the object that the call was about is not there: success, for a removal.
    pub fn is_not_found(&self) -> bool {
        self.kind == CriErrorKind::NotFound
    }

    /// What the caller should do.
    pub fn disposition(&self) -> Disposition {
        match self.kind {
            CriErrorKind::Unavailable | CriErrorKind::TimedOut(_) | CriErrorKind::Failed => {
                Disposition::Retry
            }
            CriErrorKind::NotFound
            | CriErrorKind::AlreadyExists
            | CriErrorKind::Refused
            | CriErrorKind::Unimplemented => Disposition::Reject,
            CriErrorKind::Malformed(_) => Disposition::Fatal,
        }
    }

    pub(crate) fn from_status(operation: Operation, id: &str, status: Status, limit: Duration) -> Self {
        let kind = match status.code() {
            Code::NotFound => CriErrorKind::NotFound,
            Code::AlreadyExists => CriErrorKind::AlreadyExists,
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated => CriErrorKind::Refused,
            Code::Unimplemented => CriErrorKind::Unimplemented,
            Code::Unavailable => CriErrorKind::Unavailable,
            Code::DeadlineExceeded => CriErrorKind::TimedOut(limit),
            Code::Ok
            | Code::Unknown
            | Code::Cancelled
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::DataLoss => Self::unclassified(&status),
        };
        Self {
            operation,
            id: id.to_owned(),
            kind,
            status: Some(Box::new(status)),
        }
    }

    /// The kind of a status whose code says nothing.
    ///
    /// A connection that breaks during a call surfaces as Unknown or Internal with the transport's error as source;
    /// a status that the runtime sent has no source.
    fn unclassified(status: &Status) -> CriErrorKind {
        if std::error::Error::source(status).is_some() {
            CriErrorKind::Unavailable
        } else {
            CriErrorKind::Failed
        }
    }

    pub(crate) fn timed_out(operation: Operation, id: &str, limit: Duration) -> Self {
        Self {
            operation,
            id: id.to_owned(),
            kind: CriErrorKind::TimedOut(limit),
            status: None,
        }
    }

    pub(crate) fn malformed(operation: Operation, id: &str, lacking: &'static str) -> Self {
        Self {
            operation,
            id: id.to_owned(),
            kind: CriErrorKind::Malformed(lacking),
            status: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_map_to_kinds_and_dispositions() {
        #[track_caller]
        fn check(code: Code, kind: CriErrorKind, disposition: Disposition) {
            let error = CriError::from_status(
                Operation::StopContainer,
                "c1",
                Status::new(code, "words"),
                Duration::from_secs(9),
            );
            assert_eq!((error.kind, error.disposition()), (kind, disposition), "{code:?}");
            assert_eq!(error.detail(), "words");
        }
        check(Code::NotFound, CriErrorKind::NotFound, Disposition::Reject);
        check(
            Code::AlreadyExists,
            CriErrorKind::AlreadyExists,
            Disposition::Reject,
        );
        check(Code::InvalidArgument, CriErrorKind::Refused, Disposition::Reject);
        check(
            Code::Unimplemented,
            CriErrorKind::Unimplemented,
            Disposition::Reject,
        );
        check(Code::Unavailable, CriErrorKind::Unavailable, Disposition::Retry);
        check(Code::Unknown, CriErrorKind::Failed, Disposition::Retry);
        check(
            Code::DeadlineExceeded,
            CriErrorKind::TimedOut(Duration::from_secs(9)),
            Disposition::Retry,
        );
    }

    #[test]
    fn display_names_the_call_and_its_object_and_leaves_the_source_out() {
        let status = Status::new(Code::NotFound, "no such container");
        let error = CriError::from_status(Operation::StopContainer, "c1", status, Duration::ZERO);
        assert_eq!(error.to_string(), "StopContainer c1: not found");
        assert_eq!(
            error.as_status(),
            "rpc error: code = NotFound desc = no such container"
        );
        assert_eq!(error.as_pull(), error.as_status());
        assert_eq!(error.as_words(), "no such container");
    }

    #[test]
    fn a_pull_leaves_out_a_code_that_says_nothing_and_silence_is_told_by_what_happened() {
        let status = Status::new(Code::Unknown, "no route");
        let error = CriError::from_status(Operation::PullImage, "i", status, Duration::ZERO);
        assert_eq!(error.as_pull(), "no route");
        let silent = CriError {
            status: None,
            ..error
        };
        assert_eq!(silent.as_pull(), silent.to_string());
        assert_eq!(silent.as_words(), silent.to_string());
    }

    #[test]
    fn detail_is_bounded_and_free_of_control_characters() {
        let status = Status::new(Code::Unknown, format!("a\nb\u{1b}[31m{}", "é".repeat(2000)));
        let detail = CriError::from_status(Operation::PullImage, "i", status, Duration::ZERO).detail();
        assert!(
            detail.len() <= 1024 && detail.starts_with("a b [31mé"),
            "{detail}"
        );
    }
}
