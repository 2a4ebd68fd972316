//! The real binary: made ready by its own commands, killed without warning, started again.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use futures_util::StreamExt as _;
use iot_hub_client::api::Change;
use iot_hub_client::{ApiToken, ClientOptions, HubClient};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::device::{HubPort, new_key, request};
use crate::site::{ca_dir, deployment, state_dir, uid, within};

const BINARY: &str = env!("CARGO_BIN_EXE_outrigger-hub");

struct Installation {
    directory: tempfile::TempDir,
    config: PathBuf,
}

struct Process {
    child: Child,
    device: SocketAddr,
    rest: SocketAddr,
    anchors: String,
}

fn command(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

#[track_caller]
fn good(output: Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

impl Installation {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("hub.toml");
        let this = Self { directory, config };
        this.configure("");
        good(command(&[
            "ca",
            "init",
            "--dir",
            ca_dir(this.path()).to_str().unwrap(),
        ]));
        this
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "state_dir = \"{}\"\nca_dir = \"{}\"\n[device]\nlisten = \"127.0.0.1:0\"\n[rest]\nlisten = \"127.0.0.1:0\"\n\
             [health]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n{more}",
            state_dir(self.path()).display(),
            ca_dir(self.path()).display(),
        );
        std::fs::write(&self.config, text).unwrap();
    }

    fn with_config(&self, arguments: &[&str]) -> Output {
        let mut all = arguments.to_vec();
        all.extend(["--config", self.config.to_str().unwrap()]);
        command(&all)
    }

    fn run(&self) -> Process {
        let mut child = Command::new(BINARY)
            .args(["run", "--config", self.config.to_str().unwrap()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let fields = lines.by_ref().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            (line["fields"]["message"] == "listening").then(|| line["fields"].clone())
        });
        let fields = fields.expect("the hub says where it listens");
        // Keeps the pipe empty; ends with the process.
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| fields[name].as_str().unwrap().parse().unwrap();
        let anchors = std::fs::read_to_string(ca_dir(self.path()).join("root.crt")).unwrap();
        Process {
            child,
            device: address("device"),
            rest: address("rest"),
            anchors,
        }
    }
}

impl Process {
    fn client(&self, token: &str) -> HubClient {
        let options = ClientOptions::new(
            format!("https://{}", self.rest),
            self.anchors.clone(),
            ApiToken::new(token),
        );
        HubClient::new(options).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Of no effect on one that has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_that_was_answered() {
    let installation = Installation::new();
    let token = good(installation.with_config(&["token", "create", "--principal", "t", "--role", "admin"]));
    let enrolment = good(installation.with_config(&[
        "enrolment-token",
        "create",
        "--tags",
        "site=graz,line=1",
        "--group",
        "g",
    ]));
    let enrolment = enrolment.trim().parse().unwrap();

    let mut process = installation.run();
    let hub = process.client(&token);
    let from = hub.deployments(None).await.unwrap().revision;
    let key = new_key();
    let hub_id = iot_hub::ca::CaFiles::load(&ca_dir(installation.path()))
        .unwrap()
        .hub;
    let port = |process: &Process| HubPort {
        address: process.device,
        hub: hub_id,
        anchors: process.anchors.clone(),
    };
    let answer = port(&process)
        .enrol(&request(&enrolment, &key, Some("d1")))
        .await
        .unwrap();
    hub.put_deployment(&deployment("u1", "*")).await.unwrap();
    let before = hub.deployments(None).await.unwrap();
    let device = hub.device(&answer.device).await.unwrap();
    assert_eq!(
        (device.tags["site"].as_str(), device.group.as_str()),
        ("graz", "g")
    );
    process.signal(Signal::SIGKILL);
    process.child.wait().unwrap();

    let process = installation.run();
    let hub = process.client(&token);
    let after = hub.deployments(None).await.unwrap();
    assert_eq!(after.items[0].spec, before.items[0].spec);
    assert_eq!(after.items[0].revision, before.items[0].revision);
    assert!(after.revision >= before.revision);
    assert_eq!(
        hub.device(&answer.device).await.unwrap().enrolment,
        answer.enrolment
    );
    assert_eq!(
        port(&process)
            .enrol(&request(&enrolment, &key, None))
            .await
            .unwrap(),
        answer
    );
    let mut watch = hub.watch(from);
    within("the replay", async {
        while let Some(event) = watch.next().await {
            if matches!(event.unwrap().change, Change::Deployment { deployment } if deployment.spec.uid == uid("u1")) {
                break;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_dies_before_its_commit_never_happened_and_one_after_it_did() {
    for (point, expect) in [("before-commit", 0), ("after-commit", 1)] {
        let installation = Installation::new();
        let token =
            good(installation.with_config(&["token", "create", "--principal", "t", "--role", "admin"]));
        // The first commit is the new incarnation's; the second is the call's.
        installation.configure(&format!("[fail]\npoint = \"{point}\"\nhits = 2\n"));
        let mut process = installation.run();
        process
            .client(&token)
            .put_deployment(&deployment("u1", "*"))
            .await
            .unwrap_err();
        process.child.wait().unwrap();
        installation.configure("");
        let process = installation.run();
        assert_eq!(
            process
                .client(&token)
                .deployments(None)
                .await
                .unwrap()
                .items
                .len(),
            expect,
            "{point}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_cleanly_with_a_watch_open() {
    let installation = Installation::new();
    let token = good(installation.with_config(&["token", "create", "--principal", "t", "--role", "viewer"]));
    let mut process = installation.run();
    let mut watch = process.client(&token).watch(iot_hub_client::api::Revision(0));
    within("the watch", watch.next()).await.unwrap().unwrap();
    process.signal(Signal::SIGTERM);
    let status = within(
        "the end",
        tokio::task::spawn_blocking(move || process.child.wait().unwrap()),
    )
    .await
    .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn commands_say_what_is_wrong() {
    let installation = Installation::new();
    good(installation.with_config(&["check-config"]));
    assert!(good(command(&["version"])).contains(env!("CARGO_PKG_VERSION")));
    assert!(good(command(&["--help"])).contains("Examples:"));
    let refused = |output: Output, expect: &str| {
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(expect), "{text}");
    };
    let again = command(&[
        "ca",
        "init",
        "--dir",
        ca_dir(installation.path()).to_str().unwrap(),
    ]);
    refused(again, "root.key");
    let token = [
        "token",
        "create",
        "--principal",
        "t",
        "--role",
        "provider",
        "--devices",
        "tags.a =",
    ];
    refused(installation.with_config(&token), "not a target condition");
    refused(
        installation.with_config(&["enrolment-token", "create", "--uses", "0"]),
        "uses",
    );
    installation.configure("[unknown]\nx = 1\n");
    refused(
        installation.with_config(&["check-config"]),
        "unknown field `unknown`",
    );
}

#[test]
fn two_hubs_never_share_a_store() {
    let installation = Installation::new();
    let _first = installation.run();
    let second = installation.with_config(&["run"]);
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && text.contains("another hub"), "{text}");
}
