//! The two files of an identity, each replaced by rename and readable by their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use edge_protocol::v1::EnrolAnswer;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Identity, IdentityError};

/// Where an identity lives.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    key: PathBuf,
    answer: PathBuf,
}

impl IdentityFiles {
    pub fn in_dir(state_dir: &Path) -> Self {
        Self {
            key: state_dir.join("identity.key"),
            answer: state_dir.join("identity.json"),
        }
    }

    /// The identity, or `None` when this device was never enrolled.
    ///
    /// # Errors
    /// [`IdentityError::File`] or [`IdentityError::Damaged`]; neither file is ever overwritten because of it.
    pub fn load(&self) -> Result<Option<Identity>, IdentityError> {
        let Some(text) = read(&self.answer)? else {
            return Ok(None);
        };
        let damaged = |path: &Path, problem: String| IdentityError::Damaged {
            path: path.to_owned(),
            problem,
        };
        let answer: EnrolAnswer =
            serde_json::from_str(&text).map_err(|error| damaged(&self.answer, error.to_string()))?;
        let pem = read(&self.key)?.ok_or_else(|| damaged(&self.key, "it is missing".to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| damaged(&self.key, error.to_string()))?;
        Identity::new(answer, key).map(Some)
    }

    /// The device's key, made and stored if there is none yet.
    pub(super) fn ensure_key(&self) -> Result<KeyPair, IdentityError> {
        if let Some(pem) = read(&self.key)? {
            return KeyPair::from_pem(&pem).map_err(|error| IdentityError::Damaged {
                path: self.key.clone(),
                problem: error.to_string(),
            });
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Key)?;
        replace(&self.key, key.serialize_pem().as_bytes()).map_err(|source| IdentityError::File {
            doing: "write",
            path: self.key.clone(),
            source,
        })?;
        Ok(key)
    }

    /// Stores the hub's answer, after it was found usable.
    pub(super) fn store(&self, answer: EnrolAnswer, key: &KeyPair) -> Result<Identity, IdentityError> {
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let text = serde_json::to_vec_pretty(&answer)
            .map_err(|error| IdentityError::BadAnswer(error.to_string()))?;
        let identity = Identity::new(answer, der)?;
        replace(&self.answer, &text).map_err(|source| IdentityError::File {
            doing: "write",
            path: self.answer.clone(),
            source,
        })?;
        Ok(identity)
    }
}

fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::File {
            doing: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes beside, syncs, renames, and syncs the directory: after a power cut the file is the old one or the new one.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::in_dir(dir.path());
        assert!(files.load().unwrap().is_none());
        let first = files.ensure_key().unwrap().serialize_pem();
        assert_eq!(files.ensure_key().unwrap().serialize_pem(), first);
        let mode = fs::metadata(&files.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_told_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::in_dir(dir.path());
        fs::write(&files.key, "half a k").unwrap();
        let error = files.ensure_key().unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
        assert_eq!(fs::read_to_string(&files.key).unwrap(), "half a k");
    }
}
