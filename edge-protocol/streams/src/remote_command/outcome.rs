//! How a command went, as bytes on the error stream.

use serde::{Deserialize, Serialize};

/// How a command went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// It ran and exited with this code, which is not 0; clients take 8 bits (client-go's `errorDecoderV4`).
    NonZeroExit(u8),
    /// It did not run, or how it ended is unknown.
    Failed {
        message: String,
    },
}

/// Bytes that should be a `Status` and tell no outcome.
#[derive(Debug, thiserror::Error)]
pub enum OutcomeError {
    #[error("the peer ended without an outcome")]
    Missing(#[source] Option<std::io::Error>),
    #[error("the peer's outcome exceeds {} bytes", Outcome::MAX_STATUS)]
    TooLarge,
    #[error("the peer's outcome is no Status")]
    Malformed(#[source] serde_json::Error),
    #[error("the peer's Status is {0:?}, neither Success nor Failure")]
    Unknown(String),
    #[error("the peer's Status tells of an exit code and gives none")]
    NoExitCode,
}

const SUCCESS: &str = "Success";
const FAILURE: &str = "Failure";
const NON_ZERO_EXIT_CODE: &str = "NonZeroExitCode";
const EXIT_CODE: &str = "ExitCode";
const INTERNAL_ERROR: &str = "InternalError";
/// What apimachinery's `NewInternalError` puts before its message.
const INTERNAL_ERROR_OCCURRED: &str = "Internal error occurred: ";

/// The part of apimachinery's `metav1.Status` that clients read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_field_names, reason = "the names on the wire")]
struct Status {
    /// Always there, and empty.
    metadata: serde_json::Map<String, serde_json::Value>,
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Cause {
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    message: String,
}

impl Outcome {
    /// Bytes of a `Status` that are read at most.
    pub const MAX_STATUS: usize = 64 * 1024;

    /// Of a process that ended with this code, as a runtime reports it.
    pub fn exited(code: i32) -> Self {
        match u8::try_from(code) {
            Ok(0) => Self::Success,
            Ok(code) => Self::NonZeroExit(code),
            Err(_) => Self::Failed {
                message: format!("command ended with code {code}"),
            },
        }
    }

    /// From `v4.channel.k8s.io` on. Failures read as those of the kubelet (`ServeExec`).
    pub fn to_status(&self) -> String {
        let status = match self {
            Self::Success => Status {
                status: SUCCESS.into(),
                ..Status::default()
            },
            Self::NonZeroExit(code) => Status {
                status: FAILURE.into(),
                message: exit_message(*code),
                reason: NON_ZERO_EXIT_CODE.into(),
                details: Some(Details {
                    causes: vec![Cause {
                        reason: EXIT_CODE.into(),
                        message: code.to_string(),
                    }],
                }),
                ..Status::default()
            },
            Self::Failed { message } => Status {
                status: FAILURE.into(),
                message: format!("{INTERNAL_ERROR_OCCURRED}{message}"),
                reason: INTERNAL_ERROR.into(),
                details: Some(Details {
                    causes: vec![Cause {
                        reason: String::new(),
                        message: message.clone(),
                    }],
                }),
                code: Some(500),
                ..Status::default()
            },
        };
        serde_json::to_string(&status).expect("strings and numbers are JSON")
    }

    /// Before `v4.channel.k8s.io`: text, and nothing for success.
    pub fn to_text(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::NonZeroExit(code) => exit_message(*code),
            Self::Failed { message } => message.clone(),
        }
    }

    /// Reads a whole `Status`; what [`Self::to_status`] adds to a message is taken off, so that it does not grow with each hop.
    ///
    /// # Errors
    /// [`OutcomeError`].
    pub fn from_status(bytes: &[u8]) -> Result<Self, OutcomeError> {
        if bytes.len() > Self::MAX_STATUS {
            return Err(OutcomeError::TooLarge);
        }
        let status: Status = serde_json::from_slice(bytes).map_err(OutcomeError::Malformed)?;
        match status.status.as_str() {
            SUCCESS => Ok(Self::Success),
            FAILURE if status.reason == NON_ZERO_EXIT_CODE => {
                let causes = status.details.unwrap_or_default().causes;
                let code = causes.iter().find(|cause| cause.reason == EXIT_CODE);
                let code = code.and_then(|cause| cause.message.parse().ok());
                Ok(Self::NonZeroExit(code.ok_or(OutcomeError::NoExitCode)?))
            }
            FAILURE => {
                let prefix = if status.reason == INTERNAL_ERROR {
                    INTERNAL_ERROR_OCCURRED
                } else {
                    ""
                };
                let message = status.message;
                let message = message.strip_prefix(prefix).map(str::to_owned).unwrap_or(message);
                Ok(Self::Failed { message })
            }
            _ => Err(OutcomeError::Unknown(status.status)),
        }
    }
}

fn exit_message(code: u8) -> String {
    format!("command terminated with non-zero exit code: exit status {code}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_these_statuses() {
        assert_eq!(
            Outcome::Success.to_status(),
            r#"{"metadata":{},"status":"Success"}"#
        );
        assert_eq!(
            Outcome::NonZeroExit(3).to_status(),
            r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#
        );
        let status = Outcome::Failed {
            message: "no \"sh\"".into(),
        }
        .to_status();
        let expected = r#""message":"Internal error occurred: no \"sh\"","reason":"InternalError""#;
        assert!(status.contains(expected), "{status}");
        assert!(status.ends_with(r#""code":500}"#), "{status}");
    }

    #[test]
    fn codes_of_processes_are_outcomes() {
        assert_eq!(Outcome::exited(0), Outcome::Success);
        assert_eq!(Outcome::exited(255), Outcome::NonZeroExit(255));
        for code in [-1, 256] {
            assert!(matches!(Outcome::exited(code), Outcome::Failed { .. }), "{code}");
        }
    }

    #[test]
    fn statuses_of_runtimes_are_read() {
        let read = |text: &str| Outcome::from_status(text.as_bytes());
        let message = "no \"sh\"".into();
        for outcome in [
            Outcome::Success,
            Outcome::NonZeroExit(137),
            Outcome::Failed { message },
        ] {
            assert_eq!(read(&outcome.to_status()).unwrap(), outcome);
        }
        // containerd 1.6.20, and the kubelet's own server of 1.37, which leaves metadata out.
        let status = r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        assert_eq!(read(status).unwrap(), Outcome::NonZeroExit(3));
        assert_eq!(read(r#"{"status":"Success"}"#).unwrap(), Outcome::Success);
        let failed = read(r#"{"status":"Failure","message":"no","reason":"InternalError","code":500}"#);
        assert_eq!(failed.unwrap(), Outcome::Failed { message: "no".into() });
    }

    #[test]
    fn what_tells_no_outcome_is_refused() {
        let read = |text: &str| Outcome::from_status(text.as_bytes());
        assert!(matches!(read(""), Err(OutcomeError::Malformed(_))));
        assert!(matches!(read("{}"), Err(OutcomeError::Unknown(_))));
        let code = |code: &str| {
            format!(
                r#"{{"status":"Failure","reason":"NonZeroExitCode","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#
            )
        };
        assert_eq!(read(&code("7")).unwrap(), Outcome::NonZeroExit(7));
        for bad in ["256", "-1", "", "x"] {
            assert!(matches!(read(&code(bad)), Err(OutcomeError::NoExitCode)), "{bad}");
        }
        let long = " ".repeat(Outcome::MAX_STATUS + 1);
        assert!(matches!(read(&long), Err(OutcomeError::TooLarge)));
    }
}
