//! Whose sealing key it is (ADR 0011): the certificate chains to a pinned root and names the device, its key signed for the sealing key.

use std::fmt;
use std::sync::Arc;

use edge_protocol::sealing::{SealingRefusal, vouched_key};
use edge_protocol::{Digest, SealingKey};
use iot_hub_client::api::WantedKeys;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The roots that a device's certificate must chain to.
#[derive(Clone)]
pub struct Anchors {
    digests: Vec<Digest>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Anchors").field(&self.digests).finish()
    }
}

/// The text holds no root certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no root certificates: {0}")]
pub struct InvalidAnchors(String);

/// Why nothing is sealed to a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    #[error("its certificate cannot be read")]
    Unreadable,
    #[error("its certificate is not good: {0}")]
    Certificate(String),
    #[error("its certificate names another device")]
    OtherDevice,
    #[error(transparent)]
    Proof(#[from] SealingRefusal),
}

impl Anchors {
    /// Those of a PEM text, as the hub's client pins them.
    ///
    /// # Errors
    /// [`InvalidAnchors`]
    pub fn from_pem(pem: &str) -> Result<Self, InvalidAnchors> {
        let invalid = |error: &dyn fmt::Display| InvalidAnchors(error.to_string());
        let certificates: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| invalid(&error))?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| invalid(&error))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Self {
            digests: certificates.iter().map(Digest::of).collect(),
            verifier: verifier.map_err(|error| invalid(&error))?,
        })
    }

    /// The device's sealing key, proven.
    ///
    /// # Errors
    /// [`Distrust`]
    pub fn sealing_key(&self, wanted: &WantedKeys, now: UnixTime) -> Result<SealingKey, Distrust> {
        let chain: Vec<CertificateDer<'_>> =
            CertificateDer::pem_slice_iter(wanted.certificate_chain.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|_| Distrust::Unreadable)?;
        let (leaf, others) = chain.split_first().ok_or(Distrust::Unreadable)?;
        self.verifier
            .verify_client_cert(leaf, others, now)
            .map_err(|error| Distrust::Certificate(error.to_string()))?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| Distrust::Unreadable)?;
        let mut names = leaf.subject().iter_common_name();
        let named = match (names.next(), names.next()) {
            (Some(name), None) => name.as_str().ok(),
            _ => None,
        };
        if named != Some(wanted.device.as_str()) {
            return Err(Distrust::OtherDevice);
        }
        let identity = leaf.public_key().subject_public_key.data.as_ref();
        let mut refusal = SealingRefusal::OtherHub;
        for anchor in &self.digests {
            match vouched_key(&wanted.sealing_proof, *anchor, identity) {
                Ok(key) => return Ok(key),
                Err(error) => refusal = error,
            }
        }
        Err(refusal.into())
    }
}
