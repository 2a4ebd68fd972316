//! The program: it says where it is, takes lies and ends when asked to.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use fault_proxy::{Addresses, ControlClient, Lie, Rule};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::upstream::{FIRST_EVENT, Upstream};
use crate::{LIMIT, client, in_time, read_until};

/// Killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start(directory: &Path, upstream: &Upstream) -> Running {
    let ca = directory.join("upstream.pem");
    std::fs::write(&ca, &upstream.ca_pem).unwrap();
    let command = Command::new(env!("CARGO_BIN_EXE_outrigger-fault-proxy"))
        .args(["--upstream", &upstream.url, "--dialect", "kubernetes"])
        .args([
            "--upstream-ca".as_ref(),
            ca.as_os_str(),
            "--directory".as_ref(),
            directory.as_os_str(),
        ])
        .spawn();
    Running(command.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_announces_itself_lies_and_ends_on_sigterm() {
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let mut proxy = start(directory.path(), &upstream);
    let addresses =
        tokio::task::block_in_place(|| until(|| std::fs::read(directory.path().join("addresses.json")).ok()));
    let addresses: Addresses = serde_json::from_slice(&addresses).unwrap();
    let ca_pem = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    let client = client(&ca_pem);
    let get = |path: &str| {
        client
            .get(format!("https://{}{path}", addresses.proxy))
            .timeout(LIMIT)
            .send()
    };
    assert_eq!(get("/api/v1/pods").await.unwrap().status(), 200);
    let control = ControlClient::new(addresses.control);
    let lie = Rule::new("/api/v1/pods", Lie::Status { code: 503 });
    let told = tokio::task::block_in_place(|| control.tell(&lie)).unwrap();
    assert_eq!(get("/api/v1/pods").await.unwrap().status(), 503);
    assert_eq!(
        tokio::task::block_in_place(|| control.served(told.id)).unwrap(),
        1
    );

    // An open watch does not hold it up.
    tokio::task::block_in_place(|| control.pass()).unwrap();
    let mut watch = get("/api/v1/pods?watch=true").await.unwrap();
    assert_eq!(read_until(&mut watch, "\n").await, FIRST_EVENT);
    let pid = Pid::from_raw(i32::try_from(proxy.0.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    let status = tokio::task::block_in_place(|| until(|| proxy.0.try_wait().unwrap()));
    assert!(status.success(), "{status}");
    assert!(in_time(watch.chunk()).await.is_err(), "the watch is broken off");
}
