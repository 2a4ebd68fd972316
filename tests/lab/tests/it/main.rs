//! The lab on the real machine: needs root and Debian's containerd, runc, containernetworking-plugins and docker-registry.

#![allow(clippy::unwrap_used, reason = "these helpers fail the test that calls them")]

mod control_plane;
mod devices;
mod kubelet;
mod removal;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

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

/// What the test server says at `/`, when it answers within a second.
fn fetch(server: SocketAddr) -> Option<String> {
    let limit = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&server, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").ok()?;
    std::io::read_to_string(stream).ok()
}
