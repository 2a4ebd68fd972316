//! One sample of what the device and its workloads use, for whoever asks. All of it is read from files of the kernel; what workloads and images take of
//! the disks is as it was last measured, for that means walking through all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edge_agent_core::{Sample, SampleContainer, SampleTarget};
use edge_protocol::v1::{
    ContainerStats, CpuStats, FsStats, MemoryStats, NodeStats, ProcessStats, SwapStats, VolumeStats,
    WorkloadStats,
};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::warn;

use super::{kib, network, processes};
use crate::host;
use crate::runtime::cgroup::{Cgroups, Figures};
use crate::runtime::{CriRuntime, Disks, Taken, WorkloadDisks};

/// Between the two readings of a first sample: so much time a rate needs at least.
const WINDOW: Duration = Duration::from_secs(1);
/// What was read longer ago than this, in milliseconds, is no beginning of a rate.
const OLD_MS: u64 = 120_000;
/// A sample is a few hundred small files; one that takes longer hangs on a disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// The device as a whole, among cgroups.
const ROOT: &str = "";

/// Reads samples. Clones remember the same; one reads at a time.
#[derive(Debug, Clone)]
pub struct Sampler {
    sources: Sources,
    before: Arc<Mutex<Readings>>,
}

#[derive(Debug, Clone)]
struct Sources {
    runtime: CriRuntime,
    /// On the file system that workloads share.
    state_dir: PathBuf,
}

impl Sampler {
    pub fn new(runtime: CriRuntime, state_dir: PathBuf) -> Self {
        Self {
            sources: Sources { runtime, state_dir },
            before: Arc::default(),
        }
    }

    /// Reads what these use now, within six seconds. `None` where that was not enough, and for as long as the reading of an earlier one hangs. Cancel
    /// safe: what was begun goes on in a thread of its own, and counts for the next one's rates.
    pub async fn sample(&self, targets: Vec<SampleTarget>) -> Option<Sample> {
        let mut before = Arc::clone(&self.before).try_lock_owned().ok()?;
        let targets = Arc::new(targets);
        if before.is_old(host::mono_ms()) {
            let (sources, first) = (self.sources.clone(), Arc::clone(&targets));
            let read = tokio::task::spawn_blocking(move || {
                *before = sources.cpu_alone(&first);
                before
            });
            before = in_time(read).await?;
            tokio::time::sleep(WINDOW).await;
        }
        let sources = self.sources.clone();
        in_time(tokio::task::spawn_blocking(move || {
            sources.read(&targets, before)
        }))
        .await
    }
}

async fn in_time<T>(read: tokio::task::JoinHandle<T>) -> Option<T> {
    if let Ok(read) = tokio::time::timeout(PATIENCE, read).await {
        return read.ok();
    }
    warn!("what the device uses could not be read in time");
    None
}

impl Sources {
    fn cgroups(&self) -> &Cgroups {
        self.runtime.cgroups()
    }

    /// What rates begin with.
    fn cpu_alone(&self, targets: &[SampleTarget]) -> Readings {
        let mut readings = Readings::default();
        let pods = targets.iter().filter_map(|target| {
            let pod = self.cgroups().find_pod(&target.uid)?;
            Some((pod, target))
        });
        let mut read = |cgroup: String| {
            let at_ms = host::mono_ms();
            if let Some(usage_ns) = self.cgroups().cpu_usage_ns(&cgroup) {
                readings.0.insert(cgroup, (at_ms, usage_ns));
            }
        };
        read(ROOT.to_owned());
        for (pod, target) in pods {
            target
                .containers
                .iter()
                .for_each(|container| read(below(&pod, &container.id)));
            read(pod);
        }
        readings
    }

    fn read(&self, targets: &[SampleTarget], mut before: OwnedMutexGuard<Readings>) -> Sample {
        let disks = self.runtime.disks();
        let mut readings = Readings::default();
        let mut figures = |cgroup: &str| {
            let mut figures = self.cgroups().figures(cgroup, host::mono_ms);
            if let Some(cpu) = &mut figures.cpu {
                cpu.rate_nanocores = before.rate(cgroup, cpu);
                readings.note(cgroup, cpu);
            }
            figures
        };
        let node = self.node(&figures(ROOT), &disks);
        let workloads = targets.iter().filter_map(|target| {
            let pod = self.cgroups().find_pod(&target.uid)?;
            Some(self.workload(target, &pod, &disks, &mut figures))
        });
        let workloads = workloads.collect();
        *before = readings;
        Sample { node, workloads }
    }

    fn node(&self, root: &Figures, disks: &Disks) -> NodeStats {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let meminfo = read("/proc/meminfo");
        let bounds = [
            read("/proc/sys/kernel/pid_max"),
            read("/proc/sys/kernel/threads-max"),
        ];
        let at_ms = host::mono_ms();
        let tasks = processes(&[&bounds[0], &bounds[1]], &read("/proc/loadavg"));
        NodeStats {
            started_ms: Some(host::booted_ms()),
            cpu: root.cpu,
            memory: root.memory.map(|memory| of_device(memory, &meminfo)),
            swap: swap(&meminfo, at_ms),
            network: network::of_device(at_ms),
            processes: tasks.map(|tasks| ProcessStats {
                at_ms,
                count: None,
                threads: Some(tasks.capacity.saturating_sub(tasks.available)),
                threads_limit: Some(tasks.capacity),
            }),
            fs: file_system(&self.state_dir, at_ms),
            image_fs: disks.images.as_ref().and_then(|images| {
                Some(FsStats {
                    used_bytes: images.taken.map(|taken| taken.bytes),
                    inodes_used: images.taken.map(|taken| taken.inodes),
                    ..file_system(&images.directory, at_ms)?
                })
            }),
        }
    }

    fn workload(
        &self,
        target: &SampleTarget,
        pod: &str,
        disks: &Disks,
        mut figures: impl FnMut(&str) -> Figures,
    ) -> WorkloadStats {
        let taken = disks.workloads.get(&target.uid);
        let of = |container: &SampleContainer| {
            let taken = taken.and_then(|taken| taken.containers.get(&container.name));
            let figures = figures(&below(pod, &container.id));
            let used = |taken: Option<Taken>| taken.map(|taken| used(taken, disks.at_ms));
            ContainerStats {
                name: container.name.clone(),
                id: container.id.clone(),
                started_ms: Some(container.started_ms),
                cpu: figures.cpu,
                memory: figures.memory,
                swap: figures.swap,
                io: figures.io,
                processes: figures.processes,
                rootfs: used(taken.and_then(|taken| taken.layer)),
                logs: used(taken.and_then(|taken| taken.logs)),
            }
        };
        let containers: Vec<ContainerStats> = target.containers.iter().map(of).collect();
        let whole = figures(pod);
        let sandbox = target.sandbox_id.as_ref().map(|id| below(pod, id));
        let process = sandbox.and_then(|sandbox| self.cgroups().first_process(&sandbox));
        WorkloadStats {
            uid: target.uid.clone(),
            started_ms: target.started_ms,
            cpu: whole.cpu,
            memory: whole.memory,
            swap: whole.swap,
            io: whole.io,
            network: process.and_then(|process| network::of_workload(process, host::mono_ms())),
            // The cgroup itself has none; its tasks are counted with those below.
            processes: whole.processes.map(|tasks| ProcessStats {
                count: Some(count(&containers)),
                ..tasks
            }),
            ephemeral_storage: taken.map(|taken| used(taken.sum(), disks.at_ms)),
            volumes: taken.map_or_else(Vec::new, |taken| volumes(taken, disks.at_ms)),
            containers,
        }
    }
}

fn volumes(taken: &WorkloadDisks, at_ms: u64) -> Vec<VolumeStats> {
    let volume = |(name, taken): (&String, &Taken)| VolumeStats {
        name: name.clone(),
        fs: used(*taken, at_ms),
    };
    taken.volumes.iter().map(volume).collect()
}

fn count(containers: &[ContainerStats]) -> u64 {
    let processes = containers
        .iter()
        .filter_map(|container| container.processes?.count);
    processes.fold(0, u64::saturating_add)
}

fn below(pod: &str, id: &str) -> String {
    format!("{pod}/{id}")
}

fn used(taken: Taken, at_ms: u64) -> FsStats {
    FsStats {
        at_ms,
        used_bytes: Some(taken.bytes),
        inodes_used: Some(taken.inodes),
        ..FsStats::default()
    }
}

/// Nothing bounds the device's memory but what it has.
fn of_device(memory: MemoryStats, meminfo: &str) -> MemoryStats {
    let total = kib(meminfo, "MemTotal:");
    let left = total.zip(memory.working_set_bytes);
    MemoryStats {
        available_bytes: left.map(|(total, working_set)| total.saturating_sub(working_set)),
        ..memory
    }
}

fn swap(meminfo: &str, at_ms: u64) -> Option<SwapStats> {
    let (total, free) = kib(meminfo, "SwapTotal:").zip(kib(meminfo, "SwapFree:"))?;
    Some(SwapStats {
        at_ms,
        usage_bytes: Some(total.saturating_sub(free)),
        available_bytes: Some(free),
    })
}

fn file_system(directory: &Path, at_ms: u64) -> Option<FsStats> {
    let fs = nix::sys::statvfs::statvfs(directory).ok()?;
    let bytes = |blocks: u64| Some(blocks.saturating_mul(fs.fragment_size()));
    Some(FsStats {
        at_ms,
        capacity_bytes: bytes(fs.blocks()),
        available_bytes: bytes(fs.blocks_available()),
        used_bytes: bytes(fs.blocks().saturating_sub(fs.blocks_free())),
        inodes: Some(fs.files()),
        inodes_free: Some(fs.files_free()),
        inodes_used: Some(fs.files().saturating_sub(fs.files_free())),
    })
}

/// When each cgroup's CPU was read last, and what it was.
#[derive(Debug, Default)]
struct Readings(BTreeMap<String, (u64, u64)>);

impl Readings {
    /// Whether the device itself was not read lately, and so nothing was.
    fn is_old(&self, now_ms: u64) -> bool {
        let last = self.0.get(ROOT);
        last.is_none_or(|(at_ms, _)| now_ms.saturating_sub(*at_ms) > OLD_MS)
    }

    fn note(&mut self, cgroup: &str, cpu: &CpuStats) {
        if let Some(usage_ns) = cpu.usage_ns {
            self.0.insert(cgroup.to_owned(), (cpu.at_ms, usage_ns));
        }
    }

    /// Nanoseconds of core per second since the last reading. A cgroup that was made anew has used less than before, and has none.
    fn rate(&self, cgroup: &str, cpu: &CpuStats) -> Option<u64> {
        let (at_ms, usage_ns) = self.0.get(cgroup)?;
        let ms = cpu.at_ms.checked_sub(*at_ms).filter(|ms| *ms > 0)?;
        let used = cpu.usage_ns?.checked_sub(*usage_ns)?;
        u64::try_from(u128::from(used) * 1_000 / u128::from(ms)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_the_time_since_the_last_reading() {
        let cpu = |at_ms, usage_ns| CpuStats {
            at_ms,
            usage_ns: Some(usage_ns),
            ..CpuStats::default()
        };
        let mut before = Readings::default();
        before.note("a", &cpu(1_000, 5_000_000_000));
        assert_eq!(before.rate("a", &cpu(3_000, 6_000_000_000)), Some(500_000_000));
        assert_eq!(before.rate("b", &cpu(3_000, 6_000_000_000)), None, "never read");
        assert_eq!(before.rate("a", &cpu(3_000, 4_000_000_000)), None, "made anew");
        assert_eq!(
            before.rate("a", &cpu(1_000, 6_000_000_000)),
            None,
            "no time passed"
        );
        assert_eq!(before.rate("a", &cpu(1_001, u64::MAX)), None, "no figure");
    }

    #[test]
    fn what_was_read_long_ago_is_no_beginning() {
        let mut before = Readings::default();
        assert!(before.is_old(0));
        before.0.insert(ROOT.to_owned(), (1_000, 1));
        assert!(!before.is_old(1_000 + OLD_MS));
        assert!(before.is_old(1_001 + OLD_MS));
    }

    #[test]
    fn memory_of_the_device_is_bounded_by_what_it_has() {
        let meminfo = "MemTotal:  1000 kB\nSwapTotal: 10 kB\nSwapFree: 4 kB\n";
        let memory = MemoryStats {
            working_set_bytes: Some(24_000),
            ..MemoryStats::default()
        };
        assert_eq!(of_device(memory, meminfo).available_bytes, Some(1_000_000));
        let swap = swap(meminfo, 7).unwrap();
        assert_eq!(
            (swap.usage_bytes, swap.available_bytes),
            (Some(6_144), Some(4_096))
        );
    }
}
