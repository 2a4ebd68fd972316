//! What is asked of a running container: probes, hooks, and what either does.

use serde::{Deserialize, Serialize};

/// The probes of one container. Times are those of `v1.Probe`, with the API's defaults filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup: Option<Probe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Probe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Probe>,
}

impl Probes {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub action: Action,
    pub initial_delay_s: u32,
    pub timeout_s: u32,
    pub period_s: u32,
    pub success_threshold: u32,
    pub failure_threshold: u32,
    /// Overrides the pod's grace when this probe kills the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_s: Option<u32>,
}

/// What a probe or a hook does. Named ports are resolved by the writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// In the container; exit code 0 is success.
    Exec { command: Vec<String> },
    /// A GET; 200 to 399 is success. An absent host is the pod's address.
    HttpGet {
        path: String,
        port: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tls: bool,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<Header>,
    },
    TcpSocket {
        port: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
    },
    /// grpc.health.v1; `SERVING` is success.
    Grpc {
        port: u16,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        service: String,
    },
    /// Hooks only.
    Sleep { seconds: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// What is done right after a container's start and right before its stop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifecycle {
    /// Until it ends the container counts as not started; a failure kills it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_start: Option<Action>,
    /// Its time counts against the grace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Action>,
    /// Such as `SIGUSR1`; absent means the image's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

impl Lifecycle {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
