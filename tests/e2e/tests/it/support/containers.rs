//! What really runs on the devices: asked from each containerd, with pid and start time as the kernel has them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lab::Device;
use serde_json::Value;

use super::{TestSite, eventually, is_ready, uid};

/// One running container of a pod. Two that are equal are the very same process, never restarted in between.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    pub device: String,
    pub agent: String,
    pub pod: String,
    pub uid: String,
    pub container: String,
    pub id: String,
    pub pid: i32,
    /// Clock ticks after boot.
    pub started: u64,
}

impl Instance {
    /// A file as the container sees it; empty when there is none.
    pub fn file(&self, path: &str) -> String {
        let path = format!("/proc/{}/root{path}", self.pid);
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// A variable that it was started with; empty when there is none.
    pub fn variable(&self, name: &str) -> String {
        let environment = std::fs::read(format!("/proc/{}/environ", self.pid)).unwrap();
        let text = String::from_utf8_lossy(&environment).into_owned();
        let mut found = text
            .split('\0')
            .filter_map(|line| line.split_once('='))
            .filter_map(|(known, value)| (known == name).then_some(value));
        found.next().unwrap_or_default().to_owned()
    }
}

/// A set of containers, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instances(pub BTreeSet<Instance>);

impl Instances {
    /// Those of one pod.
    pub fn of_pod(&self, uid: &str) -> Self {
        self.filtered(|instance| instance.uid == uid)
    }

    /// Those of all pods whose names begin like this, as a Deployment's do.
    pub fn of_app(&self, app: &str) -> Self {
        self.filtered(|instance| instance.pod == app || instance.pod.starts_with(&format!("{app}-")))
    }

    pub fn on(&self, device: &str) -> Self {
        self.filtered(|instance| instance.device == device)
    }

    pub fn of_agent(&self, agent: &str) -> Self {
        self.filtered(|instance| instance.agent == agent)
    }

    /// Whether every one of these processes is alive, by the kernel's word alone: for times at which no containerd can be asked.
    pub fn are_alive(&self) -> bool {
        self.0
            .iter()
            .all(|instance| started(instance.pid) == Some(instance.started))
    }

    /// How many there are on each device that has any.
    pub fn per_device(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for instance in &self.0 {
            *counts.entry(instance.device.as_str()).or_default() += 1;
        }
        counts
    }

    /// Whether these devices, and no others, run this many containers each.
    pub fn are_on(&self, devices: &[&str], each: usize) -> Result<(), String> {
        let expected: BTreeMap<&str, usize> = devices.iter().map(|device| (*device, each)).collect();
        if self.per_device() == expected {
            Ok(())
        } else {
            Err(format!("{:?}", self.per_device()))
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn filtered(&self, belongs: impl Fn(&Instance) -> bool) -> Self {
        Self(
            self.0
                .iter()
                .filter(|instance| belongs(instance))
                .cloned()
                .collect(),
        )
    }
}

impl TestSite {
    /// All running containers of pods on all devices, the sandboxes' own left out.
    #[track_caller]
    pub fn containers(&self) -> Instances {
        let devices = self.lab().devices().unwrap();
        let found = devices.iter().flat_map(|device| self.containers_on(device));
        Instances(found.collect())
    }

    /// The one container of a pod, once the pod is Ready.
    #[track_caller]
    pub fn running(&self, name: &str) -> Instance {
        let pod = eventually(&format!("{name} is Ready"), || {
            let pod = self.pod(name).ok_or("no such pod")?;
            if is_ready(&pod) {
                Ok(pod)
            } else {
                Err(pod["status"].to_string())
            }
        });
        let containers = self.containers().of_pod(uid(&pod));
        assert_eq!(containers.0.len(), 1, "{containers:?}");
        containers.0.into_iter().next().unwrap()
    }

    fn containers_on(&self, device: &Device) -> Vec<Instance> {
        let tasks = device.ctr(["tasks", "ls"]).unwrap().stdout;
        let running = tasks.lines().skip(1).filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (id, pid, state) = (fields.next()?, fields.next()?, fields.next()?);
            (state == "RUNNING").then(|| Some((id.to_owned(), pid.parse().ok()?)))?
        });
        running
            .filter_map(|(id, pid)| {
                let labels = self.labels(device, &id)?;
                let label = |key: &str| {
                    labels[format!("io.kubernetes.{key}")]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned()
                };
                if labels["io.cri-containerd.kind"] != "container" {
                    return None;
                }
                Some(Instance {
                    device: device.name().to_owned(),
                    agent: labels["outrigger.io/agent"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                    pod: label("pod.name"),
                    uid: label("pod.uid"),
                    container: label("container.name"),
                    started: started(pid)?,
                    id,
                    pid,
                })
            })
            .collect()
    }

    /// The labels of a container never change, so they are asked for once. `None` when it is gone meanwhile.
    fn labels(&self, device: &Device, id: &str) -> Option<Value> {
        if let Some(known) = self.labels.borrow().get(id) {
            return Some(known.clone());
        }
        let info = device.ctr(["containers", "info", id]).ok()?;
        let mut info: Value = serde_json::from_str(&info.stdout).ok()?;
        let labels = info["Labels"].take();
        self.labels.borrow_mut().insert(id.to_owned(), labels.clone());
        Some(labels)
    }

    /// What is left of workloads on a device: in the runtime, in the cgroup file system, among the mounts.
    #[track_caller]
    pub fn leftovers(&self, device: &str) -> Vec<String> {
        let device = self.device(device).unwrap();
        let mut left = Vec::new();
        for kind in ["containers", "tasks", "leases"] {
            let names = device.ctr([kind, "ls", "-q"]).unwrap().stdout;
            left.extend(names.lines().map(|name| format!("{kind}: {name}")));
        }
        let snapshots = device.ctr(["snapshots", "ls"]).unwrap().stdout;
        let writable = snapshots
            .lines()
            .filter(|line| line.trim_end().ends_with("Active"));
        left.extend(writable.map(|line| format!("snapshot: {line}")));
        left.extend(cgroups(&device.cgroup_parent()));
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let below = device.directory().display().to_string();
        let mounted = mounts.lines().filter(|line| line.contains(&below));
        left.extend(mounted.map(|line| format!("mount: {line}")));
        left
    }
}

/// The cgroups of pods below a device's own, of all controllers: `/sys/fs/cgroup/<controller>` or, with version 2, `/sys/fs/cgroup` itself.
/// Those of the quality-of-service classes stay, as a kubelet's do.
fn cgroups(parent: &str) -> Vec<String> {
    let root = Path::new("/sys/fs/cgroup");
    let parent = parent.trim_start_matches('/');
    let controllers = directories(root).into_iter().chain([root.to_owned()]);
    let homes = controllers.map(|controller| controller.join(parent));
    let below = homes.flat_map(|home| [home.join("burstable"), home.join("besteffort"), home]);
    below
        .flat_map(|home| directories(&home))
        .filter(|path| !path.ends_with("burstable") && !path.ends_with("besteffort"))
        .map(|path| format!("cgroup: {}", path.display()))
        .collect()
}

/// Empty when there is no such directory.
fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Field 22 of `/proc/<pid>/stat` (proc(5)); the command's name may hold anything, so fields count from the last `)`.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(22 - 3)?.parse().ok()
}
