//! What is asked of a running container: its probes and hooks, each carried out once.
//!
//! What an outcome means is decided elsewhere. Texts are the kubelet's, for they are shown: pkg/probe for probes,
//! `pkg/kubelet/lifecycle/handlers.go` for hooks.

use std::net::IpAddr;
use std::time::Duration;

use edge_agent_core::step::Finding;
use edge_agent_cri::{CriClient, CriErrorKind, Health, HealthError, check_health};
use edge_protocol::v1::{Action, Header};
use tokio::net::TcpStream;

use super::host_address;
use http::{Answer, Get};
pub(super) use http::{dial_error, start_of};

mod http;
#[cfg(test)]
mod tests;

/// The most that is kept of what an action printed or answered, in bytes.
const MAX_OUTPUT: usize = 10 << 10;
/// Where there is no limit: the runtime wants some number.
const ENDLESS: Duration = Duration::from_hours(365 * 24);

/// Why an action is done: how it names itself, and what of it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Probe,
    Hook,
}

impl Purpose {
    fn user_agent(self) -> &'static str {
        match self {
            Self::Probe => "kube-probe/1.37",
            Self::Hook => "kube-lifecycle/1.37",
        }
    }
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub finding: Finding,
    /// At most [`MAX_OUTPUT`] bytes.
    pub output: String,
}

/// An action could not be done at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Impossible(String);

/// Where and how an action is done.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub container_id: &'a str,
    /// Absent on the device's own network.
    pub pod_ip: Option<IpAddr>,
    pub purpose: Purpose,
    pub limit: Option<Duration>,
}

/// Does it once, for at most the limit.
///
/// # Errors
/// [`Impossible`]: nothing is known of the container's health by it.
pub async fn perform(client: &CriClient, target: Target<'_>, action: &Action) -> Result<Outcome, Impossible> {
    match action {
        Action::Exec { command } => exec(client, target, command).await,
        Action::HttpGet {
            path,
            port,
            host,
            tls,
            headers,
        } => {
            let host = host_or_own(host.as_deref(), target);
            Ok(http_get(target, (&host, *port), (path, *tls), headers).await)
        }
        Action::TcpSocket { port, host } => {
            let address = join(&host_or_own(host.as_deref(), target), *port);
            Ok(connect(&address, target.limit.unwrap_or(ENDLESS)).await)
        }
        Action::Grpc { port, service } => {
            let address = join(&host_or_own(None, target), *port);
            Ok(health(&address, service, target).await)
        }
        Action::Sleep { seconds } => {
            tokio::time::sleep(Duration::from_secs((*seconds).into())).await;
            Ok(succeeded(String::new()))
        }
    }
}

fn host_or_own(host: Option<&str>, target: Target<'_>) -> String {
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        return host.to_owned();
    }
    let own = target
        .pod_ip
        .or_else(|| host_address::addresses().first().copied());
    own.map(|address| address.to_string()).unwrap_or_default()
}

/// `host:port`, IPv6 in brackets.
fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn succeeded(output: String) -> Outcome {
    Outcome {
        finding: Finding::Success,
        output,
    }
}

fn failed(output: String) -> Outcome {
    Outcome {
        finding: Finding::Failure,
        output,
    }
}

async fn exec(client: &CriClient, target: Target<'_>, command: &[String]) -> Result<Outcome, Impossible> {
    let limit = target.limit.unwrap_or(ENDLESS);
    match client
        .exec_sync(target.container_id, command.to_vec(), limit)
        .await
    {
        Ok(done) => {
            let mut output = done.stdout;
            output.extend_from_slice(&done.stderr);
            output.truncate(MAX_OUTPUT);
            let output = String::from_utf8_lossy(&output).into_owned();
            Ok(match (done.exit_code, target.purpose) {
                (0, _) => succeeded(output),
                (_, Purpose::Probe) => failed(output),
                (code, Purpose::Hook) => {
                    let said = String::from_utf8_lossy(&done.stderr).into_owned();
                    let command = command.join(" ");
                    failed(format!(
                        "command '{command}' exited with {code}: {said}, message: {output:?}"
                    ))
                }
            })
        }
        Err(error) if matches!(error.kind, CriErrorKind::TimedOut(_)) => {
            let (command, limit) = (command.join(" "), duration(limit));
            Ok(failed(format!(
                "command timed out: {command:?} timed out after {limit}"
            )))
        }
        Err(error) => Err(Impossible(format!("{error}: {}", error.detail()))),
    }
}

async fn http_get(
    target: Target<'_>,
    (host, port): (&str, u16),
    (path, tls): (&str, bool),
    headers: &[Header],
) -> Outcome {
    let get = Get {
        tls,
        host: host.to_owned(),
        port,
        path: http::request_path(path),
        headers: headers.to_vec(),
        user_agent: target.purpose.user_agent(),
    };
    let limit = target.limit.unwrap_or(ENDLESS);
    let url = get.url();
    let answered = tokio::time::timeout(limit, get.follow(target.purpose)).await;
    match (answered, target.purpose) {
        (Err(_), _) => failed(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
        (Ok(Err(error)), _) => failed(error.to_string()),
        // Whatever it answers, it was told.
        (Ok(Ok(_)), Purpose::Hook) => succeeded(String::new()),
        (Ok(Ok(Answer { status, body })), Purpose::Probe) => match status {
            200..300 => succeeded(body),
            300..400 => Outcome {
                finding: Finding::Warning,
                output: format!("Probe terminated redirects, Response body: {body}"),
            },
            _ => failed(format!("HTTP probe failed with statuscode: {status}")),
        },
    }
}

async fn connect(address: &str, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => succeeded(String::new()),
        Ok(Err(error)) => failed(format!("dial tcp {address}: {}", dial_error(&error))),
        Err(_) => failed(format!("dial tcp {address}: i/o timeout")),
    }
}

async fn health(address: &str, service: &str, target: Target<'_>) -> Outcome {
    let limit = target.limit.unwrap_or(ENDLESS);
    let asked = check_health(address, service, target.purpose.user_agent());
    let within = duration(limit);
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(Health::Serving)) => succeeded("service healthy".to_owned()),
        Ok(Ok(Health::NotServing(status))) => {
            failed(format!("service unhealthy (responded with {status:?})"))
        }
        Ok(Err(HealthError::Connect)) => failed(format!(
            "timeout: failed to connect service {address:?} within {within}: context deadline exceeded"
        )),
        Ok(Err(HealthError::Unimplemented(message))) => failed(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        Ok(Err(error @ HealthError::Rpc { .. })) => {
            failed(format!("error: health rpc probe failed: {error}"))
        }
        Err(_) => failed(format!("timeout: health rpc did not complete within {within}")),
    }
}

/// Whole seconds as Go writes them.
fn duration(limit: Duration) -> String {
    let seconds = limit.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}
