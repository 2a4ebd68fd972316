//! Whose client certificates count: the cluster's client CA, followed when it rotates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio::sync::watch;

/// Where the API server publishes what it authenticates clients by; the Role `extension-apiserver-authentication-reader` reads it.
const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
const KEY: &str = "client-ca-file";
/// More is no bundle of a few authorities.
const MAX_BUNDLE: usize = 1 << 20;
/// How often a file is read again (`DynamicFileCAContent` does so every minute).
const RECHECK: Duration = Duration::from_mins(1);

/// Where the authorities of client certificates are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCaSource {
    /// The cluster's own word.
    Cluster,
    /// A PEM file, read again every minute: where the service account may not read the cluster's word.
    File(PathBuf),
}

/// The authorities of client certificates as last told; `None` until they are. Then certificates make nobody known.
pub type ClientRoots = Option<Arc<dyn ClientCertVerifier>>;

/// A bundle that cannot be used. The one before it stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ClientCaError {
    #[error("cannot read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{KEY} is missing in the config map {NAMESPACE}/{CONFIG_MAP}: the API server has no --client-ca-file"
    )]
    Missing,
    #[error("the bundle of client authorities exceeds {MAX_BUNDLE} bytes")]
    TooLarge,
    #[error("the bundle of client authorities is no PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("a client authority is not usable")]
    Certificate(#[source] rustls::Error),
    #[error("the bundle of client authorities holds none")]
    Empty(#[source] VerifierBuilderError),
}

/// What verifies client certificates against a PEM bundle.
///
/// # Errors
/// [`ClientCaError`].
pub fn client_roots(bundle: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, ClientCaError> {
    if bundle.len() > MAX_BUNDLE {
        return Err(ClientCaError::TooLarge);
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        let certificate = certificate.map_err(ClientCaError::Pem)?;
        roots.add(certificate).map_err(ClientCaError::Certificate)?;
    }
    let provider = Arc::new(ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(ClientCaError::Empty)
}

/// Follows the authorities for ever; what cannot be used is told in the log and changes nothing. Cancelling is safe at any point.
pub async fn follow_client_ca(
    source: ClientCaSource,
    client: Client,
    roots: watch::Sender<ClientRoots>,
) -> std::convert::Infallible {
    let mut in_force = InForce {
        roots,
        bundle: Vec::new(),
    };
    match source {
        ClientCaSource::File(path) => loop {
            in_force.take(read(&path).await);
            tokio::time::sleep(RECHECK).await;
        },
        ClientCaSource::Cluster => loop {
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
            let only = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
            let changes = watcher(api, only).default_backoff().applied_objects();
            let mut changes = std::pin::pin!(changes);
            while let Some(change) = changes.next().await {
                match change {
                    Ok(map) => in_force.take(of_config_map(&map)),
                    Err(error) => tracing::warn!(%error, "the cluster's client CA cannot be followed"),
                }
            }
        },
    }
}

struct InForce {
    roots: watch::Sender<ClientRoots>,
    bundle: Vec<u8>,
}

impl InForce {
    fn take(&mut self, bundle: Result<Vec<u8>, ClientCaError>) {
        let bundle = match bundle {
            Ok(bundle) if bundle == self.bundle => return,
            Ok(bundle) => bundle,
            Err(error) => return tell(&error),
        };
        match client_roots(&bundle) {
            Ok(verifier) => {
                tracing::info!("client certificates are verified against a new bundle of authorities");
                self.roots.send_replace(Some(verifier));
                self.bundle = bundle;
            }
            Err(error) => tell(&error),
        }
    }
}

fn tell(error: &ClientCaError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, cause, "client authorities stay as they are");
}

async fn read(path: &std::path::Path) -> Result<Vec<u8>, ClientCaError> {
    tokio::fs::read(path).await.map_err(|source| ClientCaError::File {
        path: path.to_owned(),
        source,
    })
}

fn of_config_map(map: &ConfigMap) -> Result<Vec<u8>, ClientCaError> {
    let bundle = map.data.as_ref().and_then(|data| data.get(KEY));
    bundle
        .map(|bundle| bundle.clone().into_bytes())
        .ok_or(ClientCaError::Missing)
}
