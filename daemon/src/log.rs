//! Structured logs on standard error.

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::config::ConfigError;

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

impl LogOptions {
    /// The filter, with the default in place.
    pub fn filter_text(&self) -> &str {
        if self.filter.is_empty() {
            "info"
        } else {
            &self.filter
        }
    }

    /// # Errors
    /// [`ConfigError::Value`] for `log.filter`.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match EnvFilter::try_new(self.filter_text()) {
            Ok(_) => Ok(()),
            Err(error) => Err(ConfigError::Value {
                key: "log.filter",
                why: error.to_string(),
            }),
        }
    }

    /// Sets the process's subscriber. Call once, in `main`, on validated options.
    pub fn init(&self) {
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(self.filter_text()))
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        match self.format {
            LogFormat::Text => subscriber.init(),
            LogFormat::Json => subscriber.json().init(),
        }
    }
}
