//! A way of the kubelet to one of its servers that leads through `outrigger-fault-proxy`, which lies as a test tells it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{Lab, Program};
use serde::Deserialize;

use crate::options::Server;
use crate::{Programs, SiteError, files};

const LISTEN_LIMIT: Duration = Duration::from_secs(20);

/// A running fault proxy.
#[derive(Debug, Clone)]
pub struct Detour {
    /// `https://host:port`, for whoever shall be lied to.
    pub url: String,
    /// The certificate that the proxy's own leads to.
    pub ca: PathBuf,
    /// Where lies are told, by plain HTTP.
    pub control: SocketAddr,
}

/// As the proxy writes it.
#[derive(Deserialize)]
struct Addresses {
    proxy: SocketAddr,
    control: SocketAddr,
}

/// Starts a proxy before a server that is at this URL and verified by this certificate.
pub(crate) fn start(
    lab: &Lab,
    programs: &Programs,
    server: Server,
    url: &str,
    ca: &Path,
) -> Result<Detour, SiteError> {
    let dialect = match server {
        Server::Api => "kubernetes",
        Server::Hub => "hub",
    };
    let program = Program::new(programs.fault_proxy()?)
        .flag("listen", SocketAddr::from((lab.address()?, 0)))
        .flag("upstream", url)
        .flag("upstream-ca", ca.display())
        .flag("dialect", dialect)
        .flag("directory", directory(lab, server).display());
    let addresses = directory(lab, server).join("addresses.json");
    lab.spawn(process(server), program)?
        .until("the fault proxy listens", LISTEN_LIMIT, || Ok(addresses.exists()))?;
    open(lab, server)
}

/// The detour to a server.
pub(crate) fn open(lab: &Lab, server: Server) -> Result<Detour, SiteError> {
    let directory = directory(lab, server);
    let text = files::read(&directory.join("addresses.json"))?;
    let addresses: Addresses = serde_json::from_str(&text).map_err(|error| SiteError::Unexpected {
        command: "outrigger-fault-proxy",
        problem: error.to_string(),
    })?;
    Ok(Detour {
        url: format!("https://{}", addresses.proxy),
        ca: directory.join("ca.pem"),
        control: addresses.control,
    })
}

fn process(server: Server) -> &'static str {
    match server {
        Server::Api => "proxy-api",
        Server::Hub => "proxy-hub",
    }
}

fn directory(lab: &Lab, server: Server) -> PathBuf {
    lab.directory().join(process(server))
}
