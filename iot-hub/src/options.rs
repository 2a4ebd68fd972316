//! The configuration file: typed, closed (an unknown key is an error with its line), validated once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::fail::FailOptions;

/// The whole configuration, as in `hub.toml`. Paths are relative to the working directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Where the store lives; made if it is missing.
    pub state_dir: PathBuf,
    /// Where `ca init` put keys and certificates.
    pub ca_dir: PathBuf,
    pub device: DeviceOptions,
    pub rest: RestOptions,
    pub health: HealthOptions,
    #[serde(default)]
    pub store: StoreOptions,
    #[serde(default)]
    pub log: LogOptions,
    /// For tests only.
    #[serde(default)]
    pub fail: Option<FailOptions>,
}

/// The one port for devices: MQTT, enrolment, blobs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceOptions {
    pub listen: SocketAddr,
    /// Enrolment attempts accepted per minute from one address (one /64 in IPv6).
    #[serde(default = "defaults::enroll_per_minute")]
    pub enroll_per_minute: u32,
    /// How long a device certificate is valid.
    #[serde(default = "defaults::certificate_days")]
    pub certificate_days: u32,
    #[serde(default = "defaults::max_sessions")]
    pub max_sessions: usize,
}

/// The REST port.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestOptions {
    pub listen: SocketAddr,
    /// DNS names and IP addresses of the certificate that the hub's own CA issues for this port.
    #[serde(default = "defaults::names")]
    pub names: Vec<String>,
    /// A certificate chain (PEM) to serve instead; needs `key`.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    #[serde(default)]
    pub key: Option<PathBuf>,
    #[serde(default = "defaults::max_connections")]
    pub max_connections: usize,
}

/// `/healthz`, `/readyz` and `/metrics`, without TLS: keep it on loopback or a private network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthOptions {
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreOptions {
    /// Log entries kept for watchers that resume.
    pub keep_log: u64,
    /// Events kept per device.
    pub keep_events: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            keep_log: 100_000,
            keep_events: 500,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogOptions {
    pub format: LogFormat,
    /// A `tracing` filter such as `info,iot_hub=debug`; empty means `info`.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

mod defaults {
    pub(super) fn enroll_per_minute() -> u32 {
        60
    }
    pub(super) fn certificate_days() -> u32 {
        365
    }
    pub(super) fn max_sessions() -> usize {
        20_000
    }
    pub(super) fn names() -> Vec<String> {
        vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]
    }
    pub(super) fn max_connections() -> usize {
        1024
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The source names line and column.
    #[error("{path} is not valid")]
    Parse {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("{key}: {message}")]
    Value { key: &'static str, message: String },
}

impl Options {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// [`OptionsError`] names the file, and the key or line at fault.
    pub fn read(path: &Path) -> Result<Self, OptionsError> {
        let text = std::fs::read_to_string(path).map_err(|source| OptionsError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Parses and validates the text of the file at `path`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, path: &Path) -> Result<Self, OptionsError> {
        let options: Self = toml::from_str(text).map_err(|source| OptionsError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        options.validate()?;
        Ok(options)
    }

    /// A hub on loopback with all ports chosen by the system, for tests and the lab.
    pub fn local(state_dir: impl Into<PathBuf>, ca_dir: impl Into<PathBuf>) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            state_dir: state_dir.into(),
            ca_dir: ca_dir.into(),
            device: DeviceOptions {
                listen,
                enroll_per_minute: defaults::enroll_per_minute(),
                certificate_days: defaults::certificate_days(),
                max_sessions: defaults::max_sessions(),
            },
            rest: RestOptions {
                listen,
                names: defaults::names(),
                certificate: None,
                key: None,
                max_connections: defaults::max_connections(),
            },
            health: HealthOptions { listen },
            store: StoreOptions::default(),
            log: LogOptions::default(),
            fail: None,
        }
    }

    fn validate(&self) -> Result<(), OptionsError> {
        let Self {
            state_dir: _,
            ca_dir: _,
            device,
            rest,
            health: _,
            store,
            log,
            fail: _,
        } = self;
        let check = |good: bool, key: &'static str, message: &str| {
            if good {
                Ok(())
            } else {
                Err(OptionsError::Value {
                    key,
                    message: message.to_owned(),
                })
            }
        };
        check(
            device.enroll_per_minute > 0,
            "device.enroll_per_minute",
            "must be at least 1",
        )?;
        check(
            (1..=3650).contains(&device.certificate_days),
            "device.certificate_days",
            "must be 1 to 3650",
        )?;
        check(
            (1..=1_000_000).contains(&device.max_sessions),
            "device.max_sessions",
            "must be 1 to 1000000",
        )?;
        check(
            rest.certificate.is_some() == rest.key.is_some(),
            "rest.certificate",
            "needs rest.key, and the other way round",
        )?;
        check(
            rest.certificate.is_some() || !rest.names.is_empty(),
            "rest.names",
            "must not be empty",
        )?;
        check(
            rest.max_connections > 0,
            "rest.max_connections",
            "must be at least 1",
        )?;
        check(store.keep_log > 0, "store.keep_log", "must be at least 1")?;
        check(store.keep_events > 0, "store.keep_events", "must be at least 1")?;
        tracing_subscriber::EnvFilter::try_new(log.filter_text())
            .map(|_| ())
            .map_err(|error| OptionsError::Value {
                key: "log.filter",
                message: error.to_string(),
            })
    }
}

impl LogOptions {
    /// The filter, with the default in place.
    pub fn filter_text(&self) -> &str {
        if self.filter.is_empty() {
            "info"
        } else {
            &self.filter
        }
    }
}

#[cfg(test)]
mod tests;
