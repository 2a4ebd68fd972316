//! The lab on the real machine: needs root and Debian's containerd, runc, containernetworking-plugins and docker-registry.

#![allow(clippy::unwrap_used, reason = "these helpers fail the test that calls them")]

mod control_plane;
mod devices;
mod removal;

use lab::{LabOptions, TemporaryLab};
use tempfile::TempDir;

/// A lab in a directory of its own. Both go with the test, the lab first, since locals are dropped in reverse order.
fn start(options: impl FnOnce(LabOptions) -> LabOptions) -> (TempDir, TemporaryLab) {
    let directory = tempfile::tempdir().unwrap();
    let lab = TemporaryLab::start(options(LabOptions::in_directory(directory.path().join("lab")))).unwrap();
    (directory, lab)
}

/// Zombies are dead: only the living have a working directory.
fn is_alive(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}/cwd"))
        .read_link()
        .is_ok()
}
