//! Who the tap is: the hub to a client, and that client to the hub.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::TapError;

/// What the hub's ports speak.
const PROTOCOLS: [&[u8]; 2] = [b"mqtt", b"http/1.1"];

/// What is needed to pass for either side.
pub(super) struct Disguise {
    issuer: Issuer<'static, KeyPair>,
    intermediate: CertificateDer<'static>,
    root: CertificateDer<'static>,
    client_key: Option<PathBuf>,
    provider: Arc<CryptoProvider>,
}

impl Disguise {
    pub fn new(ca_dir: &Path, client_key: Option<PathBuf>) -> Result<Self, TapError> {
        let intermediate = certificate(&ca_dir.join("intermediate.crt"))?;
        let key_path = ca_dir.join("intermediate.key");
        let key = std::fs::read_to_string(&key_path).map_err(|source| TapError::File {
            path: key_path,
            source,
        })?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&intermediate, KeyPair::from_pem(&key)?)?,
            intermediate,
            root: certificate(&ca_dir.join("root.crt"))?,
            client_key,
            provider: Arc::new(ring::default_provider()),
        })
    }

    /// The hub under this name. The chain ends in the root, since a device that enrols knows only its digest.
    pub fn as_hub(&self, name: &str) -> Result<ServerConfig, TapError> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let chain = vec![leaf.der().clone(), self.intermediate.clone(), self.root.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(AnyClient(Arc::clone(&self.provider))))
            .with_single_cert(chain, key)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(config)
    }

    /// Who showed this chain, if one was shown.
    pub fn as_client(
        &self,
        chain: Vec<CertificateDer<'static>>,
        protocol: Option<Vec<u8>>,
    ) -> Result<ClientConfig, TapError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match &self.client_key {
            Some(path) if !chain.is_empty() => {
                let key = PrivateKeyDer::from_pem_file(path).map_err(|source| TapError::Pem {
                    path: path.clone(),
                    source,
                })?;
                config.with_client_auth_cert(chain, key)?
            }
            _ => config.with_no_client_auth(),
        };
        config.alpn_protocols = protocol.into_iter().collect();
        Ok(config)
    }
}

fn certificate(path: &Path) -> Result<CertificateDer<'static>, TapError> {
    CertificateDer::from_pem_file(path).map_err(|source| TapError::Pem {
        path: path.to_owned(),
        source,
    })
}

/// Takes whatever certificate a client shows, if it has its key: the hub behind will judge it.
struct AnyClient(Arc<CryptoProvider>);

impl fmt::Debug for AnyClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyClient")
    }
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
