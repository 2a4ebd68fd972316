//! The one way to the hub's one port: TCP, through an HTTP proxy where there is one, then TLS. The MQTT link, enrolment, blobs and the tunnel all go it.
//!
//! The proxy is asked for the hub by name (`CONNECT`, RFC 9110 §9.3.6), so that it resolves what the device cannot. It sees the name and how much
//! passes, and nothing else: TLS with the hub begins behind it.

mod proxy;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use self::proxy::{Credentials, Proxy};

/// A proxy's whole part, connection included. Less than any limit of a caller, so that it is the proxy that gets the blame.
const PROXY_LIMIT: Duration = Duration::from_secs(8);

/// A host and port to dial, and the way there. The host is no identity: the hub proves who it is by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    /// Absent: it is dialled directly.
    pub proxy: Option<Arc<Proxy>>,
}

/// Why the hub's port was not reached, and what to do where a person has to.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("no connection to {host}:{port}")]
    Tcp {
        host: String,
        port: u16,
        #[source]
        source: std::io::Error,
    },
    #[error("no connection to the proxy {proxy}; see hub.proxy of the configuration, or HTTPS_PROXY")]
    NoProxy {
        proxy: String,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the proxy {proxy} does not answer within {} s; see hub.proxy of the configuration, or HTTPS_PROXY",
        limit.as_secs()
    )]
    SilentProxy { proxy: String, limit: Duration },
    #[error(
        "the proxy {proxy} wants a user and a password (407): put `user:password` into a file, and its path into hub.proxy_credentials_file"
    )]
    CredentialsWanted { proxy: String },
    #[error("the proxy {proxy} does not accept the user and password of {of} (407)")]
    CredentialsDeclined { proxy: String, of: String },
    #[error("the credentials for the proxy, {path}, {problem}")]
    Credentials { path: PathBuf, problem: String },
    #[error(
        "the proxy {proxy} does not lead to {target}: it answers {status}; ask whoever runs it to allow CONNECT to {target}"
    )]
    Declined {
        proxy: String,
        target: String,
        status: StatusCode,
    },
    #[error(
        "{proxy} does not answer as an HTTP proxy does; see hub.proxy of the configuration, or HTTPS_PROXY"
    )]
    NotAProxy {
        proxy: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("no TLS with {host}:{port}")]
    Tls {
        host: String,
        port: u16,
        #[source]
        source: std::io::Error,
    },
}

/// A connection to the hub's one port. The caller gives it a time limit; cancelling is safe.
///
/// # Errors
/// [`DialError`]: the endpoint cannot be reached, or is not the hub.
pub async fn dial(endpoint: &Endpoint, tls: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
    let Endpoint { host, port, proxy } = endpoint;
    let failed = |source| DialError::Tls {
        host: host.clone(),
        port: *port,
        source,
    };
    let tcp = match proxy {
        None => direct(endpoint).await?,
        Some(proxy) => through(proxy, endpoint, PROXY_LIMIT).await?,
    };
    tcp.set_nodelay(true).map_err(failed)?;
    let name = ServerName::try_from(host.clone())
        .map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
    TlsConnector::from(tls).connect(name, tcp).await.map_err(failed)
}

async fn through(proxy: &Proxy, endpoint: &Endpoint, limit: Duration) -> Result<TcpStream, DialError> {
    let silent = |_| DialError::SilentProxy {
        proxy: proxy.to_string(),
        limit,
    };
    let connected = tokio::time::timeout(limit, proxy.connect(endpoint)).await;
    connected.map_err(silent)?
}

async fn direct(Endpoint { host, port, .. }: &Endpoint) -> Result<TcpStream, DialError> {
    TcpStream::connect((host.as_str(), *port))
        .await
        .map_err(|source| DialError::Tcp {
            host: host.clone(),
            port: *port,
            source,
        })
}

/// `host:port`, as it stands in URLs.
struct Authority<'a>(&'a str, u16);

impl Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl Endpoint {
    /// Without a proxy.
    pub fn direct(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            proxy: None,
        }
    }

    /// `host:port`, as it stands in URLs.
    pub fn authority(&self) -> String {
        Authority(&self.host, self.port).to_string()
    }
}

impl DialError {
    /// With all that led to it, for a line of a log.
    pub fn whole(error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
