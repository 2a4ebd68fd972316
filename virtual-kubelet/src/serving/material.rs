//! A key, the request for its certificate, and the certificates that it serves with.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use virtual_kubelet_core::serving::{Lifetime, ORGANIZATION, ServingNames, common_name};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroizing;

/// A key, request or certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    #[error("a key or a request for its certificate cannot be made")]
    Make(#[source] rcgen::Error),
    #[error("it is no certificate")]
    Unreadable,
    #[error("it is not the certificate of this key")]
    OtherKey(#[source] rustls::Error),
}

/// A key that never leaves this machine: ECDSA P-256, as a kubelet's.
pub(super) struct Key(KeyPair);

impl Key {
    pub(super) fn generate() -> Result<Self, MaterialError> {
        KeyPair::generate().map(Self).map_err(MaterialError::Make)
    }

    pub(super) fn from_pem(pem: &str) -> Result<Self, MaterialError> {
        KeyPair::from_pem(pem).map(Self).map_err(MaterialError::Make)
    }

    pub(super) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// The PKCS #10 request for a certificate of this node, as PEM: subject and names, and nothing else.
    pub(super) fn request(&self, node: &str, names: &ServingNames) -> Result<String, MaterialError> {
        let request = params(node, names).and_then(|params| params.serialize_request(&self.0));
        request
            .and_then(|request| request.pem())
            .map_err(MaterialError::Make)
    }

    /// A certificate that nobody need trust. It does not end: it proves nothing that could go stale.
    pub(super) fn self_signed(&self, node: &str, names: &ServingNames) -> Result<Certificate, MaterialError> {
        let mut params = params(node, names).map_err(MaterialError::Make)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.self_signed(&self.0).map_err(MaterialError::Make)?;
        self.certified(vec![certificate.der().clone()])
    }

    /// The certificate that was made for this key, from a chain as PEM, leaf first.
    pub(super) fn issued(&self, chain: &[u8]) -> Result<Certificate, MaterialError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        self.certified(chain.map_err(|_| MaterialError::Unreadable)?)
    }

    fn certified(&self, chain: Vec<CertificateDer<'static>>) -> Result<Certificate, MaterialError> {
        let leaf = chain.first().ok_or(MaterialError::Unreadable)?;
        let (names, life) = read(leaf)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()));
        let certified =
            CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(MaterialError::OtherKey)?;
        Ok(Certificate {
            names,
            life,
            certified: Arc::new(certified),
        })
    }
}

fn params(node: &str, names: &ServingNames) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.hosts.iter().cloned().collect::<Vec<_>>())?;
    let addresses = names.ips.iter().copied().map(SanType::IpAddress);
    params.subject_alt_names.extend(addresses);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, ORGANIZATION);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name(node));
    Ok(params)
}

/// A certificate with its key, ready to serve.
#[derive(Clone)]
pub(super) struct Certificate {
    pub(super) names: ServingNames,
    pub(super) life: Lifetime,
    pub(super) certified: Arc<CertifiedKey>,
}

fn read(leaf: &CertificateDer<'_>) -> Result<(ServingNames, Lifetime), MaterialError> {
    let unreadable = |_| MaterialError::Unreadable;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| MaterialError::Unreadable)?;
    let mut names = ServingNames::default();
    let san = leaf
        .subject_alternative_name()
        .map_err(|_| MaterialError::Unreadable)?;
    for name in san.iter().flat_map(|san| &san.value.general_names) {
        match name {
            GeneralName::DNSName(host) => drop(names.hosts.insert((*host).to_owned())),
            GeneralName::IPAddress(bytes) => names.ips.extend(ip(bytes)),
            _ => {}
        }
    }
    let validity = leaf.validity();
    let life = Lifetime {
        not_before: Timestamp::from_second(validity.not_before.timestamp()).map_err(unreadable)?,
        not_after: Timestamp::from_second(validity.not_after.timestamp()).map_err(unreadable)?,
    };
    Ok((names, life))
}

/// The address that a certificate or a request writes in these bytes.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// What a TLS server presents, whoever asks. A change holds from the next handshake on.
pub(super) struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    pub(super) fn new(certified: Arc<CertifiedKey>) -> Self {
        Self(RwLock::new(certified))
    }

    pub(super) fn set(&self, certified: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
    }

    fn get(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}
