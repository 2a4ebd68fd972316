//! The connection to the real server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::http::uri::Authority;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::proxy::ProxyError;

const CONNECT: Duration = Duration::from_secs(10);
/// Longer than any server that this proxy stands before lets a request wait.
const HEAD: Duration = Duration::from_mins(2);

/// Where the truth is, and how to verify it.
#[derive(Clone)]
pub(crate) struct Upstream {
    authority: Authority,
    name: ServerName<'static>,
    tls: TlsConnector,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("no connection to {authority}")]
    Connect {
        authority: Authority,
        #[source]
        source: std::io::Error,
    },
    #[error("{authority} does not answer in time")]
    Late { authority: Authority },
    #[error("{authority} broke the exchange off")]
    Exchange {
        authority: Authority,
        #[source]
        source: hyper::Error,
    },
}

impl Upstream {
    pub fn new(url: &str, ca_pem: &[u8]) -> Result<Self, ProxyError> {
        let bad = |problem: &str| ProxyError::Upstream {
            url: url.to_owned(),
            problem: problem.to_owned(),
        };
        let authority = url
            .strip_prefix("https://")
            .ok_or_else(|| bad("it must begin with https://"))?;
        let authority: Authority = authority
            .trim_end_matches('/')
            .parse()
            .map_err(|_| bad("https://host:port is wanted, no path"))?;
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(host).map_err(|_| bad("no certificate can be for this host"))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(certificate.map_err(|error| bad(&format!("its authority: {error}")))?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            authority,
            name,
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    async fn connect(&self, tasks: &Tasks) -> Result<SendRequest<Incoming>, UpstreamError> {
        let failed = |source| UpstreamError::Connect {
            authority: self.authority.clone(),
            source,
        };
        let dial = async {
            let port = self.authority.port_u16().unwrap_or(443);
            let stream = match &self.name {
                ServerName::IpAddress(address) => {
                    TcpStream::connect((std::net::IpAddr::from(*address), port)).await
                }
                _ => TcpStream::connect((self.authority.host(), port)).await,
            }?;
            stream.set_nodelay(true)?;
            self.tls.connect(self.name.clone(), stream).await
        };
        let stream = timeout(CONNECT, dial)
            .await
            .map_err(|_| self.late())?
            .map_err(failed)?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.broken(source))?;
        let stop = tasks.stop.clone();
        tasks.tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "the connection to the upstream ended");
                }
            }
        });
        Ok(sender)
    }

    fn late(&self) -> UpstreamError {
        UpstreamError::Late {
            authority: self.authority.clone(),
        }
    }

    fn broken(&self, source: hyper::Error) -> UpstreamError {
        UpstreamError::Exchange {
            authority: self.authority.clone(),
            source,
        }
    }
}

/// What runs on its own and how it ends. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Tasks {
    pub tracker: TaskTracker,
    pub stop: CancellationToken,
}

/// One connection to the upstream, made when first needed and again when it was closed. Requests go over it one after the other, as they
/// come over the client's own connection.
pub(crate) struct Line {
    upstream: Upstream,
    tasks: Tasks,
    idle: Mutex<Option<SendRequest<Incoming>>>,
}

impl Line {
    pub fn new(upstream: Upstream, tasks: Tasks) -> Self {
        Self {
            upstream,
            tasks,
            idle: Mutex::new(None),
        }
    }

    pub fn authority(&self) -> &Authority {
        &self.upstream.authority
    }

    /// Returns with the head of the answer; its body follows as the upstream sends it.
    pub async fn send(&self, request: Request<Incoming>) -> Result<hyper::Response<Incoming>, UpstreamError> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut sender = match usable(kept).await {
            Some(sender) => sender,
            None => self.upstream.connect(&self.tasks).await?,
        };
        let answer = timeout(HEAD, sender.send_request(request))
            .await
            .map_err(|_| self.upstream.late())?;
        let answer = answer.map_err(|source| self.upstream.broken(source))?;
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Ok(answer)
    }
}

/// The connection, if the upstream has not closed it meanwhile.
async fn usable(kept: Option<SendRequest<Incoming>>) -> Option<SendRequest<Incoming>> {
    let mut sender = kept?;
    sender.ready().await.is_ok().then_some(sender)
}
