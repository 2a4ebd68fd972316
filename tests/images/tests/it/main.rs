//! The server's binary is really static and does what its modes say; a real docker-registry takes the images.

#![allow(clippy::unwrap_used, reason = "these helpers fail the test that calls them")]

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use test_images::{Catalogue, build_server, push};

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

fn cache() -> PathBuf {
    workspace().join("target/outrigger/cache")
}

/// Ends the process with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn the_server_is_static_and_exits_and_prints_as_told() {
    let server = build_server(workspace(), &cache()).unwrap();
    let kind = Command::new("file").arg(&server).output();
    if let Ok(kind) = kind {
        assert!(
            String::from_utf8_lossy(&kind.stdout).contains("static"),
            "{kind:?}"
        );
    }
    let run = |arguments: &[&str]| {
        Command::new(&server)
            .args(arguments)
            .env("A", "b")
            .output()
            .unwrap()
    };
    assert_eq!(run(&["exit", "--code", "7"]).status.code(), Some(7));
    assert_eq!(
        run(&["crash", "--after-seconds", "0", "--code", "3"])
            .status
            .code(),
        Some(3)
    );
    assert_eq!(run(&["nonsense"]).status.code(), Some(2));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("one"), "first").unwrap();
    let printed = run(&["print", directory.path().to_str().unwrap()]);
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("\nA=b\n") || text.starts_with("A=b\n"), "{text}");
    assert!(text.contains("/one\nfirst"), "{text}");
}

#[test]
fn the_server_answers_http_and_stops_on_sigterm() {
    let server = build_server(workspace(), &cache()).unwrap();
    let port = free_port();
    let mut child = Ended(
        Command::new(server)
            .args(["http", "--port", &port.to_string()])
            .env("VERSION", "v9")
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut answer = String::new();
    until("an answer", || {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
            return false;
        };
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        answer = std::io::read_to_string(stream).unwrap();
        true
    });
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("version v9\n"),
        "{answer}"
    );
    signal::kill(Pid::from_raw(child.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn a_real_registry_takes_every_image_twice() {
    let directory = tempfile::tempdir().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let config = directory.path().join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
        directory.path().join("data").display()
    );
    std::fs::write(&config, text).unwrap();
    let _registry = Ended(
        Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .spawn()
            .unwrap(),
    );
    until("the registry listens", || TcpStream::connect(address).is_ok());
    let catalogue = Catalogue::build(workspace(), &cache()).unwrap();
    for image in catalogue.images().iter().chain(catalogue.images()) {
        push(address, image).unwrap();
    }
    let tags = directory
        .path()
        .join("data/docker/registry/v2/repositories/busybox/_manifests/tags");
    assert_eq!(std::fs::read_dir(tags).unwrap().count(), 2);
}
