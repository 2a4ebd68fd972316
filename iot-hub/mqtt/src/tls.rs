//! The server's TLS: 1.3 only, ring, client certificates verified when shown, tickets.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection};

/// The ALPN name of MQTT.
pub(crate) const ALPN_MQTT: &[u8] = b"mqtt";
/// The ALPN name of the device API, and what no ALPN means.
pub(crate) const ALPN_HTTP: &[u8] = b"http/1.1";

/// The certificates that a peer showed, end entity first; empty if none. They chain to a client root and were valid in
/// time at this handshake. Who they belong to is the gate's to say.
#[derive(Clone, Debug, Default)]
pub struct PeerCertificates(Arc<[CertificateDer<'static>]>);

impl PeerCertificates {
    pub fn new(chain: &[CertificateDer<'static>]) -> Self {
        Self(chain.into())
    }

    pub fn end_entity(&self) -> Option<&CertificateDer<'static>> {
        self.0.first()
    }

    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0
    }
}

/// The TLS side of the port. Build a new one to rotate certificates or roots; running sessions keep theirs.
#[derive(Clone)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ServerTls {
    /// `chain` and `key` are the server's, end entity first; `client_roots` are the anchors of device certificates.
    ///
    /// # Errors
    /// [`TlsError`] if roots are empty, or key and chain do not fit each other.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_roots: RootCertStore,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(client_roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(TlsError::ClientRoots)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Server)?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(chain, key)
            .map_err(TlsError::Server)?;
        config.alpn_protocols = vec![ALPN_MQTT.to_vec(), ALPN_HTTP.to_vec()];
        // Stateless tickets: a reconnect storm costs no memory here. Whether the identity still stands is asked after
        // every handshake, so a ticket carries no right of its own.
        config.ticketer = ring::Ticketer::new().map_err(TlsError::Server)?;
        config.send_tls13_tickets = 1;
        Ok(Self {
            config: Arc::new(config),
            verifier,
        })
    }

    /// The peer's certificates after a handshake. On resumption rustls does not verify them again, so this does:
    /// a certificate that expired since, or whose root was withdrawn, no longer counts.
    pub(crate) fn peer_certificates(
        &self,
        connection: &ServerConnection,
    ) -> Result<PeerCertificates, rustls::Error> {
        let chain = connection.peer_certificates().unwrap_or_default();
        if let Some((end_entity, intermediates)) = chain.split_first()
            && connection.handshake_kind() == Some(HandshakeKind::Resumed)
        {
            self.verifier
                .verify_client_cert(end_entity, intermediates, UnixTime::now())?;
        }
        Ok(PeerCertificates::new(chain))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

/// TLS material that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("client roots are not usable")]
    ClientRoots(#[source] VerifierBuilderError),
    #[error("server certificate or key is not usable")]
    Server(#[source] rustls::Error),
}
