//! Sockets of a pod's network.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde::Deserialize;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::StreamFault;
use crate::runtime::actions::dial_error;

/// For each of the two addresses.
const CONNECT: Duration = Duration::from_secs(10);

/// Where a sandbox's sockets live.
pub(super) enum Network {
    /// The agent's own.
    Device,
    /// This one, of the pod.
    Namespace(PathBuf),
}

/// What is read of a sandbox's description: its OCI specification.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    runtime_spec: Specification,
}

#[derive(Deserialize)]
struct Specification {
    linux: Linux,
}

#[derive(Deserialize)]
struct Linux {
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: PathBuf,
}

/// The path of a sandbox's network namespace. Unlike the ids of its processes, which others may have an instant later, it names nothing else
/// for as long as the sandbox is there.
pub(super) fn path(description: &str) -> Option<PathBuf> {
    let Description { runtime_spec } = serde_json::from_str(description).ok()?;
    let mut namespaces = runtime_spec.linux.namespaces.into_iter();
    let network = namespaces.find(|namespace| namespace.kind == "network")?;
    network.path.is_absolute().then_some(network.path)
}

/// `localhost`, in both of its addresses.
struct Sockets {
    v4: io::Result<TcpSocket>,
    v6: io::Result<TcpSocket>,
}

impl Sockets {
    fn new() -> Self {
        Self {
            v4: TcpSocket::new_v4(),
            v6: TcpSocket::new_v6(),
        }
    }

    /// Of the namespace at `path`: a socket stays in the namespace where it was made, wherever it is connected from.
    fn inside(path: &Path) -> io::Result<Self> {
        setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
        Ok(Self::new())
    }
}

/// Connects to a port of localhost in `network`, IPv4 first, one after the other as containerd does.
pub(super) async fn connect(network: &Network, sandbox: &str, port: u16) -> Result<TcpStream, StreamFault> {
    let Sockets { v4, v6 } = match network {
        Network::Device => Sockets::new(),
        Network::Namespace(path) => sockets_inside(path).await?,
    };
    let v4 = match dial(v4, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        Ok(stream) => return Ok(stream),
        Err(words) => words,
    };
    let v6 = match dial(v6, SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        Ok(stream) => return Ok(stream),
        Err(words) => words,
    };
    Err(StreamFault::Connect {
        network: match network {
            Network::Device => "host".to_owned(),
            Network::Namespace(path) => path.display().to_string(),
        },
        sandbox: sandbox.to_owned(),
        port,
        v4,
        v6,
    })
}

/// The thread that enters the namespace ends there: one that went on, with other work, would do that in the pod's network.
async fn sockets_inside(path: &Path) -> Result<Sockets, StreamFault> {
    let failed = |source| StreamFault::Enter {
        path: path.to_owned(),
        source,
    };
    let (tell, told) = oneshot::channel();
    let inside = path.to_owned();
    let entering = thread::Builder::new().name("pod-network".to_owned());
    entering
        // Who does not wait any more needs no sockets.
        .spawn(move || drop(tell.send(Sockets::inside(&inside))))
        .map_err(failed)?;
    told.await
        .unwrap_or_else(|_| Err(io::Error::other("the thread that entered it ended")))
        .map_err(failed)
}

/// Connects; or why not, as Go says it.
async fn dial(socket: io::Result<TcpSocket>, address: SocketAddr) -> Result<TcpStream, String> {
    let connected = async {
        let stream = socket?.connect(address).await?;
        // Where nobody listens, the kernel may choose the very port as this side's own, and connect the socket with itself.
        if stream.local_addr()? == address {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let why = match timeout(CONNECT, connected).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => dial_error(&error),
        Err(_) => "i/o timeout".to_owned(),
    };
    let protocol = if address.is_ipv4() { "tcp4" } else { "tcp6" };
    Err(format!("dial {protocol} {address}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_where_the_specification_says() {
        #[track_caller]
        fn check(description: &str, expect: Option<&str>) {
            assert_eq!(path(description), expect.map(PathBuf::from), "{description}");
        }
        let spec = |namespaces: &str| {
            format!(
                r#"{{"pid":7,"config":{{"linux":{{"namespaces":[]}}}},"runtimeSpec":{{"linux":{{"namespaces":[{namespaces}]}}}}}}"#
            )
        };
        let own = r#"{"type":"pid"},{"type":"network","path":"/run/netns/cni-1"}"#;
        check(&spec(own), Some("/run/netns/cni-1"));
        check(&spec(r#"{"type":"network"}"#), None);
        check(&spec(r#"{"type":"network","path":"cni-1"}"#), None);
        check(&spec(r#"{"type":"ipc","path":"/proc/1/ns/ipc"}"#), None);
        check(r#"{"pid":7}"#, None);
        check("", None);
    }

    #[tokio::test]
    async fn a_thread_that_enters_changes_nobody_elses_network() {
        let own = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = own();
        let error = sockets_inside(Path::new("/dev/null")).await.err().unwrap();
        assert!(
            error
                .message()
                .starts_with(r#"network namespace "/dev/null" cannot be entered: "#),
            "{error}"
        );
        assert_eq!(own(), before);
    }
}
