//! Where the hub is, whom to trust, and which token to show.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::ClientError;

/// A bearer token. `Debug` hides it and its memory is zeroed on drop.
#[derive(Clone)]
pub struct ApiToken(zeroize::Zeroizing<String>);

impl ApiToken {
    pub fn new(token: impl Into<String>) -> Self {
        Self(zeroize::Zeroizing::new(token.into()))
    }

    pub(crate) fn reveal(&self) -> &str {
        self.0.trim()
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(..)")
    }
}

/// How to reach one hub.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `https://host:port`, without a path.
    pub url: String,
    /// The certificates to trust (PEM), and no others: the hub's anchors, or the authority of its configured certificate.
    pub ca_pem: String,
    pub token: ApiToken,
    /// For one call, from the first byte sent to the last received.
    pub timeout: Duration,
    /// A watch that is silent for longer is lost; the hub sends something every 10 s.
    pub watch_idle: Duration,
    /// The longest pause between two attempts of a watch.
    pub backoff_cap: Duration,
}

impl ClientOptions {
    /// Options with the usual times: 10 s per call, 30 s of watch silence, pauses up to 10 s.
    pub fn new(url: impl Into<String>, ca_pem: impl Into<String>, token: ApiToken) -> Self {
        Self {
            url: url.into(),
            ca_pem: ca_pem.into(),
            token,
            timeout: Duration::from_secs(10),
            watch_idle: Duration::from_secs(30),
            backoff_cap: Duration::from_secs(10),
        }
    }

    /// TLS that trusts the pinned certificates only, whatever the system trusts.
    pub(crate) fn tls(&self) -> Result<rustls::ClientConfig, ClientError> {
        let invalid = |message: String| ClientError::Options {
            option: "ca",
            message,
        };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| invalid(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(invalid("it holds no certificate".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ClientError::Options {
                option: "tls",
                message: error.to_string(),
            })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(config)
    }
}
