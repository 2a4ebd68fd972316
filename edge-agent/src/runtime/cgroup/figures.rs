//! What a cgroup uses, as its files tell it: the kubelet's figures (cAdvisor's `setCPUStats` and `setMemoryStats` over both versions of cgroups).

use std::fs;
use std::path::{Path, PathBuf};

use edge_protocol::PodUid;
use edge_protocol::v1::{CpuStats, IoStats, MemoryStats, ProcessStats, QosClass, SwapStats};

use super::{Cgroups, Version};

/// At and above this a limit of memory is none (`isMemoryUnlimited` of pkg/kubelet/stats).
const UNLIMITED: u64 = 1 << 62;

/// The figures of one cgroup. What it has no files for is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub cpu: Option<CpuStats>,
    pub memory: Option<MemoryStats>,
    pub swap: Option<SwapStats>,
    pub io: Option<IoStats>,
    pub processes: Option<ProcessStats>,
}

impl Cgroups {
    /// The pod's cgroup, whatever its class; none where it has none.
    pub fn find_pod(&self, uid: &PodUid) -> Option<String> {
        let classes = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];
        let mut places = classes.into_iter().map(|qos| self.pod(qos, uid));
        places.find(|pod| self.cpu_directory(pod).exists())
    }

    /// The first process of a cgroup, such as that of a sandbox.
    pub fn first_process(&self, cgroup: &str) -> Option<u32> {
        let list = fs::read_to_string(self.cpu_directory(cgroup).join("cgroup.procs")).ok()?;
        list.lines().next()?.parse().ok()
    }

    /// How much of all cores a cgroup has used, in nanoseconds; `""` is the device as a whole.
    pub fn cpu_usage_ns(&self, cgroup: &str) -> Option<u64> {
        match self.version {
            Version::V1 => number(&self.of(cgroup, "cpuacct").join("cpuacct.usage")),
            Version::V2 => {
                let stat = fs::read_to_string(self.directory(cgroup).join("cpu.stat")).ok()?;
                value(&stat, "usage_usec")?.checked_mul(1_000)
            }
        }
    }

    /// All figures but for the rate of its CPU; `clock` gives their moments, in milliseconds.
    pub fn figures(&self, cgroup: &str, clock: impl Fn() -> u64) -> Figures {
        let cpu = self.cpu(cgroup, clock());
        let (memory, swap) = match self.version {
            Version::V1 => self.memory_v1(cgroup, clock()),
            Version::V2 => self.memory_v2(cgroup, clock()),
        };
        Figures {
            cpu,
            memory,
            swap,
            io: self.io(cgroup, clock()),
            processes: self.tasks(cgroup, clock()),
        }
    }

    fn cpu(&self, cgroup: &str, at_ms: u64) -> Option<CpuStats> {
        let usage_ns = self.cpu_usage_ns(cgroup)?;
        let stat = fs::read_to_string(self.cpu_directory(cgroup).join("cpu.stat")).unwrap_or_default();
        let throttled_ns = match self.version {
            Version::V1 => value(&stat, "throttled_time"),
            Version::V2 => value(&stat, "throttled_usec").and_then(|us| us.checked_mul(1_000)),
        };
        Some(CpuStats {
            at_ms,
            usage_ns: Some(usage_ns),
            rate_nanocores: None,
            periods: value(&stat, "nr_periods"),
            throttled_periods: value(&stat, "nr_throttled"),
            throttled_ns,
        })
    }

    fn memory_v1(&self, cgroup: &str, at_ms: u64) -> (Option<MemoryStats>, Option<SwapStats>) {
        let directory = self.of(cgroup, "memory");
        let usage = number(&directory.join("memory.usage_in_bytes"));
        let stat = fs::read_to_string(directory.join("memory.stat"));
        let (Some(usage), Ok(stat)) = (usage, stat) else {
            return (None, None);
        };
        let limit = number(&directory.join("memory.limit_in_bytes"));
        let working_set = usage.saturating_sub(value(&stat, "total_inactive_file").unwrap_or(0));
        let memory = MemoryStats {
            at_ms,
            usage_bytes: Some(usage),
            working_set_bytes: Some(working_set),
            available_bytes: left(limit, working_set),
            rss_bytes: value(&stat, "total_rss"),
            cache_bytes: value(&stat, "total_cache"),
            page_faults: value(&stat, "total_pgfault"),
            major_page_faults: value(&stat, "total_pgmajfault"),
        };
        let swap = value(&stat, "total_swap").map(|swapped| {
            let limits = value(&stat, "hierarchical_memsw_limit").zip(limit);
            let room = limits.filter(|(both, _)| *both < UNLIMITED);
            SwapStats {
                at_ms,
                usage_bytes: Some(swapped),
                available_bytes: room
                    .map(|(both, memory)| both.saturating_sub(memory).saturating_sub(swapped)),
            }
        });
        (Some(memory), swap)
    }

    /// The root of all cgroups has no figure of its own for what is in use: it is what its pages add up to (`rootStatsFromMeminfo` of
    /// opencontainers/cgroups).
    fn memory_v2(&self, cgroup: &str, at_ms: u64) -> (Option<MemoryStats>, Option<SwapStats>) {
        let directory = self.directory(cgroup);
        let Ok(stat) = fs::read_to_string(directory.join("memory.stat")) else {
            return (None, None);
        };
        let (rss, cache) = (value(&stat, "anon"), value(&stat, "file"));
        let pages = || rss?.checked_add(cache?);
        let Some(usage) = number(&directory.join("memory.current")).or_else(pages) else {
            return (None, None);
        };
        let working_set = usage.saturating_sub(value(&stat, "inactive_file").unwrap_or(0));
        let memory = MemoryStats {
            at_ms,
            usage_bytes: Some(usage),
            working_set_bytes: Some(working_set),
            available_bytes: left(number(&directory.join("memory.max")), working_set),
            rss_bytes: rss,
            cache_bytes: cache,
            page_faults: value(&stat, "pgfault"),
            major_page_faults: value(&stat, "pgmajfault"),
        };
        let swap = number(&directory.join("memory.swap.current")).map(|swapped| SwapStats {
            at_ms,
            usage_bytes: Some(swapped),
            available_bytes: left(number(&directory.join("memory.swap.max")), swapped),
        });
        (Some(memory), swap)
    }

    fn io(&self, cgroup: &str, at_ms: u64) -> Option<IoStats> {
        let (bytes, operations) = match self.version {
            Version::V1 => {
                let directory = self.of(cgroup, "blkio");
                let read = |file: &str| fs::read_to_string(directory.join(file));
                let bytes = read("blkio.throttle.io_service_bytes_recursive").ok()?;
                (
                    sums_v1(&bytes),
                    sums_v1(&read("blkio.throttle.io_serviced_recursive").ok()?),
                )
            }
            Version::V2 => {
                let stat = fs::read_to_string(self.directory(cgroup).join("io.stat")).ok()?;
                let sums = |read: &str, write: &str| (sum_v2(&stat, read), sum_v2(&stat, write));
                (sums("rbytes=", "wbytes="), sums("rios=", "wios="))
            }
        };
        Some(IoStats {
            at_ms,
            read_bytes: Some(bytes.0),
            written_bytes: Some(bytes.1),
            reads: Some(operations.0),
            writes: Some(operations.1),
        })
    }

    /// Processes are counted where they are, not below; tasks with all below.
    fn tasks(&self, cgroup: &str, at_ms: u64) -> Option<ProcessStats> {
        let directory = match self.version {
            Version::V1 => self.of(cgroup, "pids"),
            Version::V2 => self.directory(cgroup),
        };
        let processes = fs::read_to_string(directory.join("cgroup.procs")).ok()?;
        Some(ProcessStats {
            at_ms,
            count: Some(processes.lines().count() as u64),
            threads: number(&directory.join("pids.current")),
            threads_limit: number(&directory.join("pids.max")),
        })
    }

    /// Where a controller of cgroup v1 has this cgroup.
    fn of(&self, cgroup: &str, controller: &str) -> PathBuf {
        self.mount.join(controller).join(cgroup.trim_start_matches('/'))
    }
}

/// A file of one number; one that says `max` has none.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number beside a name, one of each to a line.
fn value(stat: &str, name: &str) -> Option<u64> {
    let mut lines = stat.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn left(limit: Option<u64>, used: u64) -> Option<u64> {
    limit
        .filter(|limit| *limit < UNLIMITED)
        .map(|limit| limit.saturating_sub(used))
}

/// Reads and writes of all devices; lines are `major:minor Operation number`.
fn sums_v1(text: &str) -> (u64, u64) {
    let sum = |operation: &str| {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            (words.next()? == operation)
                .then(|| words.next()?.parse().ok())
                .flatten()
        });
        lines.fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

/// One figure of all devices; lines are `major:minor key=number …`.
fn sum_v2(text: &str, key: &str) -> u64 {
    let words = text.split_whitespace();
    let figures = words.filter_map(|word| word.strip_prefix(key)?.parse().ok());
    figures.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as a kernel wrote them, shortened.
    const V1: &[(&str, &str)] = &[
        (
            "cpu/p/cpu.stat",
            "nr_periods 40\nnr_throttled 3\nthrottled_time 70\nwait_sum 9\n",
        ),
        ("cpuacct/p/cpuacct.usage", "1236452123\n"),
        ("memory/p/memory.usage_in_bytes", "1000000\n"),
        ("memory/p/memory.limit_in_bytes", "1500000\n"),
        (
            "memory/p/memory.stat",
            "cache 1\nrss 2\ninactive_file 3\npgfault 4\nhierarchical_memory_limit 1500000\nhierarchical_memsw_limit 2500000\n\
             total_cache 600000\ntotal_rss 300000\ntotal_rss_huge 5\ntotal_swap 4096\ntotal_pgfault 77\ntotal_pgmajfault 6\n\
             total_inactive_anon 9\ntotal_inactive_file 400000\ntotal_active_file 8\n",
        ),
        (
            "blkio/p/blkio.throttle.io_service_bytes_recursive",
            "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Total 12288\n8:16 Read 4\nTotal 12292\n",
        ),
        (
            "blkio/p/blkio.throttle.io_serviced_recursive",
            "8:0 Read 2\n8:0 Write 3\nTotal 5\n",
        ),
        ("pids/p/cgroup.procs", "11\n12\n"),
        ("pids/p/pids.current", "9\n"),
        ("pids/p/pids.max", "max\n"),
    ];
    const V2: &[(&str, &str)] = &[
        ("cgroup.controllers", "cpu memory\n"),
        (
            "p/cpu.stat",
            "usage_usec 1236452\nuser_usec 1\nnr_periods 40\nnr_throttled 3\nthrottled_usec 70\n",
        ),
        ("p/memory.current", "1000000\n"),
        ("p/memory.max", "max\n"),
        ("p/memory.swap.current", "4096\n"),
        ("p/memory.swap.max", "8192\n"),
        (
            "p/memory.stat",
            "anon 300000\nfile 600000\ninactive_anon 9\ninactive_file 400000\npgfault 77\npgmajfault 6\n",
        ),
        (
            "p/io.stat",
            "8:0 rbytes=4096 wbytes=8192 rios=2 wios=3 dbytes=0 dios=0\n8:16 rbytes=4 wbytes=0 rios=0 wios=0\n",
        ),
        ("p/cgroup.procs", "11\n12\n"),
        ("p/pids.current", "9\n"),
        ("p/pids.max", "100\n"),
    ];

    fn recorded(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroups) {
        let mount = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let cgroups = Cgroups::new(mount.path(), "/", mount.path().join("pods"));
        (mount, cgroups)
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], expect: &Figures) {
        let (_mount, cgroups) = recorded(files);
        assert_eq!(cgroups.figures("/p", || 5), *expect);
    }

    fn expected(usage_ns: u64, throttled_ns: u64) -> Figures {
        Figures {
            cpu: Some(CpuStats {
                at_ms: 5,
                usage_ns: Some(usage_ns),
                rate_nanocores: None,
                periods: Some(40),
                throttled_periods: Some(3),
                throttled_ns: Some(throttled_ns),
            }),
            memory: Some(MemoryStats {
                at_ms: 5,
                usage_bytes: Some(1_000_000),
                working_set_bytes: Some(600_000),
                available_bytes: None,
                rss_bytes: Some(300_000),
                cache_bytes: Some(600_000),
                page_faults: Some(77),
                major_page_faults: Some(6),
            }),
            swap: None,
            io: Some(IoStats {
                at_ms: 5,
                read_bytes: Some(4_100),
                written_bytes: Some(8_192),
                reads: Some(2),
                writes: Some(3),
            }),
            processes: Some(ProcessStats {
                at_ms: 5,
                count: Some(2),
                threads: Some(9),
                threads_limit: None,
            }),
        }
    }

    fn swap(available_bytes: u64) -> SwapStats {
        SwapStats {
            at_ms: 5,
            usage_bytes: Some(4_096),
            available_bytes: Some(available_bytes),
        }
    }

    #[test]
    fn both_versions_say_the_same() {
        let mut v1 = expected(1_236_452_123, 70);
        v1.swap = Some(swap(1_000_000 - 4_096));
        v1.memory.as_mut().unwrap().available_bytes = Some(900_000);
        check(V1, &v1);
        let mut v2 = expected(1_236_452_000, 70_000);
        v2.swap = Some(swap(4_096));
        v2.processes.as_mut().unwrap().threads_limit = Some(100);
        check(V2, &v2);
        check(&[], &Figures::default());
        check(&V2[..1], &Figures::default());
    }

    #[test]
    fn a_working_set_is_never_below_nothing() {
        let files = [
            ("memory/p/memory.usage_in_bytes", "5\n"),
            ("memory/p/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/p/memory.stat", "total_inactive_file 6\n"),
        ];
        let (_mount, cgroups) = recorded(&files);
        let memory = cgroups.figures("/p", || 5).memory.unwrap();
        assert_eq!(
            (memory.working_set_bytes, memory.available_bytes),
            (Some(0), None)
        );
    }

    #[test]
    fn the_root_of_version_2_uses_what_its_pages_add_up_to() {
        let files = [
            ("cgroup.controllers", "cpu memory\n"),
            ("memory.stat", "anon 300\nfile 600\ninactive_file 400\n"),
            ("cpu.stat", "usage_usec 7\n"),
        ];
        let (_mount, cgroups) = recorded(&files);
        let Figures { cpu, memory, .. } = cgroups.figures("", || 5);
        let memory = memory.unwrap();
        assert_eq!(
            (memory.usage_bytes, memory.working_set_bytes),
            (Some(900), Some(500))
        );
        assert_eq!(cpu.unwrap().usage_ns, Some(7_000));
    }
}
