//! The directory that `ca init` makes. Every file is 0600, the directory 0700; nothing is ever overwritten.
//!
//! | file | what it is |
//! |---|---|
//! | `root.key` | the root's key; needed only to make another intermediate: keep it offline |
//! | `root.crt` | the anchor that devices and API clients pin |
//! | `intermediate.key`, `intermediate.crt` | what the running hub issues certificates with |
//! | `signing.key` | Ed25519, signs statements to devices |
//! | `hub.id` | the hub's UUID |

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use edge_protocol::HubId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::valid_for;

const ROOT_DAYS: i32 = 20 * 365;
const INTERMEDIATE_DAYS: i32 = 5 * 365;

/// Why the authority's files could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {path}; `outrigger-hub ca init` makes it")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not {what}")]
    Content { path: PathBuf, what: &'static str },
    #[error("a certificate or key cannot be made")]
    Certificate(#[source] rcgen::Error),
}

/// What the running hub needs of the directory; the root's key is not among it.
pub struct CaFiles {
    pub hub: HubId,
    pub root: CertificateDer<'static>,
    pub root_pem: String,
    pub intermediate: CertificateDer<'static>,
    pub intermediate_pem: String,
    pub signing: SigningKey,
    intermediate_key_pem: Zeroizing<String>,
}

impl CaFiles {
    /// Makes a root, an intermediate, a signing key and a hub id in `directory`.
    ///
    /// # Errors
    /// [`CaError::Write`] also when a file is already there: a hub's keys are never replaced by accident.
    pub fn init(directory: &Path) -> Result<HubId, CaError> {
        let hub = HubId(Uuid::new_v4());
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Certificate);
        let (root_key, intermediate_key) = (key()?, key()?);
        let root_params = authority(&format!("Outrigger root {hub}"), 1, ROOT_DAYS);
        let root = root_params.self_signed(&root_key).map_err(CaError::Certificate)?;
        let issuer = Issuer::from_params(&root_params, &root_key);
        let intermediate = authority(&format!("Outrigger intermediate {hub}"), 0, INTERMEDIATE_DAYS)
            .signed_by(&intermediate_key, &issuer)
            .map_err(CaError::Certificate)?;
        let signing = SigningKey::from_bytes(&rand::random());
        let signing = signing
            .to_pkcs8_pem(LineEnding::LF)
            .expect("an Ed25519 key has a PKCS#8 form");

        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| CaError::Write {
            path: directory.to_owned(),
            source,
        })?;
        let root_key = Zeroizing::new(root_key.serialize_pem());
        let intermediate_key = Zeroizing::new(intermediate_key.serialize_pem());
        write_new(&directory.join("root.key"), &root_key)?;
        write_new(&directory.join("root.crt"), &root.pem())?;
        write_new(&directory.join("intermediate.key"), &intermediate_key)?;
        write_new(&directory.join("intermediate.crt"), &intermediate.pem())?;
        write_new(&directory.join("signing.key"), &signing)?;
        // Last: a directory without it is one whose making was interrupted, and `load` says so.
        write_new(&directory.join("hub.id"), &format!("{hub}\n"))?;
        let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|source| CaError::Write {
            path: directory.to_owned(),
            source,
        })?;
        Ok(hub)
    }

    /// # Errors
    /// [`CaError::Read`] and [`CaError::Content`] name the file.
    pub fn load(directory: &Path) -> Result<Self, CaError> {
        let hub_path = directory.join("hub.id");
        let hub = read(&hub_path)?.trim().parse().map(HubId);
        let hub = hub.map_err(|_| CaError::Content {
            path: hub_path,
            what: "a UUID",
        })?;
        let (root, root_pem) = certificate(&directory.join("root.crt"))?;
        let (intermediate, intermediate_pem) = certificate(&directory.join("intermediate.crt"))?;
        let signing_path = directory.join("signing.key");
        let signing = SigningKey::from_pkcs8_pem(&read(&signing_path)?).map_err(|_| CaError::Content {
            path: signing_path,
            what: "an Ed25519 key in PKCS#8",
        })?;
        let intermediate_key_pem = read(&directory.join("intermediate.key"))?;
        Ok(Self {
            hub,
            root,
            root_pem,
            intermediate,
            intermediate_pem,
            signing,
            intermediate_key_pem,
        })
    }

    pub(super) fn intermediate_key(&self) -> Result<KeyPair, CaError> {
        KeyPair::from_pem(&self.intermediate_key_pem).map_err(CaError::Certificate)
    }
}

fn authority(common_name: &str, path_length: u8, days: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, days);
    params
}

fn write_new(path: &Path, content: &str) -> Result<(), CaError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| CaError::Write {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<Zeroizing<String>, CaError> {
    let text = std::fs::read_to_string(path).map_err(|source| CaError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(Zeroizing::new(text))
}

fn certificate(path: &Path) -> Result<(CertificateDer<'static>, String), CaError> {
    let pem = read(path)?;
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| CaError::Content {
        path: path.to_owned(),
        what: "a certificate in PEM",
    })?;
    Ok((certificate, pem.to_string()))
}
