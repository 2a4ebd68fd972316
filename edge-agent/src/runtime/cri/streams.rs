//! Streams of a container and connections into a pod, each made for one who waits for it.
//!
//! A runtime serves commands at a URL that it gives on request (`upgrade`). A connection into a pod needs no runtime, only a socket of the
//! pod's network (`network`). Whether they may be had at all is decided above.

mod fault;
mod network;
mod upgrade;

use std::time::Duration;

use edge_agent_cri::v1::{
    AttachRequest, ContainerState, ExecRequest, NamespaceMode, PodSandboxState, PodSandboxStatus,
};
use edge_protocol::v1::Stdio;
use edge_streams::Limits;
use edge_streams::remote_command::{NoStreams, Options, Running};
use edge_streams::spdy::Session;
use tokio::net::TcpStream;

use super::{CriRuntime, Inner, labels};
pub use fault::StreamFault;
use network::Network;

/// Opening the streams of a command: the kubelet's own limit, and the runtime's (`DefaultStreamCreationTimeout`).
const START: Duration = Duration::from_secs(30);
/// A command has five streams at most.
const LIMITS: Limits = Limits {
    streams: 8,
    receive_buffer: 64 * 1024,
    send_buffer: 64 * 1024,
};

impl CriRuntime {
    /// Runs a command in a container of ours, as it is: no shell sees it. How it went, also that it could not be run, is told by
    /// [`Running::verdict`] in the runtime's own words. Dropping what is returned ends the connection, and the command's input with it, which
    /// a command that reads none outlives, as under a kubelet. With `tty` there is no stderr of its own, and the end of stdin is the end of the
    /// terminal: containerd's shim closes it then, and what is printed later is lost.
    ///
    /// # Errors
    /// [`StreamFault`]; then nothing runs.
    pub async fn exec(
        &self,
        container_id: &str,
        command: Vec<String>,
        stdio: Stdio,
    ) -> Result<Running, StreamFault> {
        let options = options(stdio)?;
        self.0.check_runs(container_id).await?;
        let request = ExecRequest {
            container_id: container_id.to_owned(),
            cmd: command,
            tty: options.tty,
            stdin: options.stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        start(&self.0.client.exec(request).await?, options).await
    }

    /// The streams of the first process of a container of ours, from now on. `tty` must be what the container was made with, which the
    /// caller knows from its manifest, as the kubelet from its pod. A container without `stdin` reads nothing, and one with `stdinOnce`
    /// finds its input ended after the first who wrote there. The verdict tells no exit code, only that the container ended.
    ///
    /// # Errors
    /// [`StreamFault`].
    pub async fn attach(&self, container_id: &str, stdio: Stdio) -> Result<Running, StreamFault> {
        let options = options(stdio)?;
        self.0.check_runs(container_id).await?;
        let request = AttachRequest {
            container_id: container_id.to_owned(),
            tty: options.tty,
            stdin: options.stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        start(&self.0.client.attach(request).await?, options).await
    }

    /// A TCP connection from inside the network of a sandbox of ours to `port` of its localhost, IPv4 first: what listens on the pod's
    /// address alone is not reached, as with a kubelet. On the device's own network that is the device's localhost.
    ///
    /// # Errors
    /// [`StreamFault`]; [`StreamFault::Connect`] if nobody listens.
    pub async fn connect_to(&self, sandbox_id: &str, port: u16) -> Result<TcpStream, StreamFault> {
        let network = self.0.network(sandbox_id).await?;
        network::connect(&network, sandbox_id, port).await
    }
}

impl Inner {
    async fn check_runs(&self, id: &str) -> Result<(), StreamFault> {
        let status = self.client.container_status(id).await;
        let status = status.map_err(StreamFault::of_container(id))?;
        if !labels::is_ours(&status.labels, &self.settings.agent) {
            return Err(StreamFault::no_container(id));
        }
        match status.state() {
            ContainerState::ContainerRunning => Ok(()),
            state => Err(StreamFault::NotRunning {
                what: "container",
                state: state.as_str_name(),
            }),
        }
    }

    async fn network(&self, sandbox_id: &str) -> Result<Network, StreamFault> {
        let described = self.client.described_pod_sandbox(sandbox_id).await;
        let (status, description) = described.map_err(StreamFault::of_sandbox(sandbox_id))?;
        if !labels::is_ours(&status.labels, &self.settings.agent) {
            return Err(StreamFault::no_sandbox(sandbox_id));
        }
        if status.state() != PodSandboxState::SandboxReady {
            return Err(StreamFault::NotRunning {
                what: "sandbox",
                state: status.state().as_str_name(),
            });
        }
        if is_on_device_network(&status) {
            return Ok(Network::Device);
        }
        let path = description.and_then(|description| network::path(&description));
        path.map(Network::Namespace)
            .ok_or_else(|| StreamFault::NoNetwork {
                sandbox: sandbox_id.to_owned(),
            })
    }
}

/// A runtime that does not say has given it a network of its own.
fn is_on_device_network(status: &PodSandboxStatus) -> bool {
    let namespaces = status.linux.as_ref().and_then(|linux| linux.namespaces.as_ref());
    let options = namespaces.and_then(|namespaces| namespaces.options.as_ref());
    options.is_some_and(|options| options.network() == NamespaceMode::Node)
}

fn options(stdio: Stdio) -> Result<Options, NoStreams> {
    let Stdio {
        stdin,
        stdout,
        stderr,
        tty,
    } = stdio;
    let options = Options {
        stdin,
        stdout,
        stderr,
        tty,
    };
    options.checked()
}

async fn start(url: &str, options: Options) -> Result<Running, StreamFault> {
    let session = Session::client(upgrade::upgrade(url).await?, LIMITS);
    match tokio::time::timeout(START, Running::start(session, options)).await {
        Ok(started) => started.map_err(StreamFault::Start),
        Err(_) => Err(StreamFault::Late {
            what: "opening the streams",
            limit: START,
        }),
    }
}
