//! The file with the sealer's root secret: made at the first start, readable by nobody else.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use edge_protocol::sealing::RootSecret;
use tracing::warn;
use zeroize::Zeroizing;

/// A secret in hex and a line end are 65 bytes.
const MAX: u64 = 128;

/// Where the root secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFile(PathBuf);

#[derive(Debug, thiserror::Error)]
pub enum RootFileError {
    #[error("cannot {doing} the sealer's root secret {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("others may read the sealer's root secret {path} (mode {mode:o}): make it 0600")]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "{path} is not a sealer's root secret: bring the right file back, or remove it, and everything is sealed anew"
    )]
    Damaged { path: PathBuf },
}

impl RootFile {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The secret of the file, or a new one, which is on disk before it is used.
    ///
    /// # Errors
    /// [`RootFileError`]
    pub fn load_or_create(&self) -> Result<RootSecret, RootFileError> {
        match File::open(&self.0) {
            Ok(file) => self.read(file),
            Err(error) if error.kind() == ErrorKind::NotFound => self.create(),
            Err(error) => Err(self.failed("open", error)),
        }
    }

    fn read(&self, file: File) -> Result<RootSecret, RootFileError> {
        let mode = file
            .metadata()
            .map_err(|error| self.failed("read", error))?
            .mode()
            & 0o7777;
        if mode & 0o077 != 0 {
            let path = self.0.clone();
            return Err(RootFileError::Open { path, mode });
        }
        let mut text = Zeroizing::new(String::new());
        let read = file.take(MAX).read_to_string(&mut text);
        read.map_err(|error| self.failed("read", error))?;
        RootSecret::from_hex(text.trim_end()).map_err(|_| RootFileError::Damaged { path: self.0.clone() })
    }

    fn create(&self) -> Result<RootSecret, RootFileError> {
        let root = RootSecret::from_bytes(rand::random());
        // Written beside and linked, so that the file is whole or not there, and that of another process is never replaced.
        let beside = self.0.with_extension("new");
        drop(std::fs::remove_file(&beside));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(root.reveal().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            std::fs::hard_link(&beside, &self.0)?;
            std::fs::remove_file(&beside)?;
            let directory = self.0.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| self.failed("create", error))?;
        warn!(
            path = %self.0.display(),
            "made a new root secret for sealing: keep it safe; without it all secrets are sealed anew, which changes every pod that has some"
        );
        Ok(root)
    }

    fn failed(&self, doing: &'static str, source: std::io::Error) -> RootFileError {
        RootFileError::File {
            doing,
            path: self.0.clone(),
            source,
        }
    }
}
