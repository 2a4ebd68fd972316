//! The configuration file: typed, closed (an unknown key is an error with its line), validated once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use daemon::config::{Config, check};
use daemon::{ConfigError, HealthOptions, LogOptions};
use iot_hub_core::Limits;
use serde::Deserialize;

use crate::fail::FailOptions;

/// A tunnel holds no more.
const MAX_PER_DEVICE: usize = 64;

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
    pub streams: StreamOptions,
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

/// How many streams may be open.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamOptions {
    pub total: usize,
    pub per_device: usize,
}

impl Default for StreamOptions {
    fn default() -> Self {
        let Limits {
            streams,
            device_streams,
            ..
        } = Limits::default();
        Self {
            total: streams,
            per_device: device_streams,
        }
    }
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

impl Options {
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
            streams: StreamOptions::default(),
            log: LogOptions::default(),
            fail: None,
        }
    }
}

impl Config for Options {
    fn validate(&self) -> Result<(), ConfigError> {
        let Self {
            state_dir: _,
            ca_dir: _,
            device,
            rest,
            health: _,
            store,
            streams,
            log,
            fail: _,
        } = self;
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
        check(
            (1..=65_536).contains(&streams.total),
            "streams.total",
            "must be 1 to 65536",
        )?;
        check(
            (1..=MAX_PER_DEVICE).contains(&streams.per_device),
            "streams.per_device",
            "must be 1 to 64",
        )?;
        log.validate()
    }
}

#[cfg(test)]
mod tests;
