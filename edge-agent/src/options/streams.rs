//! Streams over the tunnel: whether there are any, how many, and what is kept about them here.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What an agent can be asked to hold: the tunnel's windows and the runtime's connections take memory.
const MOST: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct StreamSection {
    enabled: bool,
    max: usize,
    off_file: Option<PathBuf>,
    log_file: Option<PathBuf>,
    log_max_bytes: u64,
}

impl Default for StreamSection {
    fn default() -> Self {
        Self {
            enabled: true,
            max: 64,
            off_file: None,
            log_file: None,
            log_max_bytes: 4 << 20,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// Whether this agent says to the hub that it has streams.
    pub enabled: bool,
    /// How many may be open at the same time.
    pub most: usize,
    /// Read anew with every stream.
    pub policy_file: PathBuf,
    /// While there is such a file, no stream is opened, and those that are open are cut.
    pub off_file: PathBuf,
    /// Who opened what: JSON, one line for each beginning and end.
    pub log_file: PathBuf,
    /// Beyond it the log begins anew; the one before is kept beside it.
    pub log_max_bytes: u64,
}

impl StreamSection {
    pub(super) fn check(
        self,
        state_dir: &Path,
        policy_file: PathBuf,
    ) -> Result<StreamOptions, (&'static str, String)> {
        let Self {
            enabled,
            max,
            off_file,
            log_file,
            log_max_bytes,
        } = self;
        if !(1..=MOST).contains(&max) {
            return Err(("streams.max", format!("must be between 1 and {MOST}")));
        }
        Ok(StreamOptions {
            enabled,
            most: max,
            policy_file,
            off_file: off_file.unwrap_or_else(|| state_dir.join("streams-off")),
            log_file: log_file.unwrap_or_else(|| state_dir.join("streams.log")),
            log_max_bytes,
        })
    }
}
