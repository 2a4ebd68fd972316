//! Where the programs under test are.

use std::path::{Path, PathBuf};

use crate::SiteError;

/// A directory that cargo built the workspace's binaries into.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
}

impl Default for Programs {
    /// Those beside the running program, which may itself be a test in `deps/`.
    fn default() -> Self {
        let own = std::env::current_exe().unwrap_or_default();
        let directory = own.parent().unwrap_or(Path::new("."));
        let directory = if directory.ends_with("deps") {
            directory.parent().unwrap_or(directory)
        } else {
            directory
        };
        Self {
            directory: directory.to_owned(),
        }
    }
}

impl Programs {
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn hub(&self) -> Result<PathBuf, SiteError> {
        self.find("outrigger-hub")
    }

    pub fn kubelet(&self) -> Result<PathBuf, SiteError> {
        self.find("outrigger-kubelet")
    }

    pub fn agent(&self) -> Result<PathBuf, SiteError> {
        self.find("outrigger-agent")
    }

    pub fn cli(&self) -> Result<PathBuf, SiteError> {
        self.find("outrigger")
    }

    pub fn fault_proxy(&self) -> Result<PathBuf, SiteError> {
        self.find("outrigger-fault-proxy")
    }

    pub fn tap(&self) -> Result<PathBuf, SiteError> {
        self.find("outrigger-tap")
    }

    fn find(&self, name: &str) -> Result<PathBuf, SiteError> {
        let program = self.directory.join(name);
        if program.is_file() {
            Ok(program)
        } else {
            Err(SiteError::NotBuilt { program })
        }
    }
}
