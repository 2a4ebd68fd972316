//! The hub's certificate authority: an offline root, an online intermediate, and the key that signs statements.
//!
//! * [`files`]: what `ca init` writes, and reading it back. The root's key is not needed to run.
//! * [`Authority`]: issues server certificates for the hub's ports and certificates for devices. Subject, names and usages
//!   follow policy alone; of a device's request only the public key is used.

pub mod files;

use std::net::IpAddr;

use edge_protocol::v1::enrol::hub_server_name;
use edge_protocol::{DeviceId, Digest, EnrolmentSerial, HubId};
use jiff::civil::Date;
use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub use files::{CaError, CaFiles};

/// How long a certificate of the hub's own ports is valid; it is made anew at every start.
const SERVER_DAYS: i32 = 90;
/// Certificates begin on the first of January of this year, before any agent was built: a device whose clock lost its battery takes the
/// day its agent was built for today, and a certificate that were not valid yet would lock it out. A beginning protects nothing.
const VALID_FROM_YEAR: i32 = 2026;

/// Issues certificates with the intermediate's key.
pub struct Authority {
    hub: HubId,
    issuer: Issuer<'static, KeyPair>,
    intermediate: CertificateDer<'static>,
    intermediate_pem: String,
    root: CertificateDer<'static>,
    root_pem: String,
}

/// A certificate of one of the hub's ports with the chain behind it.
pub struct ServerIdentity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// A certificate that a device is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCertificate {
    pub serial: EnrolmentSerial,
    /// PEM, leaf first.
    pub chain: String,
}

/// A device's request whose signature proves that it holds the key.
pub struct DeviceRequest {
    key: rcgen::PublicKey,
}

/// Why a certificate request is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    #[error("it is not a PKCS#10 request signed by its own key: {0}")]
    Invalid(rcgen::Error),
    #[error("its key is not ECDSA P-256")]
    WrongKey,
}

impl DeviceRequest {
    /// Parses a request (PEM) and checks the proof of possession.
    ///
    /// # Errors
    /// [`CsrError`]; its text contains nothing of the request.
    pub fn parse(pem: &str) -> Result<Self, CsrError> {
        let request = CertificateSigningRequestParams::from_pem(pem).map_err(CsrError::Invalid)?;
        let key = request.public_key;
        // An uncompressed point of a 256-bit curve; the algorithm alone would let another curve pass.
        let is_p256 = key.algorithm() == &PKCS_ECDSA_P256_SHA256 && key.der_bytes().len() == 65;
        if is_p256 {
            Ok(Self { key })
        } else {
            Err(CsrError::WrongKey)
        }
    }

    /// The public key, an uncompressed point.
    pub fn identity(&self) -> &[u8] {
        self.key.der_bytes()
    }

    /// The SHA-256 of the public key.
    pub fn fingerprint(&self) -> String {
        Digest::of(self.identity()).to_string()
    }
}

impl Authority {
    /// # Errors
    /// [`CaError::Certificate`] if the intermediate's certificate does not parse.
    pub fn new(files: &CaFiles) -> Result<Self, CaError> {
        let issuer = Issuer::from_ca_cert_der(&files.intermediate, files.intermediate_key()?)
            .map_err(CaError::Certificate)?;
        Ok(Self {
            hub: files.hub,
            issuer,
            intermediate: files.intermediate.clone(),
            intermediate_pem: files.intermediate_pem.clone(),
            root: files.root.clone(),
            root_pem: files.root_pem.clone(),
        })
    }

    pub fn hub(&self) -> HubId {
        self.hub
    }

    /// The root certificate, in DER.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// What devices and API clients pin (PEM).
    pub fn anchors(&self) -> &str {
        &self.root_pem
    }

    /// What a token names so that a device can check its first contact: the hash of the root certificate.
    pub fn anchor(&self) -> Digest {
        Digest::of(&self.root)
    }

    /// The device port's identity: the hub's own name, never a host name. The chain ends in the root, because a device
    /// that enrols knows only the root's hash.
    ///
    /// # Errors
    /// [`CaError::Certificate`].
    pub fn device_port(&self) -> Result<ServerIdentity, CaError> {
        let name = hub_server_name(self.hub)
            .try_into()
            .map_err(CaError::Certificate)?;
        let mut identity = self.server("outrigger-hub device port", vec![SanType::DnsName(name)])?;
        identity.chain.push(self.root.clone());
        Ok(identity)
    }

    /// The REST port's identity under its configured names.
    ///
    /// # Errors
    /// [`CaError::Certificate`] when a name is neither an IP address nor a DNS name.
    pub fn rest_port(&self, names: &[String]) -> Result<ServerIdentity, CaError> {
        let name = |text: &String| match text.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => text
                .as_str()
                .try_into()
                .map(SanType::DnsName)
                .map_err(CaError::Certificate),
        };
        let names = names.iter().map(name).collect::<Result<_, _>>()?;
        self.server("outrigger-hub", names)
    }

    fn server(&self, common_name: &str, names: Vec<SanType>) -> Result<ServerIdentity, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Certificate)?;
        let mut params = leaf(common_name, SERVER_DAYS);
        params.subject_alt_names = names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(CaError::Certificate)?;
        Ok(ServerIdentity {
            chain: vec![certificate.der().clone(), self.intermediate.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }

    /// A device's certificate: common name and URI say the device id, usage is client authentication.
    ///
    /// # Errors
    /// [`CaError::Certificate`].
    pub fn device(
        &self,
        device: &DeviceId,
        request: &DeviceRequest,
        days: u32,
    ) -> Result<DeviceCertificate, CaError> {
        let uri = format!("spiffe://{}/device/{device}", hub_server_name(self.hub));
        let serial = random_serial();
        let mut params = leaf(device.as_str(), i32::try_from(days).unwrap_or(i32::MAX));
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(CaError::Certificate)?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params
            .signed_by(&request.key, &self.issuer)
            .map_err(CaError::Certificate)?;
        let serial = edge_protocol::digest::hex(&serial);
        Ok(DeviceCertificate {
            serial: EnrolmentSerial::new(serial).expect("16 bytes in hex are a serial"),
            chain: format!("{}{}", certificate.pem(), self.intermediate_pem),
        })
    }
}

/// 126 random bits whose first byte is neither zero nor negative, so that DER, hex and X.509 agree on the digits.
fn random_serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::random();
    serial[0] = (serial[0] & 0x3f) | 0x40;
    serial
}

fn leaf(common_name: &str, days: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, days);
    params
}

/// Whole days, counted from today.
fn valid_for(params: &mut CertificateParams, days: i32) {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let end: Date = today.saturating_add(Span::new().days(days));
    let part = |value: i8| u8::try_from(value).expect("months and days are positive");
    params.not_before = rcgen::date_time_ymd(VALID_FROM_YEAR, 1, 1);
    params.not_after = rcgen::date_time_ymd(i32::from(end.year()), part(end.month()), part(end.day()));
}

#[cfg(test)]
mod tests;
