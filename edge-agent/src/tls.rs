//! TLS towards the hub: the anchor decides who it is, the floor of trusted time decides when it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edge_protocol::{Digest, HubId};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

/// The application protocols that share the hub's one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    Mqtt,
    Http,
}

impl Alpn {
    fn wire(self) -> Vec<u8> {
        match self {
            Self::Mqtt => b"mqtt".to_vec(),
            Self::Http => b"http/1.1".to_vec(),
        }
    }
}

/// The earliest moment it can be now: a clock that lost its battery must not make good certificates "not yet valid" (law 11).
///
/// Cheap to clone; all clones share the value, which only rises.
#[derive(Debug, Clone)]
pub struct TimeFloor(Arc<AtomicU64>);

impl TimeFloor {
    pub fn new(unix_s: u64) -> Self {
        Self(Arc::new(AtomicU64::new(unix_s)))
    }

    pub fn raise(&self, unix_s: u64) {
        self.0.fetch_max(unix_s, Ordering::Relaxed);
    }

    pub fn unix_s(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn at_least(&self, now: UnixTime) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().max(self.unix_s())))
    }
}

/// A configuration for the hub whose anchors are pinned, with this device's certificate.
///
/// # Errors
/// The anchors or the key pair are not usable.
pub fn enrolled(
    anchors: &[CertificateDer<'static>],
    hub: HubId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    floor: TimeFloor,
    alpn: Alpn,
) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        roots.add(anchor.clone())?;
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| TlsError::General(error.to_string()))?;
    let name = ServerName::try_from(edge_protocol::v1::enrol::hub_server_name(hub))
        .map_err(|error| TlsError::General(error.to_string()))?;
    let mut config = client(Arc::new(PinnedHub { inner, name, floor }))?.with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![alpn.wire()];
    Ok(config)
}

/// A configuration for the very first contact: all that is known of the hub is the digest of its root certificate.
///
/// # Errors
/// Only if the TLS library refuses its own defaults.
pub fn first_contact(anchor: Digest, floor: TimeFloor) -> Result<ClientConfig, TlsError> {
    let verifier = AnchoredHub {
        anchor,
        provider: provider(),
        floor,
    };
    let mut config = client(Arc::new(verifier))?.with_no_client_auth();
    config.alpn_protocols = vec![Alpn::Http.wire()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn client(
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

/// Checks the chain against the pinned anchors and the hub's own name, whatever host name or address was dialled.
#[derive(Debug)]
struct PinnedHub {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
    floor: TimeFloor,
}

impl ServerCertVerifier for PinnedHub {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let now = self.floor.at_least(now);
        self.inner
            .verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts exactly a server certificate whose chain ends in the root with the token's digest. The root must be part of the chain.
#[derive(Debug)]
struct AnchoredHub {
    anchor: Digest,
    provider: Arc<CryptoProvider>,
    floor: TimeFloor,
}

impl ServerCertVerifier for AnchoredHub {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let root = intermediates
            .iter()
            .find(|certificate| Digest::of(certificate.as_ref()) == self.anchor)
            .ok_or(TlsError::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            self.floor.at_least(now),
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_lost_its_battery_is_lifted_to_the_floor_and_a_right_one_is_left() {
        let floor = TimeFloor::new(1_000);
        let shared = floor.clone();
        shared.raise(2_000);
        shared.raise(1_500);
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        assert_eq!(floor.at_least(at(0)), at(2_000));
        assert_eq!(floor.at_least(at(3_000)), at(3_000));
    }
}
