//! The proxy before a real TLS server in the same process, and as a process of its own.

#![allow(clippy::unwrap_used, reason = "these helpers fail the test that calls them")]

mod lists;
mod process;
mod tap;
mod truth;
mod upstream;
mod watches;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fault_proxy::{Bound, ControlClient, Dialect, Lie, ProxyOptions, Rule};
use reqwest::{RequestBuilder, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::upstream::Upstream;

const LIMIT: Duration = Duration::from_secs(20);

/// An upstream with a proxy before it and a client that trusts the proxy alone.
struct Stage {
    upstream: Upstream,
    proxy: SocketAddr,
    ca_pem: String,
    control: ControlClient,
    client: reqwest::Client,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Stage {
    async fn set(dialect: Dialect) -> Self {
        let upstream = Upstream::start().await;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = ProxyOptions {
            listen: any,
            control: any,
            upstream: upstream.url.clone(),
            upstream_ca: upstream.ca_pem.clone().into_bytes(),
            dialect,
        };
        let bound = Bound::new(options).await.unwrap();
        let (addresses, ca_pem) = (bound.addresses(), bound.ca_pem().to_owned());
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { bound.run(stop).await.unwrap() }
        });
        Self {
            upstream,
            proxy: addresses.proxy,
            control: ControlClient::new(addresses.control),
            client: client(&ca_pem),
            ca_pem,
            stop,
            running,
        }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client
            .get(format!("https://{}{path}", self.proxy))
            .timeout(LIMIT)
    }

    /// The id of the lie.
    fn tell(&self, rule: &Rule) -> u64 {
        tokio::task::block_in_place(|| self.control.tell(rule))
            .unwrap()
            .id
    }

    fn served(&self, id: u64) -> u64 {
        tokio::task::block_in_place(|| self.control.served(id)).unwrap()
    }

    fn pass(&self) {
        tokio::task::block_in_place(|| self.control.pass()).unwrap();
    }

    async fn end(self) {
        self.stop.cancel();
        in_time(self.running).await.unwrap();
    }
}

fn tls(ca_pem: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn client(ca_pem: &str) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls(ca_pem))
        .no_proxy()
        .build()
        .unwrap()
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("it takes too long")
}

/// What comes until something ends with this.
async fn read_until(response: &mut Response, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let chunk = in_time(response.chunk())
            .await
            .unwrap()
            .expect("the body ends too early");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    text
}

fn empty_list(version: Option<u64>) -> Rule {
    Rule::new("/api/v1/pods", Lie::EmptyList { version }).method("GET")
}
