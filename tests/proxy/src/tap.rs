//! A tap between the hub and one who speaks to it: ends TLS on both sides, passes every byte and keeps it, so that a test can look at what travels.
//!
//! Nobody notices: towards the client it is the hub, by a certificate of the hub's own intermediate; towards the hub it is the device, by the
//! certificate that the device showed and the key on the device's disk. Both are there for the taking in a lab, and nowhere else.
//!
//! Each connection leaves two files, `<number>-<protocol>-up` and `-down`: the clear bytes in either direction, each on disk before it is passed on.

mod tls;

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::tls::Disguise;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// What is read at once.
const PIECE: usize = 64 << 10;

#[derive(Debug, Clone)]
pub struct TapOptions {
    pub listen: SocketAddr,
    pub upstream: SocketAddr,
    /// What the hub's certificate for that port says, and what the tap's own will say.
    pub name: String,
    /// Where the hub's authority is: `root.crt`, `intermediate.crt` and `intermediate.key`.
    pub ca_dir: PathBuf,
    /// The key of a client that shows a certificate. Read when it does, for it may not be there before.
    pub client_key: Option<PathBuf>,
    /// Gets what passes.
    pub directory: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TapError {
    #[error("cannot listen at {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{path}", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path}", path = path.display())]
    Pem {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("a certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    #[error("{0:?} is no name of a server")]
    Name(String),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("TLS verification cannot be set up: {0}")]
    Verifier(String),
    #[error("the exchange broke off")]
    Exchange(#[from] io::Error),
    #[error("a handshake took too long")]
    Late,
}

/// A tap that listens and passes nothing yet.
pub struct Tap {
    listener: TcpListener,
    address: SocketAddr,
    line: Arc<Line>,
}

/// What all connections share.
struct Line {
    disguise: Disguise,
    acceptor: TlsAcceptor,
    upstream: SocketAddr,
    name: ServerName<'static>,
    directory: PathBuf,
}

impl Tap {
    /// # Errors
    /// [`TapError`]: the port is taken, or the authority's files cannot be used.
    pub async fn bind(options: TapOptions) -> Result<Self, TapError> {
        let TapOptions {
            listen,
            upstream,
            name,
            ca_dir,
            client_key,
            directory,
        } = options;
        let disguise = Disguise::new(&ca_dir, client_key)?;
        let acceptor = TlsAcceptor::from(Arc::new(disguise.as_hub(&name)?));
        let name = ServerName::try_from(name.clone()).map_err(|_| TapError::Name(name))?;
        std::fs::create_dir_all(&directory).map_err(|source| TapError::File {
            path: directory.clone(),
            source,
        })?;
        let failed = |source| TapError::Listen {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let line = Arc::new(Line {
            disguise,
            acceptor,
            upstream,
            name,
            directory,
        });
        Ok(Self {
            listener,
            address,
            line,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes on until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        for number in 0_u64.. {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (line, stop) = (Arc::clone(&self.line), stop.clone());
            tasks.spawn(async move {
                let passed = tokio::select! {
                    () = stop.cancelled() => return,
                    passed = line.pass(stream, number) => passed,
                };
                if let Err(error) = passed {
                    tracing::info!(number, %error, source = ?std::error::Error::source(&error), "a connection ended");
                }
            });
        }
        tasks.close();
        tasks.wait().await;
    }
}

impl Line {
    async fn pass(&self, stream: TcpStream, number: u64) -> Result<(), TapError> {
        stream.set_nodelay(true)?;
        let client = timeout(HANDSHAKE, self.acceptor.accept(stream)).await;
        let client = client.map_err(|_| TapError::Late)??;
        let session = client.get_ref().1;
        let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
        let chain: Vec<CertificateDer<'static>> = session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        let connector = TlsConnector::from(Arc::new(self.disguise.as_client(chain, protocol.clone())?));
        let upstream = TcpStream::connect(self.upstream).await?;
        upstream.set_nodelay(true)?;
        let hub = timeout(HANDSHAKE, connector.connect(self.name.clone(), upstream)).await;
        let hub = hub.map_err(|_| TapError::Late)??;
        let protocol = String::from_utf8_lossy(protocol.as_deref().unwrap_or(b"tls")).replace('/', "-");
        let kept = |direction| self.directory.join(format!("{number:04}-{protocol}-{direction}"));
        let (kept_up, kept_down) = (kept("up"), kept("down"));
        let (client_in, client_out) = tokio::io::split(client);
        let (hub_in, hub_out) = tokio::io::split(hub);
        let (up, down) = tokio::join!(
            carry(client_in, hub_out, &kept_up),
            carry(hub_in, client_out, &kept_down),
        );
        up.and(down)
    }
}

/// One direction to its end, which the other side is told of.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    kept: &Path,
) -> Result<(), TapError> {
    let failed = |source| TapError::File {
        path: kept.to_owned(),
        source,
    };
    let mut file = File::create(kept).map_err(failed)?;
    let mut piece = vec![0; PIECE];
    let passed = loop {
        match from.read(&mut piece).await {
            Ok(0) => break Ok(()),
            Ok(length) => {
                let piece = piece.get(..length).unwrap_or_default();
                file.write_all(piece).map_err(failed)?;
                if let Err(error) = to.write_all(piece).await {
                    break Err(error);
                }
                if let Err(error) = to.flush().await {
                    break Err(error);
                }
            }
            Err(error) => break Err(error),
        }
    };
    // Whatever ended it, the other side shall not wait for more; that it is gone already says nothing new.
    let _ = to.shutdown().await;
    Ok(passed?)
}
