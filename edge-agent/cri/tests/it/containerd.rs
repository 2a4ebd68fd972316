//! A private containerd for one test: own directories, socket, network, mounts and process ids.
//!
//! It runs as a child of the first process of a pid namespace, together with its shims and their containers. Killing
//! that one process ends all of them, whatever state they are in, and with the last process the kernel takes the network
//! and mounts away. What remains, cgroups and files, is removed on drop. Needs root, containerd, runc, util-linux,
//! iproute2 and the CNI plugins.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use edge_agent_cri::{CriClient, CriOptions};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::archive::busybox_image;

/// The image that every instance has: busybox with a shell.
pub const BUSYBOX: &str = "outrigger.test/busybox:1";
const PAUSE: &str = "outrigger.test/pause:1";

/// Runs inside the new namespaces; `$1` is the configuration. The loop is what a service supervisor does, so that a
/// test may kill containerd and find its shims alive. `/run` is covered because shims keep sockets there.
const INIT: &str = "set -e
mount -t tmpfs tmpfs /run
mkdir -p /var/lib/cni
mount -t tmpfs tmpfs /var/lib/cni
ip link set lo up
set +e
while :; do containerd --config \"$1\"; sleep 0.1; done";

/// A running containerd; ends with all its containers on drop.
pub struct Containerd {
    outer: Child,
    cgroup: String,
    directory: TempDir,
}

impl Containerd {
    /// Starts one that is ready and has the images of [`BUSYBOX`] and of sandboxes.
    pub async fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("outrigger-cri-")
            .tempdir()
            .unwrap();
        let root = directory.path();
        share_mounts_below(root);
        fs::create_dir(root.join("cni")).unwrap();
        fs::write(root.join("cni/10-test.conflist"), network(root)).unwrap();
        fs::write(root.join("config.toml"), configuration(root)).unwrap();
        let log = File::create(root.join("containerd.log")).unwrap();
        let outer = Command::new("setpriv")
            // The death signal covers a test process that is killed and cannot run its drops.
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--propagation",
                "unchanged",
                "--kill-child=KILL",
            ])
            .args(["--mount-proc", "sh", "-c", INIT, "sh"])
            .arg(root.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let name = root.file_name().unwrap().to_str().unwrap();
        let this = Self {
            outer,
            cgroup: format!("/{name}"),
            directory,
        };
        this.ready().await;
        this.import(BUSYBOX, &["sh"]).await;
        this.import(PAUSE, &["sleep", "2147483647"]).await;
        this
    }

    pub fn client(&self) -> CriClient {
        CriClient::new(CriOptions::new(self.socket()))
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("containerd.sock")
    }

    /// A directory for the test's own files, on the same file system.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// A cgroup of this instance's own, as a cgroup path. Everything below it is removed on drop.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Waits until the runtime and its network say that they are ready.
    pub async fn ready(&self) {
        let client = self.client();
        eventually("containerd is ready", async || {
            let conditions = client.status().await.ok()?.status?.conditions;
            conditions.iter().all(|condition| condition.status).then_some(())
        })
        .await;
    }

    /// Loads an image made by code and waits until CRI shows it.
    pub async fn import(&self, reference: &str, command: &[&str]) {
        let file = self.directory.path().join("image.tar");
        fs::write(&file, busybox_image(reference, command)).unwrap();
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let client = self.client();
        eventually("the image is listed", async || {
            client.image_status(reference).await.ok()?
        })
        .await;
    }

    /// Kills containerd alone. Its shims and containers go on, and it is started again at once.
    #[allow(dead_code, reason = "the suites that include this file do not all need it")]
    pub fn kill_daemon(&self) {
        let daemon = children(self.init())
            .into_iter()
            .find(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "containerd\n")
            })
            .expect("containerd runs");
        kill(daemon).unwrap();
    }

    /// Runs a program in the network that the sandboxes are attached to, and gives what it printed.
    #[allow(dead_code, reason = "the suites that include this file do not all need it")]
    pub fn in_network(&self, command: &[&str]) -> io::Result<String> {
        let output = Command::new("nsenter")
            .args(["--net", "--target", &self.init().to_string()])
            .args(command)
            .stdin(Stdio::null())
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Takes this thread into that network, where an agent of this device would be: the runtime serves streams on its loopback.
    #[allow(dead_code, reason = "the suites that include this file do not all need it")]
    pub fn enter_network(&self) {
        let network = File::open(format!("/proc/{}/ns/net", self.init())).unwrap();
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// The first process of the namespaces, by its id out here.
    fn init(&self) -> u32 {
        *children(self.outer.id()).first().expect("unshare has forked")
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("containerd.log"));
            eprintln!("--- containerd.log ---\n{}", log.unwrap_or_default());
        }
        let init = children(self.outer.id());
        for pid in init {
            // One that is gone already needs no end.
            let _ = kill(pid);
        }
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !removed_cgroups(&self.cgroup) && Instant::now() < deadline {
            // Cgroups stay busy until the kernel has buried the last process.
            std::thread::sleep(Duration::from_millis(20));
        }
        // Or the directory could not be removed.
        let _ = umount2(self.directory.path(), MntFlags::MNT_DETACH);
    }
}

/// Gives this thread, and those that it starts, mounts of their own, of which containerd shares those below `root`, as on a device: either
/// sees what the other mounts there. They go with the last of their processes.
fn share_mounts_below(root: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some(root), root, none, MsFlags::MS_BIND, none).unwrap();
    mount(none, root, none, MsFlags::MS_SHARED, none).unwrap();
}

/// Asks until there is an answer, for at most 30 seconds.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn configuration(root: &Path) -> String {
    let root = root.display();
    format!(
        r#"version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
address = "{root}/containerd.sock"
[debug]
level = "warn"
[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
netns_mounts_under_state_dir = true
sandbox_image = "{PAUSE}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{root}/cni"
"#
    )
}

fn network(root: &Path) -> String {
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "test",
        "plugins": [
            {
                "type": "bridge", "bridge": "outrigger0", "isGateway": true,
                "ipam": {
                    "type": "host-local", "dataDir": root.join("ipam"),
                    "ranges": [[{"subnet": "10.99.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// Removes a cgroup with all below it from every hierarchy; false when something still runs there.
fn removed_cgroups(cgroup: &str) -> bool {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let mut roots: Vec<PathBuf> = hierarchies
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    // On a pure cgroup v2 machine the one hierarchy is the directory itself.
    roots.push(PathBuf::from("/sys/fs/cgroup"));
    roots
        .iter()
        .all(|root| removed_tree(&root.join(cgroup.trim_start_matches('/'))))
}

fn removed_tree(directory: &Path) -> bool {
    let below = fs::read_dir(directory).into_iter().flatten().flatten();
    let below_gone = below
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .all(|entry| removed_tree(&entry.path()));
    below_gone && (fs::remove_dir(directory).is_ok() || !directory.exists())
}

fn kill(pid: u32) -> nix::Result<()> {
    signal::kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)
}
