//! The ports: TLS, connections, and who may ask what. What is answered is `handle`'s.

mod connection;
mod places;
mod tls;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authentication::Authenticator;
use crate::authorization::Authorizer;
use crate::provider::PodStreams;
use places::UserPlaces;

pub(crate) use connection::Visit;
pub(crate) use places::UserPlace;

/// How long requests and streams may take to end after the stop.
const DRAIN: Duration = Duration::from_secs(5);
/// After an error of accepting, mostly for lack of file descriptors: connections end meanwhile, a loop would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Limits of a process's ports together. An API server asks for everyone as one user, hence the second figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiLimits {
    /// Connections at once; further ones are closed.
    pub connections: usize,
    /// Commands, forwarded connections and logs under way, of all users.
    pub streams: usize,
    /// The same of one user.
    pub streams_per_user: usize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            streams: 4096,
            streams_per_user: 3072,
        }
    }
}

/// Who may see figures (`/stats`, `/metrics`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StatsAccess {
    /// Whom the cluster allows it.
    #[default]
    Authorized,
    /// Everyone who reaches the port. For tests of scrapers alone.
    Open,
}

/// What the process tells about itself.
pub struct ProcessFacts {
    /// As in `kubeletVersion` of its Nodes.
    pub version: String,
    /// What it was started with, by option, for `/flagz`. No secrets.
    pub flags: BTreeMap<String, String>,
    /// Its own metrics, as text, for `/metrics`: content type and body.
    pub metrics: Arc<dyn Fn() -> (&'static str, String) + Send + Sync>,
}

/// What a [`KubeletApi`] is made of.
pub struct ApiParts {
    pub authenticator: Authenticator,
    pub authorizer: Authorizer,
    /// Asked at each handshake.
    pub certificates: Arc<dyn ResolvesServerCert>,
    pub process: ProcessFacts,
    pub limits: ApiLimits,
    pub stats_access: StatsAccess,
}

/// A node that a port answers for.
#[derive(Clone)]
pub struct ServedNode {
    pub name: String,
    pub streams: Arc<dyn PodStreams>,
}

/// Finds the node that a pod, by namespace and name, is bound to. Must not wait.
pub type FindNode = Arc<dyn Fn(&str, &str) -> Option<ServedNode> + Send + Sync>;

/// Which node answers at a port.
#[derive(Clone)]
pub enum Nodes {
    /// One, in all its routes.
    One(ServedNode),
    /// The one that a pod is on.
    Shared {
        of_pod: FindNode,
        /// Whose the routes are that name no pod; those are not to be had without it.
        whole: Option<ServedNode>,
    },
}

/// The kubelet's API of all nodes of a process: common to its ports.
#[derive(Clone)]
pub struct KubeletApi(Arc<Api>);

pub(crate) struct Api {
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Authorizer,
    pub(crate) process: ProcessFacts,
    pub(crate) stats_access: StatsAccess,
    pub(crate) started: Timestamp,
    pub(crate) places: UserPlaces,
    connections: Arc<Semaphore>,
    tls: Arc<ServerConfig>,
}

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    pub address: SocketAddr,
    #[source]
    pub source: io::Error,
}

/// An open port that accepts nothing yet.
pub struct Port {
    api: Arc<Api>,
    listener: TcpListener,
    local: SocketAddr,
}

impl KubeletApi {
    /// # Errors
    /// What the TLS library has against its own defaults; none is known.
    pub fn new(parts: ApiParts) -> Result<Self, rustls::Error> {
        let ApiParts {
            authenticator,
            authorizer,
            certificates,
            process,
            limits,
            stats_access,
        } = parts;
        Ok(Self(Arc::new(Api {
            authenticator,
            authorizer,
            process,
            stats_access,
            started: Timestamp::now(),
            places: UserPlaces::new(limits.streams, limits.streams_per_user),
            connections: Arc::new(Semaphore::new(limits.connections)),
            tls: tls::config(certificates)?,
        })))
    }

    /// Opens a port; with port 0 the system chooses one.
    ///
    /// # Errors
    /// [`BindError`], also when the address is in use.
    pub async fn bind(&self, address: SocketAddr) -> Result<Port, BindError> {
        let error = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(error)?;
        let local = listener.local_addr().map_err(error)?;
        Ok(Port {
            api: Arc::clone(&self.0),
            listener,
            local,
        })
    }
}

impl Port {
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Answers for these nodes until `stop`; then streams end, and requests under way have 5 s.
    pub async fn run(self, nodes: Nodes, stop: CancellationToken) {
        let streams = TaskTracker::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            while connections.try_join_next().is_some() {}
            let tcp = match accepted {
                Ok((tcp, _)) => tcp,
                Err(error) => {
                    tracing::warn!(%error, port = %self.local, "accept failed");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // At the limit the connection is closed: a caller that tries again is better off than one that hangs.
            if let Ok(place) = Arc::clone(&self.api.connections).try_acquire_owned() {
                let visit = Visit {
                    api: Arc::clone(&self.api),
                    nodes: nodes.clone(),
                    streams: streams.clone(),
                    stop: stop.clone(),
                    place: Arc::new(place),
                };
                connections.spawn(connection::serve(tcp, Arc::clone(&self.api.tls), visit));
            }
        }
        drop(self.listener);
        streams.close();
        let all = async {
            while connections.join_next().await.is_some() {}
            streams.wait().await;
        };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!(port = %self.local, "requests did not end in time and are dropped");
            connections.shutdown().await;
        }
    }
}
