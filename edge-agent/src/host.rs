//! What the machine says about itself, read from the kernel and the runtime. A fact that cannot be read stays unknown.

use std::path::Path;

use crate::runtime::host_address;
use edge_agent_core::Now;
use edge_protocol::BootId;
use edge_protocol::v1::{Facts, Pressures};
use nix::time::{ClockId, clock_gettime};

#[derive(Debug, thiserror::Error)]
#[error("cannot read the boot id from {path}: {problem}")]
pub struct BootIdError {
    path: String,
    problem: String,
}

/// The id of this boot, `/proc/sys/kernel/random/boot_id` unless configured otherwise.
///
/// # Errors
/// The file is missing or is no UUID.
pub fn boot_id(path: &Path) -> Result<BootId, BootIdError> {
    let error = |problem: String| BootIdError {
        path: path.display().to_string(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
    serde_json::from_value(serde_json::Value::from(text.trim())).map_err(|e| error(e.to_string()))
}

/// This moment: `CLOCK_BOOTTIME`, which counts suspended time too, and `CLOCK_REALTIME`.
pub fn now(boot_id: BootId) -> Now {
    let wall = clock_gettime(ClockId::CLOCK_REALTIME).expect("Linux has this clock");
    Now {
        mono_ms: mono_ms(),
        wall_ms: ms(wall),
        boot_id,
    }
}

/// Now on `CLOCK_BOOTTIME`, in milliseconds.
pub fn mono_ms() -> u64 {
    let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock");
    ms(boot).unsigned_abs()
}

/// When the device booted, in milliseconds since the Unix epoch by its clock of now.
pub fn booted_ms() -> i64 {
    let wall = clock_gettime(ClockId::CLOCK_REALTIME).expect("Linux has this clock");
    ms(wall).saturating_sub_unsigned(mono_ms())
}

fn ms(time: nix::sys::time::TimeSpec) -> i64 {
    time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000
}

/// Facts as of now. `runtime` is its name and version; `state_dir` is on the file system that workloads share.
pub fn facts(runtime: (String, String), state_dir: &Path, max_pods: u32) -> Facts {
    let name = nix::sys::utsname::uname().ok();
    let text = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        name.as_ref()
            .map(|name| part(name).to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let cpus = std::thread::available_parallelism().map_or(0, |count| count.get() as u64);
    Facts {
        hostname: text(|name| name.nodename()),
        os: std::env::consts::OS.to_owned(),
        arch: go_arch(std::env::consts::ARCH).to_owned(),
        kernel_version: text(|name| name.release()),
        os_image: os_image(&std::fs::read_to_string("/etc/os-release").unwrap_or_default()),
        runtime_name: runtime.0,
        runtime_version: runtime.1,
        cpu_milli: cpus * 1000,
        memory_bytes: memory_bytes(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        ephemeral_storage_bytes: nix::sys::statvfs::statvfs(state_dir)
            .map_or(0, |fs| fs.blocks() * fs.fragment_size()),
        pods: max_pods,
        machine_id: line("/etc/machine-id"),
        system_uuid: line("/sys/class/dmi/id/product_uuid"),
        // Where it is read is configured; the caller knows.
        boot_id: String::new(),
        addresses: host_address::addresses()
            .iter()
            .map(ToString::to_string)
            .collect(),
        // The machine's word, from what is measured.
        pressures: Pressures::default(),
        // The runtime's word.
        strict_groups: false,
        images: Vec::new(),
    }
}

/// A file of one line; empty where it cannot be read.
fn line(path: &str) -> String {
    std::fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Kubernetes labels nodes with Go's names of architectures.
fn go_arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn os_image(os_release: &str) -> String {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|value| value.trim_matches('"').to_owned())
        .unwrap_or_default()
}

fn memory_bytes(meminfo: &str) -> u64 {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_not_invented() {
        assert_eq!(
            memory_bytes("MemTotal:       24689012 kB\nMemFree: 1 kB\n"),
            24_689_012 * 1024
        );
        assert_eq!(memory_bytes(""), 0);
        assert_eq!(os_image("ID=x\nPRETTY_NAME=\"Some Linux 12\"\n"), "Some Linux 12");
        let facts = facts(("r".into(), "1".into()), Path::new("/"), 7);
        assert!(!facts.addresses.is_empty());
        assert!(
            facts.cpu_milli >= 1000 && facts.memory_bytes > 0 && facts.pods == 7,
            "{facts:?}"
        );
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let boot = boot_id(Path::new("/proc/sys/kernel/random/boot_id")).unwrap();
        assert!(now(boot).mono_ms <= now(boot).mono_ms);
        assert!(boot_id(Path::new("/proc/uptime")).is_err());
    }
}
