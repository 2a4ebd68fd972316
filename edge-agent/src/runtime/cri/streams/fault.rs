//! Why there is no stream.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use edge_agent_cri::CriError;
use edge_protocol::text::sanitise;
use edge_protocol::v1::StreamRefusal;
use edge_streams::OpenError;
use edge_streams::remote_command::NoStreams;

use crate::runtime::with_cause;

/// Why a command was not run, a container not attached to, or a port not reached.
#[derive(Debug, thiserror::Error)]
pub enum StreamFault {
    /// Not here, or not this agent's.
    #[error("{what} not found ({id:?})")]
    NotFound { what: &'static str, id: String },
    #[error("{what} is in {state} state")]
    NotRunning { what: &'static str, state: &'static str },
    #[error(transparent)]
    NoStreams(#[from] NoStreams),
    /// The runtime does not answer, or refuses.
    #[error(transparent)]
    Runtime(#[from] CriError),
    #[error(
        "the runtime serves streams at {url:?}, which is no http on loopback: set its stream_server_address to 127.0.0.1, without TLS"
    )]
    Elsewhere { url: String },
    #[error("the runtime's server of streams at {address} cannot be reached")]
    Dial {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("the runtime's server of streams at {address} does not answer as HTTP/1.1")]
    Http {
        address: String,
        #[source]
        source: hyper::Error,
    },
    /// The words of client-go.
    #[error("unable to upgrade connection: {body}")]
    Refused { status: u16, body: String },
    #[error("the runtime answers in the protocol {0:?}, which nobody asked for")]
    Protocol(String),
    #[error("the runtime did not let the streams be opened")]
    Start(#[source] OpenError),
    #[error("{what} took longer than {limit:?}")]
    Late { what: &'static str, limit: Duration },
    #[error("the runtime does not say where the network of sandbox {sandbox:?} is")]
    NoNetwork { sandbox: String },
    /// It may have ended just now.
    #[error("network namespace {path:?} cannot be entered")]
    Enter {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The words of containerd (`pkg/cri/server/sandbox_portforward_linux.go`), which a kubelet passes on.
    #[error(
        "failed to execute portforward in network namespace {network:?}: failed to connect to localhost:{port} inside namespace {sandbox:?}, \
         IPv4: {v4} IPv6 {v6}"
    )]
    Connect {
        network: String,
        sandbox: String,
        port: u16,
        v4: String,
        v6: String,
    },
}

impl StreamFault {
    pub(super) fn no_container(id: &str) -> Self {
        Self::NotFound {
            what: "container",
            id: id.to_owned(),
        }
    }

    pub(super) fn no_sandbox(id: &str) -> Self {
        Self::NotFound {
            what: "sandbox",
            id: id.to_owned(),
        }
    }

    pub(super) fn of_container(id: &str) -> impl FnOnce(CriError) -> Self {
        or(Self::no_container(id))
    }

    pub(super) fn of_sandbox(id: &str) -> impl FnOnce(CriError) -> Self {
        or(Self::no_sandbox(id))
    }

    /// The word of the protocol for it.
    pub fn refusal(&self) -> StreamRefusal {
        match self {
            Self::NotFound { .. } => StreamRefusal::NotFound,
            Self::Runtime(error) if error.is_not_found() => StreamRefusal::NotFound,
            Self::NotRunning { .. } => StreamRefusal::NotRunning,
            _ => StreamRefusal::Failed,
        }
    }

    /// What a person is told, with the cause: the runtime's own words, where it has said something. Clean, and at most 1 KiB.
    pub fn message(&self) -> String {
        let words = match self {
            Self::Runtime(error) => error.as_status(),
            other => with_cause(other),
        };
        sanitise(&words)
    }
}

fn or(absent: StreamFault) -> impl FnOnce(CriError) -> StreamFault {
    move |error| {
        if error.is_not_found() {
            absent
        } else {
            error.into()
        }
    }
}
