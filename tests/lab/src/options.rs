//! What a lab shall consist of.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A lab to start. `..LabOptions::in_directory(path)` fills what is not named.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Where all of the lab lives: state file, logs, data. Created; must not hold a lab.
    pub directory: PathBuf,
    /// Without it no control plane is started, as when tests share one.
    pub control_plane: Option<ControlPlaneOptions>,
    /// Started side by side. With none, no registry is started either.
    pub devices: Vec<DeviceOptions>,
    /// Where sources and caches are.
    pub paths: Paths,
}

impl LabOptions {
    /// An empty lab in `directory`.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            control_plane: None,
            devices: Vec::new(),
            paths: Paths::default(),
        }
    }
}

/// The repository and the cache that labs share.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Root of the repository.
    pub workspace: PathBuf,
    /// Built binaries, by default `target/outrigger/cache`; locks in it order concurrent builds.
    pub cache: PathBuf,
}

impl Default for Paths {
    /// The repository that this crate was compiled in.
    fn default() -> Self {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .expect("the crate lies two levels deep");
        Self {
            workspace: workspace.to_owned(),
            cache: workspace.join("target/outrigger/cache"),
        }
    }
}

/// How the control plane is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct ControlPlaneOptions {
    pub times: Times,
    pub always_ready_node: AlwaysReadyNode,
}

/// How soon the cluster reacts to a silent node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// Kubernetes' defaults: 50 s until a silent node is not ready, 300 s until its pods are evicted.
    #[default]
    Normal,
    /// 8 s and 5 s, so that a test sees the worst reactions.
    Short,
}

/// Whether one Node object without a machine is kept Ready. Only with a Ready node in the cluster does the node controller evict pods from
/// the silent ones. It carries the label `lab=always-ready` and the taint `lab=always-ready:NoSchedule`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlwaysReadyNode {
    #[default]
    Kept,
    Absent,
}

/// A device to start.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// Letters `a-z`, digits and `-`, at most 40, unique within the lab.
    pub name: String,
    pub pod_subnet: PodSubnet,
}

impl DeviceOptions {
    /// A device with a pod subnet of its own.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            pod_subnet: PodSubnet::Routed,
        }
    }

    /// `device-1` to `device-<count>`.
    pub fn numbered(count: usize) -> Vec<Self> {
        (1..=count)
            .map(|number| Self::named(format!("device-{number}")))
            .collect()
    }
}

/// Where the device's pods get their addresses from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodSubnet {
    /// A range that no other device on the machine has; the machine reaches these pods directly.
    #[default]
    Routed,
    /// This IPv4 range (`10.88.0.0/24`), which other devices may use as well; these pods are reached through host ports only.
    Private(String),
}
