//! Files of a site: written whole, secrets for their owner alone.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::SiteError;

pub fn create_dir(path: &Path) -> Result<(), SiteError> {
    fs::create_dir_all(path).map_err(|source| SiteError::File {
        path: path.to_owned(),
        source,
    })
}

pub fn write(path: &Path, text: &str) -> Result<(), SiteError> {
    fs::write(path, text).map_err(|source| SiteError::File {
        path: path.to_owned(),
        source,
    })
}

/// Readable by the owner alone.
pub fn write_secret(path: &Path, text: &str) -> Result<(), SiteError> {
    let file = |source| SiteError::File {
        path: path.to_owned(),
        source,
    };
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(file)?;
    out.write_all(text.as_bytes()).map_err(file)
}

pub fn read(path: &Path) -> Result<String, SiteError> {
    fs::read_to_string(path).map_err(|source| SiteError::File {
        path: path.to_owned(),
        source,
    })
}

/// A string as TOML writes it: a JSON string is a basic string of TOML.
pub fn quoted(text: impl std::fmt::Display) -> String {
    serde_json::Value::from(text.to_string()).to_string()
}
