//! Image archives written by code: what `docker save` would write for an image that holds Debian's static busybox.

use std::fs;

use serde_json::json;
use sha2::{Digest, Sha256};

/// Applets that tests use by name.
const APPLETS: [&str; 14] = [
    "sh", "sleep", "cat", "echo", "true", "false", "env", "dd", "tail", "kill", "nc", "wget", "httpd", "ls",
];

/// The archive of one image named `reference` that runs `command` by default.
///
/// Fails when `busybox-static` is not installed; it is a prerequisite of the tests.
pub fn busybox_image(reference: &str, command: &[&str]) -> Vec<u8> {
    let layer = layer();
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex_digest(&layer))]},
    })
    .to_string();
    let config_name = format!("{}.json", hex_digest(config.as_bytes()));
    let manifest =
        json!([{"Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"]}]).to_string();
    let mut tar = Tar::default();
    tar.file("manifest.json", 0o644, manifest.as_bytes());
    tar.file(&config_name, 0o644, config.as_bytes());
    tar.file("layer.tar", 0o644, &layer);
    tar.finish()
}

fn layer() -> Vec<u8> {
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut tar = Tar::default();
    for (directory, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777)] {
        tar.entry(directory, mode, b'5', "", &[]);
    }
    tar.file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n");
    tar.file("bin/busybox", 0o755, &busybox);
    for applet in APPLETS {
        tar.entry(&format!("bin/{applet}"), 0o777, b'2', "busybox", &[]);
    }
    tar.finish()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// A POSIX ustar archive in memory; names up to 100 bytes, all owned by root, all of the epoch.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, mode, b'0', "", content);
    }

    fn entry(&mut self, name: &str, mode: u32, kind: u8, link: &str, content: &[u8]) {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}\0{:07o}\0{:07o}\0", 0, 0).as_bytes());
        put(124, format!("{:011o}\0{:011o}\0", content.len(), 0).as_bytes());
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}
