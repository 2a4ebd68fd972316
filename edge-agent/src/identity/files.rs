//! The three files of an identity, each replaced by rename and readable by their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use edge_protocol::SealingSecret;
use edge_protocol::v1::EnrolAnswer;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::{Identity, IdentityError};

/// Where an identity lives.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    key: PathBuf,
    sealing: PathBuf,
    answer: PathBuf,
}

/// The two keys that are registered at enrolment.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) identity: KeyPair,
    pub(super) sealing: SealingSecret,
}

impl IdentityFiles {
    pub fn in_dir(state_dir: &Path) -> Self {
        Self {
            key: state_dir.join("identity.key"),
            sealing: state_dir.join("sealing.key"),
            answer: state_dir.join("identity.json"),
        }
    }

    /// The identity, or `None` when this device was never enrolled.
    ///
    /// # Errors
    /// [`IdentityError::File`] or [`IdentityError::Damaged`]; no file is ever overwritten because of it.
    pub fn load(&self) -> Result<Option<Identity>, IdentityError> {
        let Some(text) = read(&self.answer)? else {
            return Ok(None);
        };
        let answer: EnrolAnswer =
            serde_json::from_str(&text).map_err(|error| damaged(&self.answer, error.to_string()))?;
        let pem = read(&self.key)?.ok_or_else(|| missing(&self.key))?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| damaged(&self.key, error.to_string()))?;
        let sealing = self.sealing_key()?.ok_or_else(|| missing(&self.sealing))?;
        if sealing.public() != answer.sealing_key {
            let problem = "it is not the key that this device enrolled with".to_owned();
            return Err(damaged(&self.sealing, problem));
        }
        Identity::new(answer, key, sealing).map(Some)
    }

    /// The device's keys, those made and stored that are not there yet. Nothing is asked of the hub before both are on disk.
    pub(super) fn ensure_keys(&self) -> Result<Keys, IdentityError> {
        let identity = match read(&self.key)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|error| damaged(&self.key, error.to_string()))?,
            None => self.new_identity_key()?,
        };
        let sealing = match self.sealing_key()? {
            Some(sealing) => sealing,
            None => self.new_sealing_key()?,
        };
        Ok(Keys { identity, sealing })
    }

    fn new_identity_key(&self) -> Result<KeyPair, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Key)?;
        write(&self.key, Zeroizing::new(key.serialize_pem()).as_bytes())?;
        Ok(key)
    }

    fn sealing_key(&self) -> Result<Option<SealingSecret>, IdentityError> {
        let text = read(&self.sealing)?;
        text.map(|text| SealingSecret::from_hex(text.trim_end()))
            .transpose()
            .map_err(|error| damaged(&self.sealing, error.to_string()))
    }

    fn new_sealing_key(&self) -> Result<SealingSecret, IdentityError> {
        let key = SealingSecret::from_bytes(rand::random());
        write(&self.sealing, key.reveal().as_bytes())?;
        Ok(key)
    }

    /// Stores the hub's answer, after it was found usable.
    pub(super) fn store(&self, answer: EnrolAnswer, keys: Keys) -> Result<Identity, IdentityError> {
        if answer.sealing_key != keys.sealing.public() {
            let problem = "the hub registered another sealing key than this device's".to_owned();
            return Err(IdentityError::BadAnswer(problem));
        }
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(keys.identity.serialize_der()));
        let text = serde_json::to_vec_pretty(&answer)
            .map_err(|error| IdentityError::BadAnswer(error.to_string()))?;
        let identity = Identity::new(answer, der, keys.sealing)?;
        write(&self.answer, &text)?;
        Ok(identity)
    }
}

fn damaged(path: &Path, problem: String) -> IdentityError {
    IdentityError::Damaged {
        path: path.to_owned(),
        problem,
    }
}

fn missing(path: &Path) -> IdentityError {
    damaged(path, "it is missing".to_owned())
}

/// The text is erased from memory when dropped: two of the files are secrets.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>, IdentityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::File {
            doing: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), IdentityError> {
    replace(path, content).map_err(|source| IdentityError::File {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

/// Writes beside, syncs, renames, and syncs the directory: after a power cut the file is the old one or the new one.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    // What a try that was cut short left there is no use, and its mode is not to be trusted.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let directory = path
        .parent()
        .ok_or_else(|| io::Error::other("the path has no directory"))?;
    File::open(directory)?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_keys_are_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::in_dir(dir.path());
        assert!(files.load().unwrap().is_none());
        let first = files.ensure_keys().unwrap();
        // An enrolment that was cut short begins again with both.
        let again = files.ensure_keys().unwrap();
        assert_eq!(again.identity.serialize_pem(), first.identity.serialize_pem());
        assert_eq!(again.sealing.public(), first.sealing.public());
        for path in [&files.key, &files.sealing] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let other = tempfile::tempdir().unwrap();
        let other = IdentityFiles::in_dir(other.path()).ensure_keys().unwrap();
        assert_ne!(other.sealing.public(), first.sealing.public());
    }

    #[test]
    fn a_damaged_key_is_told_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::in_dir(dir.path());
        for path in [&files.key, &files.sealing] {
            fs::write(path, "half a k").unwrap();
            let error = files.ensure_keys().unwrap_err();
            assert!(
                matches!(&error, IdentityError::Damaged { path: named, .. } if named == path),
                "{error}"
            );
            assert_eq!(fs::read_to_string(path).unwrap(), "half a k");
            fs::remove_file(path).unwrap();
            files.ensure_keys().unwrap();
        }
    }

    #[test]
    fn what_a_stale_or_foreign_temporary_file_allowed_is_not_inherited() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::in_dir(dir.path());
        let target = dir.path().join("elsewhere");
        fs::write(&target, "mine").unwrap();
        fs::write(beside(&files.key), "cut short").unwrap();
        fs::set_permissions(beside(&files.key), fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&target, beside(&files.sealing)).unwrap();
        files.ensure_keys().unwrap();
        for path in [&files.key, &files.sealing] {
            let metadata = fs::symlink_metadata(path).unwrap();
            assert!(metadata.is_file());
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_to_string(target).unwrap(), "mine");
    }

    /// An identity whose answer was stored, by the keys that are on disk.
    fn enrolled(files: &IdentityFiles) {
        let keys = files.ensure_keys().unwrap();
        let answer = answer(&keys);
        files.store(answer, keys).unwrap();
    }

    fn answer(keys: &Keys) -> EnrolAnswer {
        let certificate = rcgen::CertificateParams::default()
            .self_signed(&keys.identity)
            .unwrap()
            .pem();
        let signing = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key();
        EnrolAnswer {
            v: edge_protocol::v1::VERSION,
            device: edge_protocol::DeviceId::new("press-7").unwrap(),
            enrolment: edge_protocol::EnrolmentSerial::new("0a").unwrap(),
            certificate_chain: certificate.clone(),
            hub: edge_protocol::HubId("2b1d9c52-3a4e-4f60-8a7b-9c0d1e2f3a4b".parse().unwrap()),
            signing_keys: vec![edge_protocol::digest::hex(signing.as_bytes())],
            anchors: certificate,
            link: edge_protocol::v1::LinkClass::default(),
            sealing_key: keys.sealing.public(),
        }
    }

    #[test]
    fn an_identity_is_adopted_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::in_dir(dir.path());
        enrolled(&files);
        let identity = files.load().unwrap().unwrap();
        assert_eq!(identity.sealing.public(), identity.answer.sealing_key);
        let kept = fs::read_to_string(&files.sealing).unwrap();
        fs::write(&files.sealing, "1".repeat(64)).unwrap();
        let error = files.load().unwrap_err();
        assert!(error.to_string().contains("not the key"), "{error}");
        fs::remove_file(&files.sealing).unwrap();
        let error = files.load().unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        fs::write(&files.sealing, kept).unwrap();
        assert!(files.load().unwrap().is_some());
    }

    #[test]
    fn an_answer_about_another_key_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::in_dir(dir.path());
        let keys = files.ensure_keys().unwrap();
        let other = SealingSecret::from_bytes([9; 32]).public();
        let answer = EnrolAnswer {
            sealing_key: other,
            ..answer(&keys)
        };
        let error = files.store(answer, keys).unwrap_err();
        assert!(matches!(error, IdentityError::BadAnswer(_)), "{error}");
        assert!(!files.answer.exists());
    }
}
