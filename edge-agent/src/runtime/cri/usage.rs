//! What workloads use, and which images there are, as the runtime and the file system tell.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edge_agent_core::ObservedImage;
use edge_agent_core::usage::{ContainerUsage, WorkloadUsage};
use edge_agent_cri::CriError;
use edge_agent_cri::v1::{ContainerStats, FilesystemUsage, Image};
use edge_protocol::PodUid;

use super::config::Settings;
use super::{Inner, labels};
use crate::host;

/// Directories below directories that are gone into; what lies deeper counts for nothing.
const DEPTH: u32 = 64;

impl Inner {
    /// Of all workloads that have a running container; absent when the measurement was cut off.
    pub(super) async fn workloads(&self) -> Result<Option<BTreeMap<PodUid, WorkloadUsage>>, CriError> {
        let stats = self
            .client
            .list_container_stats(labels::ours(&self.settings.agent))
            .await?;
        let (volumes, log_root) = (self.settings.volumes.clone(), self.settings.log_root.clone());
        let cgroups = self.settings.cgroups.clone();
        // The agent has one thread, and a tree may be large.
        let measured = tokio::task::spawn_blocking(move || {
            let at_ms = host::mono_ms();
            let (mut found, mut disks) = (by_workload(&stats), layers(&stats));
            let logs = log_directories(&log_root);
            for (uid, usage) in &mut found {
                let directory = volumes.directory(uid).join("volumes");
                let disk = Disk::of(&directory, logs.get(uid).map(PathBuf::as_path));
                disk.note(disks.entry(uid.clone()).or_default());
                disk.add_to(usage);
            }
            for (uid, _, id) in stats.iter().filter_map(names) {
                if let Some(usage) = found.get_mut(&uid) {
                    usage.processes = usage.processes.saturating_add(cgroups.processes(&uid, id));
                }
            }
            (found, at_ms, disks)
        });
        let Ok((found, at_ms, workloads)) = measured.await else {
            return Ok(None);
        };
        let mut disks = self.disks();
        *disks = Arc::new(Disks {
            at_ms,
            workloads,
            images: disks.images.clone(),
        });
        Ok(Some(found))
    }

    /// Where the file system is that has the images, and beside them the layers of containers: the first, as for the kubelet
    /// (`ImageFsStats` of pkg/kubelet/stats). How full it is the runtime does not say, only how much of it is its own.
    pub(super) async fn images_directory(&self) -> Result<Option<PathBuf>, CriError> {
        let first = self.client.image_fs_info().await?.into_iter().next();
        let images = first.and_then(image_disk);
        let directory = images.as_ref().map(|images| images.directory.clone());
        let mut disks = self.disks();
        *disks = Arc::new(Disks {
            images,
            ..Disks::clone(&disks)
        });
        Ok(directory)
    }

    pub(super) async fn images(&self) -> Result<Vec<ObservedImage>, CriError> {
        let images = self.client.list_images().await?;
        Ok(images.into_iter().map(observed).collect())
    }
}

fn by_workload(stats: &[ContainerStats]) -> BTreeMap<PodUid, WorkloadUsage> {
    let mut found: BTreeMap<PodUid, WorkloadUsage> = BTreeMap::new();
    for each in stats {
        let Some((uid, name, _)) = names(each) else {
            continue;
        };
        let memory = each.memory.as_ref().and_then(|memory| memory.working_set_bytes);
        let layer = each.writable_layer.as_ref().and_then(|layer| layer.used_bytes);
        let inodes = each.writable_layer.as_ref().and_then(|layer| layer.inodes_used);
        let container = ContainerUsage {
            memory_bytes: memory.map_or(0, |value| value.value),
            layer_bytes: layer.map_or(0, |value| value.value),
            log_bytes: 0,
        };
        let usage = found.entry(uid).or_default();
        usage.memory_bytes = usage.memory_bytes.saturating_add(container.memory_bytes);
        usage.layer_inodes = usage
            .layer_inodes
            .saturating_add(inodes.map_or(0, |value| value.value));
        usage.containers.insert(name.to_owned(), container);
    }
    found
}

fn image_disk(file_system: FilesystemUsage) -> Option<ImageDisk> {
    Some(ImageDisk {
        taken: taken(&file_system),
        directory: PathBuf::from(file_system.fs_id?.mountpoint),
    })
}

fn taken(usage: &FilesystemUsage) -> Option<Taken> {
    Some(Taken {
        bytes: usage.used_bytes?.value,
        inodes: usage.inodes_used.map_or(0, |inodes| inodes.value),
    })
}

/// The writable layers.
fn layers(stats: &[ContainerStats]) -> BTreeMap<PodUid, WorkloadDisks> {
    let mut found: BTreeMap<PodUid, WorkloadDisks> = BTreeMap::new();
    for each in stats {
        if let Some((uid, name, _)) = names(each) {
            let layer = each.writable_layer.as_ref().and_then(taken);
            let disks = ContainerDisks { layer, logs: None };
            let containers = &mut found.entry(uid).or_default().containers;
            containers.insert(name.to_owned(), disks);
        }
    }
    found
}

/// Workload, container, and the runtime's id of it.
fn names(stats: &ContainerStats) -> Option<(PodUid, &str, &str)> {
    let attributes = stats.attributes.as_ref()?;
    let uid = labels::uid(&attributes.labels)?;
    Some((uid, labels::container_name(&attributes.labels)?, &attributes.id))
}

fn observed(image: Image) -> ObservedImage {
    ObservedImage {
        names: image.repo_tags.into_iter().chain(image.repo_digests).collect(),
        size_bytes: image.size,
        pinned: image.pinned,
        id: image.id,
    }
}

/// What a workload has on the device's disk beside its containers' layers.
#[derive(Debug, Default)]
struct Disk {
    volumes: BTreeMap<String, Taken>,
    /// By container.
    logs: BTreeMap<String, Taken>,
}

impl Disk {
    fn of(volumes: &Path, logs: Option<&Path>) -> Self {
        Self {
            volumes: children(volumes),
            logs: logs.map(children).unwrap_or_default(),
        }
    }

    fn note(&self, disks: &mut WorkloadDisks) {
        disks.volumes.clone_from(&self.volumes);
        for (name, taken) in &self.logs {
            if let Some(container) = disks.containers.get_mut(name) {
                container.logs = Some(*taken);
            }
        }
    }

    fn add_to(self, usage: &mut WorkloadUsage) {
        for (name, tree) in self.volumes {
            usage.volume_inodes = usage.volume_inodes.saturating_add(tree.inodes);
            usage.volumes.insert(name, tree.bytes);
        }
        for (name, tree) in self.logs {
            if let Some(container) = usage.containers.get_mut(&name) {
                container.log_bytes = tree.bytes;
            }
        }
    }
}

/// What something takes of a file system; of a directory in blocks, as `du -x` counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub bytes: u64,
    pub inodes: u64,
}

impl Taken {
    fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

/// What workloads and images take of the disks, as last measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disks {
    /// When workloads were measured, in milliseconds since boot.
    pub at_ms: u64,
    /// Those that had a running container then.
    pub workloads: BTreeMap<PodUid, WorkloadDisks>,
    pub images: Option<ImageDisk>,
}

/// Where images are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDisk {
    /// A directory on their file system.
    pub directory: PathBuf,
    /// What they take of it, where the runtime tells.
    pub taken: Option<Taken>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadDisks {
    /// Those that live on the device's disk for this workload alone.
    pub volumes: BTreeMap<String, Taken>,
    pub containers: BTreeMap<String, ContainerDisks>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerDisks {
    /// The writable layer, where the runtime tells.
    pub layer: Option<Taken>,
    pub logs: Option<Taken>,
}

impl WorkloadDisks {
    /// All of it.
    pub fn sum(&self) -> Taken {
        let containers = self.containers.values();
        let of_containers = containers.flat_map(|container| [container.layer, container.logs]);
        of_containers
            .flatten()
            .chain(self.volumes.values().copied())
            .fold(Taken::default(), Taken::and)
    }
}

/// Each directory of a directory, by name. One on another file system, such as a tmpfs or what a `hostPath` shows, is not of this disk.
fn children(directory: &Path) -> BTreeMap<String, Taken> {
    let Ok(device) = fs::metadata(directory).map(|metadata| metadata.dev()) else {
        return BTreeMap::new();
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let is_here = fs::symlink_metadata(entry.path()).is_ok_and(|m| m.is_dir() && m.dev() == device);
            is_here.then(|| (name, tree(&entry.path(), device, DEPTH)))
        })
        .collect()
}

/// What vanishes or cannot be read meanwhile counts for nothing.
fn tree(path: &Path, device: u64, depth: u32) -> Taken {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Taken::default();
    };
    if metadata.dev() != device {
        return Taken::default();
    }
    let mut sum = Taken {
        bytes: metadata.blocks().saturating_mul(512),
        inodes: 1,
    };
    if metadata.is_dir() && depth > 0 {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let below = tree(&entry.path(), device, depth - 1);
            sum.bytes = sum.bytes.saturating_add(below.bytes);
            sum.inodes = sum.inodes.saturating_add(below.inodes);
        }
    }
    sum
}

fn log_directories(root: &Path) -> BTreeMap<PodUid, PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((Settings::log_directory_uid(&name)?, entry.path()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_counted_in_blocks_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let volumes = root.path().join("volumes");
        fs::create_dir_all(volumes.join("data/deep")).unwrap();
        fs::write(volumes.join("data/deep/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", volumes.join("data/out")).unwrap();
        std::os::unix::fs::symlink("/", volumes.join("link")).unwrap();
        let found = children(&volumes);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["data"]);
        let data = found["data"];
        assert_eq!(data.inodes, 4);
        assert!((100_000..200_000).contains(&data.bytes), "{data:?}");
        assert!(children(&root.path().join("none")).is_empty());
    }
}
