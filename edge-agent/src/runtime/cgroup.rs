//! The cgroup of each pod: `<root>[/<qos>]/pod<uid>`, as the kubelet lays them out with the cgroupfs driver.
//!
//! The runtime makes the containers' cgroups below it. Only the pod's own level, with its limits, is made and removed
//! here, and what the classes weigh (`classes`) follows it. What each of them uses is read in `figures`. All calls are a handful of small writes to kernel files, and may block as long as the kernel does.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edge_agent_core::step::SandboxSpec;
use edge_protocol::PodUid;
use edge_protocol::v1::QosClass;

use super::resources::{CPU_PERIOD_US, cpu_quota_us, cpu_shares, cpu_weight};
use classes::Requests;

mod classes;
mod figures;

pub use figures::Figures;

/// The controllers whose limits we or the runtime set, by their names in cgroup v2.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// How long a cgroup may stay busy after its last process was killed.
const BURIAL: Duration = Duration::from_secs(2);

/// A kernel file or directory could not be read, made, written or removed.
#[derive(Debug, thiserror::Error)]
#[error("cgroup {path}")]
pub struct CgroupError {
    pub path: PathBuf,
    #[source]
    source: io::Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// One hierarchy per controller, each a directory of the mount.
    V1,
    /// The mount is the one hierarchy.
    V2,
}

/// What a cgroup has of memory, and what it may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Absent where there is no such cgroup.
    pub used_bytes: Option<u64>,
    /// Absent, or far more than there is, where nothing bounds it.
    pub limit_bytes: Option<u64>,
}

/// The place of all pods' cgroups.
#[derive(Debug, Clone)]
pub struct Cgroups {
    mount: PathBuf,
    root: String,
    version: Version,
    requests: Requests,
}

impl Cgroups {
    /// `mount` is where the kernel's cgroups are mounted, normally `/sys/fs/cgroup`; `root` the cgroup below which all
    /// pods go, such as `/outrigger`. It must be this agent's alone, as must `pods`, the directory of all workloads' files.
    pub fn new(mount: impl Into<PathBuf>, root: &str, pods: impl Into<PathBuf>) -> Self {
        let mount = mount.into();
        let version = if mount.join("cgroup.controllers").exists() {
            Version::V2
        } else {
            Version::V1
        };
        Self {
            mount,
            root: format!("/{}", root.trim_matches('/')),
            version,
            requests: Requests::new(pods),
        }
    }

    /// The cgroup of one pod, as CRI wants it: absolute, counted from the mount.
    pub fn pod(&self, qos: QosClass, uid: &PodUid) -> String {
        match class_directory(qos) {
            Some(class) => format!("{}/{class}/pod{uid}", self.root),
            None => format!("{}/pod{uid}", self.root),
        }
    }

    /// Whether containers can be denied swap.
    pub fn limits_swap(&self) -> bool {
        match self.version {
            Version::V1 => self.mount.join("memory/memory.memsw.limit_in_bytes").exists(),
            // The root of all cgroups has no such file, so the agent's own is asked; it exists once a pod does.
            Version::V2 => self.directory(&self.root).join("memory.swap.max").exists(),
        }
    }

    pub fn is_v2(&self) -> bool {
        self.version == Version::V2
    }

    /// Makes the pod's cgroup, or finds it, and sets its limits; its class weighs what it requests from now on. Idempotent. Gives its path for
    /// CRI.
    ///
    /// # Errors
    /// Names the file; nothing is undone, the next call goes on from there.
    pub fn ensure_pod(&self, spec: &SandboxSpec) -> Result<String, CgroupError> {
        let pod = self.pod(spec.qos, &spec.uid);
        match self.version {
            Version::V1 => self.ensure_v1(&pod, spec)?,
            Version::V2 => self.ensure_v2(&pod, spec)?,
        }
        self.weigh(spec.qos, Some((&spec.uid, spec.cpu_request_milli)));
        Ok(pod)
    }

    /// Its class need not weigh any more what a pod requests whose processes have ended. Idempotent.
    pub fn end_pod(&self, uid: &PodUid) {
        let pod = self.pod(QosClass::Burstable, uid);
        if self.cpu_directory(&pod).exists() {
            self.weigh(QosClass::Burstable, Some((uid, 0)));
        }
    }

    /// Removes the pod's cgroup and whatever is left below it, in every class. Idempotent. Waits a moment for
    /// processes that were just killed.
    ///
    /// # Errors
    /// Something still runs in it.
    pub fn remove_pod(&self, uid: &PodUid) -> Result<(), CgroupError> {
        let deadline = Instant::now() + BURIAL;
        for hierarchy in self.hierarchies()? {
            for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
                let pod = hierarchy.join(self.pod(qos, uid).trim_start_matches('/'));
                remove_tree(&pod, deadline)?;
            }
        }
        self.weigh(QosClass::Burstable, None);
        Ok(())
    }

    /// How many processes a pod's container has; none where it has no cgroup.
    pub fn processes(&self, uid: &PodUid, container_id: &str) -> u64 {
        let classes = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];
        let lists = classes.map(|qos| {
            let pod = self.cpu_directory(&self.pod(qos, uid));
            fs::read_to_string(pod.join(container_id).join("cgroup.procs"))
        });
        let list = lists.into_iter().find_map(Result::ok);
        list.map_or(0, |list| list.lines().count() as u64)
    }

    /// The memory of a pod, or of one of its containers.
    pub fn memory(&self, spec: &SandboxSpec, container_id: Option<&str>) -> Memory {
        let pod = self.pod(spec.qos, &spec.uid);
        let (mut directory, used, limit) = match self.version {
            Version::V1 => (
                self.mount.join("memory").join(pod.trim_start_matches('/')),
                "memory.usage_in_bytes",
                "memory.limit_in_bytes",
            ),
            Version::V2 => (self.directory(&pod), "memory.current", "memory.max"),
        };
        directory.extend(container_id);
        let read = |file: &str| {
            let text = fs::read_to_string(directory.join(file)).ok()?;
            text.trim().parse().ok()
        };
        Memory {
            used_bytes: read(used),
            limit_bytes: read(limit),
        }
    }

    fn ensure_v1(&self, pod: &str, spec: &SandboxSpec) -> Result<(), CgroupError> {
        let cpu = self.cpu_directory(pod);
        let memory = self.mount.join("memory").join(pod.trim_start_matches('/'));
        for directory in [&cpu, &memory] {
            fs::create_dir_all(directory).map_err(at(directory))?;
        }
        self.write_weight(&cpu, spec.cpu_request_milli)?;
        write(&cpu.join("cpu.cfs_period_us"), CPU_PERIOD_US)?;
        match spec.cpu_limit_milli.and_then(cpu_quota_us) {
            Some(quota) => write(&cpu.join("cpu.cfs_quota_us"), quota)?,
            None => write(&cpu.join("cpu.cfs_quota_us"), -1)?,
        }
        match spec.memory_limit_bytes {
            Some(bytes) => write(&memory.join("memory.limit_in_bytes"), bytes),
            None => write(&memory.join("memory.limit_in_bytes"), -1),
        }
    }

    fn ensure_v2(&self, pod: &str, spec: &SandboxSpec) -> Result<(), CgroupError> {
        let mut directory = self.mount.clone();
        for level in pod.trim_start_matches('/').split('/') {
            delegate(&directory)?;
            directory.push(level);
            fs::create_dir_all(&directory).map_err(at(&directory))?;
        }
        // The runtime's containers need the controllers below the pod, too.
        delegate(&directory)?;
        self.write_weight(&directory, spec.cpu_request_milli)?;
        let quota = spec
            .cpu_limit_milli
            .and_then(cpu_quota_us)
            .map_or("max".to_owned(), |us| us.to_string());
        write(&directory.join("cpu.max"), format!("{quota} {CPU_PERIOD_US}"))?;
        let memory = spec
            .memory_limit_bytes
            .map_or("max".to_owned(), |bytes| bytes.to_string());
        write(&directory.join("memory.max"), memory)
    }

    /// What a cgroup weighs against those beside it when there is not enough CPU for all.
    fn write_weight(&self, directory: &Path, request_milli: u64) -> Result<(), CgroupError> {
        let shares = cpu_shares(request_milli);
        match self.version {
            Version::V1 => write(&directory.join("cpu.shares"), shares),
            Version::V2 => write(&directory.join("cpu.weight"), cpu_weight(shares)),
        }
    }

    fn hierarchies(&self) -> Result<Vec<PathBuf>, CgroupError> {
        if self.version == Version::V2 {
            return Ok(vec![self.mount.clone()]);
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.mount).map_err(at(&self.mount))? {
            let path = entry.map_err(at(&self.mount))?.path();
            if path.is_dir() {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Where the CPU of a cgroup is dealt with.
    fn cpu_directory(&self, cgroup: &str) -> PathBuf {
        match self.version {
            Version::V1 => self.mount.join("cpu").join(cgroup.trim_start_matches('/')),
            Version::V2 => self.directory(cgroup),
        }
    }

    fn directory(&self, cgroup: &str) -> PathBuf {
        self.mount.join(cgroup.trim_start_matches('/'))
    }
}

/// Guaranteed pods stand directly below the root, as the kubelet has them.
fn class_directory(qos: QosClass) -> Option<&'static str> {
    match qos {
        QosClass::Guaranteed => None,
        QosClass::Burstable => Some("burstable"),
        QosClass::BestEffort => Some("besteffort"),
    }
}

/// Lets the children of a cgroup v2 directory use the controllers that it has itself.
fn delegate(directory: &Path) -> Result<(), CgroupError> {
    let controllers = directory.join("cgroup.controllers");
    let available = fs::read_to_string(&controllers).map_err(at(&controllers))?;
    let wanted: Vec<String> = available
        .split_whitespace()
        .filter(|name| V2_CONTROLLERS.contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    write(&directory.join("cgroup.subtree_control"), wanted.join(" "))
}

/// Removes a cgroup, children first. The kernel's files in it vanish with it; only directories need removing.
fn remove_tree(directory: &Path, deadline: Instant) -> Result<(), CgroupError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(at(directory))?,
    };
    for entry in entries {
        let entry = entry.map_err(at(directory))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path(), deadline)?;
        }
    }
    loop {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other.map_err(at(directory)),
        }
    }
}

fn write(path: &Path, value: impl Display) -> Result<(), CgroupError> {
    fs::write(path, format!("{value}")).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    move |source| CgroupError {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
