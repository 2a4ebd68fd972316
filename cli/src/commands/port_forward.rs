//! `outrigger port-forward`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use edge_protocol::v1::StreamRequest;
use edge_protocol::{DeviceId, PodUid};
use edge_streams::splice;
use iot_hub_api::v1::StreamCall;
use iot_hub_client::HubClient;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::target::PodArgs;

const EXAMPLES: &str = "\
Examples:
  The device's port 80 as 8080 here:
    outrigger port-forward --device press-7 default/web-6d4cf56db6-x2v7p 8080:80

  Two ports, the second under a free number of this machine:
    outrigger port-forward --device press-7 default/web-6d4cf56db6-x2v7p 5432 :9090";

/// Connections at once; more wait to be taken. The hub has limits of its own.
const CONNECTIONS: usize = 128;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    pod: PodArgs,
    /// The port of the pod, behind the one to listen on here if that is another; an empty one is any that is free.
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    ports: Vec<Ports>,
    /// Listen on these addresses; on those of loopback if not given.
    #[arg(long)]
    address: Vec<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    /// 0 is any.
    local: u16,
    remote: u16,
}

impl FromStr for Ports {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let port = |text: &str| text.parse().with_context(|| format!("{text:?} is no port"));
        let (local, remote) = match text.split_once(':') {
            None => (port(text)?, port(text)?),
            Some(("", remote)) => (0, port(remote)?),
            Some((local, remote)) => (port(local)?, port(remote)?),
        };
        if remote == 0 {
            bail!("the pod's port cannot be 0");
        }
        Ok(Self { local, remote })
    }
}

/// Where connections come from, and where they go.
struct Forwarding {
    hub: HubClient,
    device: DeviceId,
    uid: PodUid,
    connections: Semaphore,
}

/// Forwards until it is ended.
pub async fn run(hub: &HubClient, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { pod, ports, address } = arguments;
    let uid = pod.find(hub).await?;
    let forwarding = Arc::new(Forwarding {
        hub: hub.clone(),
        device: pod.device,
        uid,
        connections: Semaphore::new(CONNECTIONS),
    });
    let mut listening = JoinSet::new();
    for ports in ports {
        for listener in listen(ports.local, &address).await? {
            println!("Forwarding from {} -> {}", listener.local_addr()?, ports.remote);
            listening.spawn(serve(listener, ports.remote, Arc::clone(&forwarding)));
        }
    }
    match listening.join_next().await {
        Some(ended) => ended.context("a listener ended")?,
        None => bail!("nothing is listened on"),
    }
}

/// As kubectl listens: one of the two loopback addresses is enough.
async fn listen(port: u16, addresses: &[IpAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let bind = async |address: IpAddr, port: u16| {
        let address = SocketAddr::new(address, port);
        let listener = TcpListener::bind(address).await;
        listener.with_context(|| format!("cannot listen on {address}"))
    };
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(bind(*address, port).await?);
    }
    if addresses.is_empty() {
        let first = bind(Ipv4Addr::LOCALHOST.into(), port).await;
        let port = first
            .as_ref()
            .ok()
            .and_then(|first| first.local_addr().ok())
            .map_or(port, |first| first.port());
        let second = bind(Ipv6Addr::LOCALHOST.into(), port).await;
        match (first, second) {
            (Err(error), Err(_)) => return Err(error),
            (first, second) => listeners.extend([first, second].into_iter().flatten()),
        }
    }
    Ok(listeners)
}

async fn serve(listener: TcpListener, port: u16, forwarding: Arc<Forwarding>) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (connection, _) = listener.accept().await.context("cannot accept connections")?;
        let forwarding = Arc::clone(&forwarding);
        connections.spawn(async move {
            if let Err(error) = forwarding.pass(connection, port).await {
                eprintln!("outrigger: a connection to port {port} ended: {error:#}");
            }
        });
    }
}

impl Forwarding {
    /// One connection; one that fails is reset for whoever made it.
    async fn pass(&self, mut connection: TcpStream, port: u16) -> anyhow::Result<()> {
        let _turn = self.connections.acquire().await?;
        let uid = self.uid.clone();
        let request = StreamRequest::PortForward { uid, port };
        let call = StreamCall { request, user: None };
        let passed = match self.hub.open_stream(&self.device, &call).await {
            Ok(stream) => splice(&mut connection, stream).await.map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        };
        if passed.is_err() {
            connection.set_zero_linger()?;
        }
        passed.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_for_kubectl() {
        let check = |text: &str, expected: Option<(u16, u16)>| {
            let ports = text.parse::<Ports>().ok();
            assert_eq!(ports.map(|ports| (ports.local, ports.remote)), expected, "{text}");
        };
        check("80", Some((80, 80)));
        check("8080:80", Some((8080, 80)));
        check(":80", Some((0, 80)));
        check("0:80", Some((0, 80)));
        for bad in ["", ":", "0", "8080:", "8080:0", "http", "1:2:3", "65536"] {
            check(bad, None);
        }
    }

    #[tokio::test]
    async fn both_loopback_addresses_get_one_port() {
        let listeners = listen(0, &[]).await.unwrap();
        let ports: Vec<u16> = listeners
            .iter()
            .map(|each| each.local_addr().unwrap().port())
            .collect();
        assert!(
            ports.iter().all(|port| *port == ports[0] && *port != 0),
            "{ports:?}"
        );
    }
}
