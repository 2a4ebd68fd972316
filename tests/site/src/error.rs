//! What can go wrong while a site is set up.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    #[error(transparent)]
    Lab(#[from] lab::Error),
    #[error("{path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} is not built; run `cargo build --workspace` first")]
    NotBuilt { program: PathBuf },
    #[error("{command} printed something unexpected: {problem}")]
    Unexpected { command: &'static str, problem: String },
    #[error("the site has no device {0}")]
    NoDevice(String),
}
