//! The cgroup of each pod: `<root>[/<qos>]/pod<uid>`, as the kubelet lays them out with the cgroupfs driver.
//!
//! The runtime makes the containers' cgroups below it. Only the pod's own level, with its limits, is made and removed
//! here. All calls are a handful of small writes to kernel files, and may block as long as the kernel does.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edge_agent_core::step::SandboxSpec;
use edge_protocol::PodUid;
use edge_protocol::v1::QosClass;

use super::resources::{CPU_PERIOD_US, cpu_quota_us, cpu_shares, cpu_weight};

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

/// The place of all pods' cgroups.
#[derive(Debug, Clone)]
pub struct Cgroups {
    mount: PathBuf,
    root: String,
    version: Version,
}

impl Cgroups {
    /// `mount` is where the kernel's cgroups are mounted, normally `/sys/fs/cgroup`; `root` the cgroup below which all
    /// pods go, such as `/outrigger`. It must be this agent's alone.
    pub fn new(mount: impl Into<PathBuf>, root: &str) -> Self {
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

    /// Makes the pod's cgroup, or finds it, and sets its limits. Idempotent. Gives its path for CRI.
    ///
    /// # Errors
    /// Names the file; nothing is undone, the next call goes on from there.
    pub fn ensure_pod(&self, spec: &SandboxSpec) -> Result<String, CgroupError> {
        let pod = self.pod(spec.qos, &spec.uid);
        match self.version {
            Version::V1 => self.ensure_v1(&pod, spec)?,
            Version::V2 => self.ensure_v2(&pod, spec)?,
        }
        Ok(pod)
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
        Ok(())
    }

    /// How many processes a pod's container has; none where it has no cgroup.
    pub fn processes(&self, uid: &PodUid, container_id: &str) -> u64 {
        let hierarchy = match self.version {
            Version::V1 => self.mount.join("cpu"),
            Version::V2 => self.mount.clone(),
        };
        let classes = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];
        let lists = classes.map(|qos| {
            let pod = hierarchy.join(self.pod(qos, uid).trim_start_matches('/'));
            fs::read_to_string(pod.join(container_id).join("cgroup.procs"))
        });
        let list = lists.into_iter().find_map(Result::ok);
        list.map_or(0, |list| list.lines().count() as u64)
    }

    fn ensure_v1(&self, pod: &str, spec: &SandboxSpec) -> Result<(), CgroupError> {
        let cpu = self.mount.join("cpu").join(pod.trim_start_matches('/'));
        let memory = self.mount.join("memory").join(pod.trim_start_matches('/'));
        for directory in [&cpu, &memory] {
            fs::create_dir_all(directory).map_err(at(directory))?;
        }
        if let (QosClass::BestEffort, Some(class)) = (spec.qos, cpu.parent()) {
            // All best-effort pods together yield to everything else.
            write(&class.join("cpu.shares"), cpu_shares(0))?;
        }
        write(&cpu.join("cpu.shares"), cpu_shares(spec.cpu_request_milli))?;
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
        if let (QosClass::BestEffort, Some(class)) = (spec.qos, directory.parent()) {
            write(&class.join("cpu.weight"), cpu_weight(cpu_shares(0)))?;
        }
        write(
            &directory.join("cpu.weight"),
            cpu_weight(cpu_shares(spec.cpu_request_milli)),
        )?;
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
mod tests {
    use std::collections::BTreeMap;

    use edge_protocol::v1::{Manifest, VERSION, WorkloadSpec};

    use super::*;

    /// A directory that looks like a cgroup v2 mount as far as we read it. What the kernel would refuse it takes.
    fn unified() -> (tempfile::TempDir, Cgroups, SandboxSpec) {
        let mount = tempfile::tempdir().unwrap();
        let spec = SandboxSpec {
            uid: "uid-1".parse().unwrap(),
            namespace: "default".into(),
            name: "web".into(),
            attempt: 0,
            hostname: "web".into(),
            qos: QosClass::Burstable,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            ports: Vec::new(),
            manifest: std::sync::Arc::new(Manifest {
                v: VERSION,
                uid: "uid-1".parse().unwrap(),
                namespace: "default".into(),
                name: "web".into(),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                workload: WorkloadSpec::new("web", Vec::new()),
                objects: Vec::new(),
                requires: Vec::new(),
                replaces: Vec::new(),
            }),
            cpu_request_milli: 1000,
            cpu_limit_milli: Some(1500),
            memory_limit_bytes: None,
        };
        for level in ["", "agent", "agent/burstable", "agent/burstable/poduid-1"] {
            let directory = mount.path().join(level);
            fs::create_dir_all(&directory).unwrap();
            fs::write(
                directory.join("cgroup.controllers"),
                "cpuset cpu io memory hugetlb pids\n",
            )
            .unwrap();
        }
        let cgroups = Cgroups::new(mount.path(), "/agent");
        (mount, cgroups, spec)
    }

    #[test]
    fn a_unified_hierarchy_gets_weights_and_maxima() {
        let (mount, cgroups, spec) = unified();
        assert!(cgroups.is_v2());
        assert_eq!(cgroups.ensure_pod(&spec).unwrap(), "/agent/burstable/poduid-1");
        let read = |file: &str| fs::read_to_string(mount.path().join(file)).unwrap();
        for level in ["", "agent/", "agent/burstable/", "agent/burstable/poduid-1/"] {
            let delegated = read(&format!("{level}cgroup.subtree_control"));
            assert_eq!(delegated, "+cpuset +cpu +io +memory +pids", "{level}");
        }
        assert_eq!(read("agent/burstable/poduid-1/cpu.weight"), "39");
        assert_eq!(read("agent/burstable/poduid-1/cpu.max"), "150000 100000");
        assert_eq!(read("agent/burstable/poduid-1/memory.max"), "max");
    }

    #[test]
    fn processes_of_a_container_are_counted_whatever_its_class() {
        let (mount, cgroups, _) = unified();
        let container = mount.path().join("agent/burstable/poduid-1/c1");
        fs::create_dir(&container).unwrap();
        fs::write(container.join("cgroup.procs"), "17\n18\n4711\n").unwrap();
        let uid: PodUid = "uid-1".parse().unwrap();
        assert_eq!(cgroups.processes(&uid, "c1"), 3);
        assert_eq!(cgroups.processes(&uid, "c2"), 0);
    }

    #[test]
    fn a_failure_names_the_file() {
        let (mount, cgroups, spec) = unified();
        let missing = mount.path().join("agent/cgroup.controllers");
        fs::remove_file(&missing).unwrap();
        let error = cgroups.ensure_pod(&spec).unwrap_err();
        assert_eq!(error.path, missing);
    }

    #[test]
    fn pods_stand_where_the_kubelet_has_them() {
        let cgroups = Cgroups::new("/nowhere", "agent/");
        let uid: PodUid = "u".parse().unwrap();
        for (qos, expect) in [
            (QosClass::Guaranteed, "/agent/podu"),
            (QosClass::Burstable, "/agent/burstable/podu"),
            (QosClass::BestEffort, "/agent/besteffort/podu"),
        ] {
            assert_eq!(cgroups.pod(qos, &uid), expect);
        }
    }
}
