//! Measures what the device has left and, when it matters, what each workload uses; [`Sampler`] reads what both use for whoever asks.

mod network;
mod sample;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_agent_core::usage::{Disk, Room, Usage};
use edge_agent_core::{Input, Thresholds};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::runtime::CriRuntime;

pub use sample::Sampler;

/// As the kubelet's eviction manager (`monitoringInterval` of pkg/kubelet/eviction).
const EVERY: Duration = Duration::from_secs(10);
/// Volumes and images are looked at in every so many measurements, that is once a minute (`VolumeStatsAggPeriod`).
const WHOLE: u32 = 6;

/// Sole owner of the rhythm.
pub(crate) struct UsageTask {
    pub(crate) runtime: CriRuntime,
    pub(crate) inputs: mpsc::Sender<Input>,
    /// On the file system that workloads share.
    pub(crate) state_dir: PathBuf,
    /// Close to one of these, everything is measured each time.
    pub(crate) thresholds: Thresholds,
}

impl UsageTask {
    pub(crate) async fn run(self, token: CancellationToken) {
        let mut count = 0;
        let mut images = None;
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if count % WHOLE == 0 {
                images = self.images_directory().await;
            }
            let mut usage = self.device(images.as_deref());
            let whole = count % WHOLE == 0;
            count += 1;
            if whole || self.thresholds.are_near(&usage) {
                self.add_workloads(&mut usage).await;
            }
            if self.inputs.send(Input::Usage(Box::new(usage))).await.is_err() {
                return;
            }
        }
    }

    async fn images_directory(&self) -> Option<PathBuf> {
        let directory = self.runtime.images_directory().await;
        directory.unwrap_or_else(|error| {
            warn!(%error, "where images are could not be learned");
            None
        })
    }

    /// A directory that cannot be seen from here says nothing: of such a file system the runtime tells how much of it images take, but not
    /// how much there is.
    fn device(&self, images: Option<&Path>) -> Usage {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let node = on_disk(&self.state_dir);
        let images = images.and_then(on_disk);
        Usage {
            memory: memory(&read("/proc/meminfo")),
            node_disk: node.map(|(_, disk)| disk),
            image_disk: images.map(|(_, disk)| disk),
            disks_differ: node
                .zip(images)
                .is_some_and(|((node, _), (images, _))| node != images),
            processes: processes(
                &[
                    &read("/proc/sys/kernel/pid_max"),
                    &read("/proc/sys/kernel/threads-max"),
                ],
                &read("/proc/loadavg"),
            ),
            ..Usage::default()
        }
    }

    async fn add_workloads(&self, usage: &mut Usage) {
        match self.runtime.workloads().await {
            Ok(workloads) => usage.workloads = workloads,
            Err(error) => warn!(%error, "what workloads use could not be measured"),
        }
        match self.runtime.images().await {
            Ok(images) => usage.images = Some(images),
            Err(error) => warn!(%error, "images could not be listed"),
        }
    }
}

/// The number of the disk that a directory is on, and what that has.
fn on_disk(directory: &Path) -> Option<(u64, Disk)> {
    let number = std::fs::metadata(directory).ok()?.dev();
    let fs = nix::sys::statvfs::statvfs(directory).ok()?;
    let disk = Disk {
        bytes: Room {
            capacity: fs.blocks() * fs.fragment_size(),
            available: fs.blocks_available() * fs.fragment_size(),
        },
        inodes: Room {
            capacity: fs.files(),
            available: fs.files_available(),
        },
    };
    Some((number, disk))
}

/// Tasks that there may be, by the least of the kernel's bounds, less those that there are (pkg/kubelet/stats/pidlimit).
fn processes(bounds: &[&str], loadavg: &str) -> Option<Room> {
    let capacity = bounds
        .iter()
        .filter_map(|bound| bound.trim().parse::<u64>().ok())
        .min()?;
    let (_, tasks) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
    Some(Room {
        capacity,
        available: capacity.saturating_sub(tasks.parse().ok()?),
    })
}

fn memory(meminfo: &str) -> Option<Room> {
    Some(Room {
        capacity: kib(meminfo, "MemTotal:")?,
        available: kib(meminfo, "MemAvailable:")?,
    })
}

/// A line of `/proc/meminfo`, in bytes.
fn kib(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_bounded_by_the_least_of_the_kernels_bounds() {
        let room = |available| {
            Some(Room {
                capacity: 32_768,
                available,
            })
        };
        let load = "1.36 3.49 4.53 2/3518 3715089\n";
        assert_eq!(processes(&["32768\n", "127000\n"], load), room(29_250));
        assert_eq!(processes(&["127000\n", "32768\n"], load), room(29_250));
        assert_eq!(processes(&["", "32768\n"], load), room(29_250));
        assert_eq!(
            processes(&["32768"], "1 2 3 2/99999 4"),
            room(0),
            "more than allowed"
        );
        assert_eq!(processes(&["", ""], load), None);
        assert_eq!(processes(&["32768"], "1 2 3"), None);
    }

    #[test]
    fn a_disk_is_known_by_any_directory_on_it() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("below");
        std::fs::create_dir(&below).unwrap();
        let (here, disk) = on_disk(directory.path()).unwrap();
        assert_eq!(on_disk(&below).unwrap().0, here);
        assert_ne!(on_disk(Path::new("/proc")).unwrap().0, here);
        assert!(disk.bytes.capacity >= disk.bytes.available && disk.bytes.capacity > 0);
        assert_eq!(on_disk(&directory.path().join("none")), None);
    }

    #[test]
    fn memory_is_what_the_kernel_says_is_available() {
        let text = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:   600 kB\n";
        let expect = Room {
            capacity: 1_024_000,
            available: 614_400,
        };
        assert_eq!(memory(text), Some(expect));
        assert_eq!(memory("MemTotal: 1000 kB\n"), None);
    }
}
