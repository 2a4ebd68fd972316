//! Measures what the device has left and, when it matters, what each workload uses.

use std::path::PathBuf;
use std::time::Duration;

use edge_agent_core::Input;
use edge_agent_core::usage::{Disk, Room, Usage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::runtime::CriRuntime;

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
}

impl UsageTask {
    pub(crate) async fn run(self, token: CancellationToken) {
        let mut count = 0;
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let mut usage = self.device();
            count += 1;
            if count % WHOLE == 0 || is_tight(&usage) {
                self.add_workloads(&mut usage).await;
            }
            if self.inputs.send(Input::Usage(Box::new(usage))).await.is_err() {
                return;
            }
        }
    }

    fn device(&self) -> Usage {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Usage {
            memory: memory(&meminfo),
            node_disk: nix::sys::statvfs::statvfs(&self.state_dir).ok().map(|fs| Disk {
                bytes: Room {
                    capacity: fs.blocks() * fs.fragment_size(),
                    available: fs.blocks_available() * fs.fragment_size(),
                },
                inodes: Room {
                    capacity: fs.files(),
                    available: fs.files_available(),
                },
            }),
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

/// Whether so little is left that the next decision may need everything measured. Generous: it only costs a measurement.
fn is_tight(usage: &Usage) -> bool {
    let is_little = |room: Room| room.available < room.capacity / 5;
    usage.memory.is_some_and(|room| room.available < 256 << 20)
        || usage
            .node_disk
            .is_some_and(|disk| is_little(disk.bytes) || is_little(disk.inodes))
}

fn memory(meminfo: &str) -> Option<Room> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(Room {
        capacity: bytes("MemTotal:")?,
        available: bytes("MemAvailable:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
