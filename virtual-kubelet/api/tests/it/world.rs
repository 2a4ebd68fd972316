//! A kubelet API on a port of its own, with everything that it asks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::server::ResolvesServerCert;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use virtual_kubelet_api::{
    ApiLimits, ApiParts, Authenticator, Authorizer, ClientRoots, KubeletApi, Nodes, ProcessFacts, ServedNode,
    StatsAccess, client_roots,
};

use crate::authority::{Always, Authority, Identity};
use crate::client::{Connection, Http, Said, tls};
use crate::fake::FakePods;
use crate::reviews::{Reviews, Word};

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Whom the cluster allows everything here.
pub const ADMIN: &str = "admin";

pub struct World {
    pub address: SocketAddr,
    pub authority: Authority,
    pub reviews: Reviews,
    pub pods: Arc<FakePods>,
    pub roots: watch::Sender<ClientRoots>,
    pub admin: Identity,
    _stop: DropGuard,
}

pub fn parts(
    roots: watch::Receiver<ClientRoots>,
    client: kube::Client,
    certificates: Arc<dyn ResolvesServerCert>,
) -> ApiParts {
    ApiParts {
        authenticator: Authenticator::new(roots, client.clone()),
        authorizer: Authorizer::new(client),
        certificates,
        process: ProcessFacts {
            version: "v1.37.0-outrigger.1".into(),
            flags: BTreeMap::from([("config".to_owned(), "/etc/kubelet.toml".to_owned())]),
            metrics: Arc::new(|| ("application/openmetrics-text", "# EOF\n".to_owned())),
        },
        limits: ApiLimits::default(),
        stats_access: StatsAccess::Authorized,
    }
}

/// What an administrator may, of the reviews that a kubelet asks.
fn everything() -> Vec<String> {
    let verbs = ["get", "create"];
    let subresources = [
        "proxy",
        "stats",
        "metrics",
        "log",
        "checkpoint",
        "statusz",
        "configz",
        "pods",
        "healthz",
    ];
    let line = |verb| move |subresource| format!("{ADMIN} {verb} {subresource} edge");
    verbs
        .iter()
        .flat_map(|verb| subresources.map(line(verb)))
        .collect()
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_| {}, None).await
    }

    /// `change` is made to the parts; `nodes` answer in place of the one fake.
    pub async fn with(change: impl FnOnce(&mut ApiParts), nodes: Option<Nodes>) -> Self {
        let authority = Authority::new();
        let (roots, followed) = watch::channel(Some(client_roots(authority.pem().as_bytes()).unwrap()));
        let token =
            json!({"username": "robot", "uid": "7", "groups": ["robots"], "extra": {"scope": ["shop"]}});
        let reviews = Reviews::start(Word {
            tokens: BTreeMap::from([("good".to_owned(), token)]),
            allowed: everything(),
            ..Word::default()
        });
        let reviews = reviews.await;
        let pods = FakePods::new();
        let certificates = Always::new(authority.server(LOOPBACK));
        let mut parts = parts(followed, reviews.client.clone(), certificates);
        change(&mut parts);
        let port = KubeletApi::new(parts)
            .unwrap()
            .bind((LOOPBACK, 0).into())
            .await
            .unwrap();
        let address = port.local();
        let node = ServedNode {
            name: "edge".into(),
            streams: pods.clone(),
        };
        let stop = CancellationToken::new();
        tokio::spawn(port.run(nodes.unwrap_or(Nodes::One(node)), stop.clone()));
        Self {
            address,
            admin: authority.client(ADMIN, &["system:masters"]),
            authority,
            reviews,
            pods,
            roots,
            _stop: stop.drop_guard(),
        }
    }

    pub async fn connect(&self, identity: Option<&Identity>, http: Http) -> Connection {
        Connection::open(tls(self.address, &self.authority, identity, http).await, http).await
    }

    /// As the administrator, over a connection of its own.
    pub async fn ask(&self, method: &str, path: &str) -> Said {
        let mut connection = self.connect(Some(&self.admin), Http::One).await;
        connection.ask(method, path, &[]).await
    }
}
