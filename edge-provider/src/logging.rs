//! Structured logs to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::options::{LogFormat, LogOptions};

/// Sets the process's subscriber. Call once, in `main`; the options are validated.
pub fn init(options: &LogOptions) {
    let filter = EnvFilter::new(options.filter_text());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match options.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
}
