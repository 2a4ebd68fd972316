//! Builds `server/` as one static binary.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

const TARGET: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-gnu"
} else {
    "x86_64-unknown-linux-gnu"
};

/// Builds the binary and returns its path; up to date, this takes a fraction of a second.
///
/// It has a target directory of its own under `cache`: its flags differ from the workspace's, and a test that calls this must not wait
/// for the lock of the cargo that runs the tests.
///
/// # Errors
/// [`Error::Command`] with the end of cargo's output when the build fails.
pub fn build_server(workspace: &Path, cache: &Path) -> Result<PathBuf, Error> {
    let target_dir = cache.join("test-images");
    // Below `cargo run` this names the very cargo that is running.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "test-images-server",
            "--target",
            TARGET,
        ])
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        // With `--target` these flags do not reach build scripts, which must stay dynamic.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let output = command.output();
    let failed = |reason: String| Error::Command {
        command: format!("{command:?}"),
        reason,
    };
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!(
            "{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(target_dir.join(TARGET).join("release/test-images-server"))
}
