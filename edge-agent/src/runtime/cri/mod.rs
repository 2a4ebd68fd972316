//! [`CriRuntime`]: steps and observations over a CRI v1 runtime.
//!
//! - `labels`: how we know our own.
//! - `config`: descriptions of ours into CRI's.
//! - `security`: who processes are and what they may do, likewise.
//! - `files`: what of the agent's own files a container sees: volumes, `/etc/hosts`, the place of its last words.
//! - `last_words`: what it left there.
//! - `steps`: each step, to its end; `running`: those about a container that runs; `resize`: other resources for what runs.
//! - `images`: finding and pulling.
//! - `logs`: the files that containers log into, and how long they stay; `logging`: those of containers that the runtime has, told and rotated.
//! - `features`: what this runtime can beyond what all can.
//! - `usage`: what workloads use, and which images there are.
//! - `streams`: commands with their streams, and connections into a pod.
//! - `look`: a complete observation, and when to take the next.

mod addresses;
mod config;
mod features;
mod files;
mod images;
mod labels;
mod last_words;
mod logging;
mod logs;
mod look;
mod resize;
mod running;
mod security;
mod steps;
mod streams;
mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use edge_agent_core::ObservedImage;
use edge_agent_core::step::{Observed, Step, StepOutcome};
use edge_agent_core::usage::WorkloadUsage;
use edge_agent_cri::{CriClient, CriError, CriOptions, Disposition};
use edge_protocol::v1::{Amounts, HeldImage};
use edge_protocol::{DeviceId, PodUid};
use tokio::sync::Notify;

use super::cgroup::Cgroups;
use super::logs::Watcher;
use super::names::Resolver;
use super::policy::Policy;
use super::volumes::Volumes;
use super::{ContainerRuntime, ObserveError};
use crate::host;
use crate::objects::Objects;
use crate::options::{LogOptions, RuntimeOptions};
use config::Settings;
use features::Features;
pub use logging::{LogTarget, OpenLog};
use look::Seen;
pub use streams::StreamFault;

pub use usage::{Disks, Taken, WorkloadDisks};

/// What a [`CriRuntime`] needs to know.
#[derive(Debug, Clone)]
pub struct CriRuntimeOptions {
    pub cri: CriOptions,
    /// Who we are: what carries another id in its label is not ours.
    pub agent: DeviceId,
    /// The parent of all pods' cgroups, such as `/outrigger`; this agent's alone. The runtime must use the cgroupfs driver.
    pub cgroup_root: String,
    /// Where the kernel's cgroups are mounted, normally `/sys/fs/cgroup`.
    pub cgroup_mount: PathBuf,
    /// The directory of all workloads' logs; this agent's alone.
    pub log_root: PathBuf,
    pub logs: LogOptions,
    /// What the device has; OOM scores are relative to its memory.
    pub capacity: Amounts,
    /// Where workloads' volumes and files are kept; this agent's alone.
    pub pods: PathBuf,
    /// What variables and files are made from.
    pub objects: Objects,
    pub resolver: Resolver,
    /// The directory of `Localhost` seccomp profiles.
    pub seccomp_dir: PathBuf,
    /// What is refused before anything is made.
    pub policy: Policy,
}

/// The real runtime. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct CriRuntime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: CriClient,
    settings: Settings,
    objects: Objects,
    policy: Policy,
    logs: LogOptions,
    /// Made for the first log that is followed; absent where the kernel has no more of them.
    watcher: OnceLock<Option<Watcher>>,
    seen: Mutex<Seen>,
    /// As last measured.
    disks: Mutex<Arc<Disks>>,
    /// A look has ended: whoever waits for the next one reckons anew when that is due.
    looked: Notify,
    features: Mutex<Option<Features>>,
}

/// The runtime at the configured socket cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("the container runtime does not answer as CRI v1 asks")]
    Cri(#[from] CriError),
}

impl CriRuntime {
    /// A handle to the runtime that the agent's options name. A runtime that is not up yet is no error: every call
    /// connects anew, so the agent may start before it.
    ///
    /// # Errors
    /// The socket's owner answers, but does not speak CRI v1.
    pub async fn connect(
        options: &RuntimeOptions,
        agent: &DeviceId,
        state_dir: &Path,
        objects: Objects,
    ) -> Result<Self, RuntimeError> {
        let RuntimeOptions {
            socket,
            cgroup_root,
            log_dir,
            logs,
            resolver,
            seccomp_dir,
            policy,
        } = options;
        let this = Self::new(CriRuntimeOptions {
            cri: CriOptions::new(socket),
            agent: agent.clone(),
            cgroup_root: cgroup_root.clone(),
            cgroup_mount: "/sys/fs/cgroup".into(),
            log_root: log_dir.clone(),
            logs: *logs,
            capacity: capacity(state_dir),
            pods: state_dir.join("pods"),
            objects,
            resolver: resolver.clone(),
            seccomp_dir: seccomp_dir.clone(),
            policy: policy.clone(),
        });
        match this.0.client.version().await {
            Err(error) if error.disposition() != Disposition::Retry => Err(error.into()),
            Ok(_) | Err(_) => Ok(this),
        }
    }

    /// The words of `edge_protocol::v1::ability` that this runtime can on this device. Needs no answer of the runtime's.
    pub fn abilities(&self) -> Vec<&'static str> {
        features::abilities()
    }

    /// Name and version of the runtime.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn version(&self) -> Result<(String, String), RuntimeError> {
        let version = self.0.client.version().await?;
        Ok((version.runtime_name, version.runtime_version))
    }

    /// Whether it can now keep a process to the groups that its pod names.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn keeps_to_groups(&self) -> Result<bool, RuntimeError> {
        Ok(self.0.ask_features().await?.strict_groups)
    }

    /// The images that the runtime has, in no order.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn held_images(&self) -> Result<Vec<HeldImage>, RuntimeError> {
        let images = self.0.client.list_images().await?;
        let held = images.into_iter().map(|image| HeldImage {
            names: image.repo_digests.into_iter().chain(image.repo_tags).collect(),
            size_bytes: image.size,
        });
        Ok(held.collect())
    }

    /// What every workload uses that has a running container, its volumes and logs included.
    ///
    /// # Errors
    /// The runtime does not answer.
    pub async fn workloads(&self) -> Result<Option<BTreeMap<PodUid, WorkloadUsage>>, RuntimeError> {
        Ok(self.0.workloads().await?)
    }

    /// What workloads and images take of the disks, as [`workloads`](Self::workloads) and [`images_directory`](Self::images_directory) last measured it.
    pub fn disks(&self) -> Arc<Disks> {
        Arc::clone(&self.0.disks())
    }

    /// The place of all pods' cgroups.
    pub fn cgroups(&self) -> &Cgroups {
        &self.0.settings.cgroups
    }

    /// A directory on the disk with the images, if the runtime names one.
    ///
    /// # Errors
    /// The runtime does not answer.
    pub async fn images_directory(&self) -> Result<Option<PathBuf>, RuntimeError> {
        Ok(self.0.images_directory().await?)
    }

    /// All images that the runtime has.
    ///
    /// # Errors
    /// The runtime does not answer.
    pub async fn images(&self) -> Result<Vec<ObservedImage>, RuntimeError> {
        Ok(self.0.images().await?)
    }

    /// A handle to the runtime; nothing is asked of it yet. Must be called inside a tokio runtime.
    pub fn new(options: CriRuntimeOptions) -> Self {
        let CriRuntimeOptions {
            cri,
            agent,
            cgroup_root,
            cgroup_mount,
            log_root,
            logs,
            capacity,
            pods,
            objects,
            resolver,
            seccomp_dir,
            policy,
        } = options;
        let cgroups = Cgroups::new(cgroup_mount, &cgroup_root, &pods);
        Self(Arc::new(Inner {
            client: CriClient::new(cri),
            settings: Settings {
                agent,
                log_root,
                cgroups,
                capacity,
                volumes: Volumes::new(pods),
                resolver,
                seccomp_dir,
            },
            objects,
            policy,
            logs,
            watcher: OnceLock::new(),
            seen: Mutex::default(),
            disks: Mutex::default(),
            looked: Notify::new(),
            features: Mutex::default(),
        }))
    }
}

impl ContainerRuntime for CriRuntime {
    async fn run(&self, step: Step) -> StepOutcome {
        let general = steps::general_reason(&step);
        self.0
            .run(step)
            .await
            .unwrap_or_else(|failure| failure.into_outcome(general))
    }

    async fn observe(&self) -> Result<Observed, ObserveError> {
        self.0.observe().await.map_err(ObserveError::new)
    }

    async fn remove_image(&self, id: &str) -> Result<(), ObserveError> {
        self.0.client.remove_image(id).await.map_err(ObserveError::new)
    }

    async fn changed(&self) {
        self.0.changed().await;
    }
}

impl Inner {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // What is kept there is a cache: a panic in between leaves nothing that the next look does not mend.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disks(&self) -> MutexGuard<'_, Arc<Disks>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn capacity(state_dir: &Path) -> Amounts {
    let facts = host::facts(Default::default(), state_dir, 0);
    Amounts {
        cpu_milli: facts.cpu_milli,
        memory_bytes: facts.memory_bytes,
        ephemeral_storage_bytes: facts.ephemeral_storage_bytes,
    }
}
