//! The configuration file: typed, closed, validated once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The source names line and column.
    #[error("{path} is not a configuration")]
    Parse {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("{key}: {why}")]
    Value { key: &'static str, why: String },
}

/// The options of one program.
pub trait Config: DeserializeOwned {
    /// What the types alone do not say.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the first key at fault.
    fn validate(&self) -> Result<(), ConfigError>;

    /// Reads and validates the file.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, and the line or the key at fault.
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Parses and validates the text of the file at `path`, which is only named in errors.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let options: Self = toml::from_str(text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        options.validate()?;
        Ok(options)
    }
}

/// # Errors
/// [`ConfigError::Value`] for `key` if it is not `good`.
pub fn check(good: bool, key: &'static str, why: impl Into<String>) -> Result<(), ConfigError> {
    if good {
        return Ok(());
    }
    Err(ConfigError::Value { key, why: why.into() })
}

/// `/healthz`, `/readyz` and `/metrics`, without TLS: keep it on loopback or a private network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthOptions {
    pub listen: SocketAddr,
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::LogOptions;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        health: HealthOptions,
        #[serde(default)]
        log: LogOptions,
    }

    impl Config for Options {
        fn validate(&self) -> Result<(), ConfigError> {
            check(self.health.listen.port() != 1, "health.listen", "not port 1")?;
            self.log.validate()
        }
    }

    const GOOD: &str = "[health]\nlisten = '127.0.0.1:9080'\n";

    fn parse(text: &str) -> Result<Options, ConfigError> {
        Options::parse(text, Path::new("x.toml"))
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        assert_eq!(parse(GOOD).unwrap().log.filter_text(), "info");
        let error = parse(&format!("{GOOD}[log]\nformt = 'json'\n")).unwrap_err();
        assert_eq!(error.to_string(), "x.toml is not a configuration");
        let source = error.source().unwrap().to_string();
        assert!(source.contains("line 4") && source.contains("formt"), "{source}");
    }

    #[test]
    fn a_bad_value_is_named_by_its_key() {
        let port = parse("[health]\nlisten = '127.0.0.1:1'").unwrap_err();
        assert_eq!(port.to_string(), "health.listen: not port 1");
        let filter = parse(&format!("{GOOD}[log]\nfilter = 'a=='\n")).unwrap_err();
        assert!(filter.to_string().starts_with("log.filter: "), "{filter}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Options::read(Path::new("/nowhere/x.toml")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/x.toml");
    }
}
