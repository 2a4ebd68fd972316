//! The file with key and certificate, by which a restart needs no new one: readable by nobody else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::material::{Certificate, Key, MaterialError};

/// A key and a chain of a few certificates.
const LARGEST: u64 = 64 << 10;

/// PEM: a private key, then the chain with the leaf first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFile(PathBuf);

/// Why the file is of no use. None of it keeps a process from running: the cluster gives another certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot {doing} {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("others may read {path} (mode {mode:o}): its key is used no more")]
    Open { path: PathBuf, mode: u32 },
    #[error("{path} is not a key with its certificate")]
    Damaged {
        path: PathBuf,
        #[source]
        source: MaterialError,
    },
}

impl CertificateFile {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// What was saved last; `None` if nothing ever was.
    pub(super) fn load(&self) -> Result<Option<Certificate>, FileError> {
        let file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("open", error)),
        };
        let metadata = file.metadata().map_err(|error| self.failed("read", error))?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            let path = self.0.clone();
            return Err(FileError::Open { path, mode });
        }
        let mut pem = Zeroizing::new(String::new());
        let read = file.take(LARGEST).read_to_string(&mut pem);
        read.map_err(|error| self.failed("read", error))?;
        let certificate = Key::from_pem(&pem).and_then(|key| key.issued(pem.as_bytes()));
        certificate.map(Some).map_err(|source| FileError::Damaged {
            path: self.0.clone(),
            source,
        })
    }

    /// Replaces what was saved; at any moment the file is whole. Blocks for two writes to the disk.
    pub(super) fn save(&self, key_pem: &str, chain: &[u8]) -> Result<(), FileError> {
        let beside = self.0.with_added_extension("new");
        let write = || -> io::Result<()> {
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(key_pem.as_bytes())?;
            file.write_all(chain)?;
            file.sync_all()?;
            fs::rename(&beside, &self.0)?;
            let directory = self.0.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| self.failed("write", error))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> FileError {
        FileError::File {
            doing,
            path: self.0.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, Issuer, KeyPair};
    use virtual_kubelet_core::serving::ServingNames;

    use super::*;

    /// A key with a certificate of somebody's for it, as PEM.
    fn issued() -> (Key, String) {
        let names = ServingNames {
            hosts: ["outrigger".to_owned()].into(),
            ips: ["192.0.2.7".parse().unwrap()].into(),
        };
        let key = Key::generate().unwrap();
        let request = key.request("outrigger", &names).unwrap();
        let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
        let request = rcgen::CertificateSigningRequestParams::from_pem(&request).unwrap();
        let chain = request.signed_by(&issuer).unwrap().pem();
        (key, chain)
    }

    #[test]
    fn what_was_saved_is_loaded_unless_others_could_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("serving.pem");
        let file = CertificateFile::new(&path);
        assert!(file.load().unwrap().is_none());
        for _ in 0..2 {
            let (key, chain) = issued();
            file.save(&key.to_pem(), chain.as_bytes()).unwrap();
            let loaded = file.load().unwrap().unwrap();
            let leaf = key.issued(chain.as_bytes()).unwrap();
            assert_eq!(loaded.certified.cert, leaf.certified.cert);
            assert_eq!(loaded.names, leaf.names);
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(file.load(), Err(FileError::Open { mode: 0o640, .. })));
        let (key, chain) = issued();
        file.save(&key.to_pem(), chain.as_bytes()).unwrap();
        assert!(file.load().unwrap().is_some(), "closed again");
    }

    #[test]
    fn a_certificate_of_another_key_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = CertificateFile::new(directory.path().join("serving.pem"));
        let ((key, _), (_, chain)) = (issued(), issued());
        file.save(&key.to_pem(), chain.as_bytes()).unwrap();
        assert!(matches!(file.load(), Err(FileError::Damaged { .. })));
        file.save("", chain.as_bytes()).unwrap();
        assert!(matches!(file.load(), Err(FileError::Damaged { .. })));
    }
}
