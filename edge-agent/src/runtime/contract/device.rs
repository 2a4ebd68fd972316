//! A machine to run the contract on.

use std::fs;
use std::path::{Path, PathBuf};

use edge_agent_cri::CriOptions;

use super::containerd::{Containerd, eventually};
use crate::objects::Objects;
use crate::options::LogOptions;
use crate::runtime::names::Resolver;
use crate::runtime::policy::Policy;
use crate::runtime::{CriRuntime, CriRuntimeOptions};
use edge_protocol::v1::Amounts;

/// The machine's memory, as OOM scores are computed from it here.
const CAPACITY: u64 = 4 << 30;

/// A machine with one containerd, for one agent or several.
pub struct Device {
    pub containerd: Containerd,
    pub objects: Objects,
    pub log_options: LogOptions,
}

impl Device {
    pub async fn start() -> Self {
        Self {
            containerd: Containerd::start().await,
            objects: Objects::default(),
            log_options: LogOptions::default(),
        }
    }

    /// Where the agent keeps its workloads' files.
    pub fn pods(&self, agent: &str) -> PathBuf {
        self.containerd.scratch().join(format!("{agent}-pods"))
    }

    pub fn logs(&self, agent: &str) -> PathBuf {
        self.containerd.scratch().join(format!("{agent}-logs"))
    }

    /// A new process's view: nothing is remembered from an earlier call.
    pub fn runtime(&self, agent: &str) -> CriRuntime {
        CriRuntime::new(CriRuntimeOptions {
            cri: CriOptions::new(self.containerd.socket()),
            agent: agent.parse().expect("a good id"),
            cgroup_root: self.cgroup_root(agent),
            cgroup_mount: "/sys/fs/cgroup".into(),
            log_root: self.logs(agent),
            logs: self.log_options,
            capacity: Amounts {
                memory_bytes: CAPACITY,
                ..Amounts::default()
            },
            pods: self.pods(agent),
            objects: self.objects.clone(),
            resolver: Resolver {
                resolv_conf: Some("/etc/resolv.conf".into()),
                ..Resolver::default()
            },
            seccomp_dir: self.containerd.scratch().join("seccomp"),
            policy: Policy {
                forbid_host_pid: true,
                ..Policy::default()
            },
        })
    }

    pub fn cgroup_root(&self, agent: &str) -> String {
        format!("{}/{agent}", self.containerd.cgroup())
    }
}

/// Waits until a log has a line that contains `text`.
pub async fn logged(log: &Path, text: &str) {
    eventually("the line is logged", async || {
        fs::read_to_string(log)
            .is_ok_and(|log| log.contains(text))
            .then_some(())
    })
    .await;
}
