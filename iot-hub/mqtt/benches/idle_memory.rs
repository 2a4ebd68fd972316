//! Memory of the endpoint per idle session over mutual TLS: `cargo bench -p iot-hub-mqtt --bench idle_memory [-- N]`.
//!
//! The clients run in a child process, so that the figure is the server's alone.

#![allow(clippy::unwrap_used, reason = "a bench stops at its first fault")]
#![allow(dead_code, reason = "shares the test harness and needs a part of it")]

#[path = "../tests/it/raw.rs"]
mod raw;
#[path = "../tests/it/site.rs"]
mod site;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::raw::{Connect, Raw};
use crate::site::{Site, client, until};

fn rss_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, address, directory] = arguments.as_slice()
        && role == "clients"
    {
        return clients(address.parse().unwrap(), Path::new(directory)).await;
    }
    let count = arguments
        .iter()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(1_000);
    server(count).await;
}

/// Starts the endpoint and the clients' process, and compares memory before and after.
async fn server(count: usize) {
    let site = Site::start();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("key"), site.ca.key().secret_der()).unwrap();
    fs::write(directory.path().join("ca"), site.ca.certificate()).unwrap();
    for i in 0..count {
        let name = format!("d{i}");
        fs::write(directory.path().join(&name), site.enrol_certificate(&name)).unwrap();
    }
    let before = rss_kib();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["clients", &site.address.to_string()])
        .arg(directory.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    until("all sessions", || site.handle.sessions().len() == count).await;
    let events = || site.log.all().len() == count;
    until("all events", events).await;
    let grown = rss_kib() - before;
    println!(
        "{count} idle sessions: {grown} KiB, {} bytes each",
        grown * 1024 / count
    );
    // The child ends with its standard input.
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// Connects a session per certificate and holds them until standard input ends.
async fn clients(address: std::net::SocketAddr, directory: &Path) {
    let key = PrivateKeyDer::try_from(fs::read(directory.join("key")).unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(fs::read(directory.join("ca")).unwrap()))
        .unwrap();
    let mut held = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "key" || name == "ca" {
            continue;
        }
        let certificate = CertificateDer::from(fs::read(&path).unwrap());
        let config = client(roots.clone(), vec![certificate], key.clone_key(), &[b"mqtt"]);
        let mut raw = Raw {
            stream: raw::tls(address, &config).await.unwrap(),
        };
        raw.send(
            &Connect {
                keep_alive: 1_800,
                ..Connect::of(&name)
            }
            .bytes(),
        )
        .await;
        assert_eq!(raw.packet().await, [0x20, 2, 0, 0]);
        held.push(raw);
    }
    let wait = tokio::task::spawn_blocking(|| BufReader::new(std::io::stdin()).lines().for_each(drop));
    wait.await.unwrap();
}
