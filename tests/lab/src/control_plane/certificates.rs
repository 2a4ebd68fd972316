//! The cluster's certificate authority and what it signs for the control plane itself.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::Error;

/// Names that pods would use for the API server.
const SERVICE_NAMES: [&str; 4] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
];

/// The directory with all keys and certificates, each as `<name>.crt` and `<name>.key`.
pub struct Certificates {
    directory: PathBuf,
}

/// A certificate to sign.
pub struct Subject<'a> {
    /// The user's name for Kubernetes.
    pub common_name: &'a str,
    /// The user's group.
    pub organization: Option<&'a str>,
    pub purpose: ExtendedKeyUsagePurpose,
    pub addresses: &'a [IpAddr],
}

impl Certificates {
    pub fn in_directory(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub fn certificate(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.crt"))
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }

    /// Makes an authority and writes it under `name`.
    pub fn create_authority(&self, name: &str) -> Result<Authority<'_>, Error> {
        fs::create_dir_all(&self.directory).map_err(Error::file(&self.directory))?;
        let failed = |source| Error::Certificate {
            name: name.to_owned(),
            source,
        };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        write(&self.certificate(name), &certificate.pem())?;
        write(&self.key(name), &key.serialize_pem())?;
        Ok(Authority {
            files: self,
            issuer: Issuer::new(params, key),
        })
    }

    /// Takes up an authority that was made before.
    pub fn open_authority(&self, name: &str) -> Result<Authority<'_>, Error> {
        let failed = |source| Error::Certificate {
            name: name.to_owned(),
            source,
        };
        let read = |path: PathBuf| fs::read_to_string(&path).map_err(Error::file(path));
        let key = KeyPair::from_pem(&read(self.key(name))?).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&read(self.certificate(name))?, key).map_err(failed)?;
        Ok(Authority { files: self, issuer })
    }

    /// A key pair without a certificate, for service account tokens.
    pub fn create_key(&self, name: &str) -> Result<(), Error> {
        let key = KeyPair::generate().map_err(|source| Error::Certificate {
            name: name.to_owned(),
            source,
        })?;
        write(&self.public_key(name), &key.public_key_pem())?;
        write(&self.key(name), &key.serialize_pem())
    }

    pub fn public_key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pub"))
    }
}

/// Signs certificates into the directory it was made in.
pub struct Authority<'a> {
    files: &'a Certificates,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority<'_> {
    /// Makes a key, signs a certificate for it and writes both under `name`.
    pub fn issue(&self, name: &str, subject: &Subject<'_>) -> Result<(), Error> {
        let failed = |source| Error::Certificate {
            name: name.to_owned(),
            source,
        };
        let serves = subject.purpose == ExtendedKeyUsagePurpose::ServerAuth;
        let names = SERVICE_NAMES
            .iter()
            .filter(|_| serves)
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params
            .subject_alt_names
            .extend(subject.addresses.iter().copied().map(SanType::IpAddress));
        params
            .distinguished_name
            .push(DnType::CommonName, subject.common_name);
        if let Some(organization) = subject.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![subject.purpose.clone()];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        write(&self.files.certificate(name), &certificate.pem())?;
        write(&self.files.key(name), &key.serialize_pem())
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::file(path))
}
