//! What only a real containerd can show of figures: that they are those of the container's own cgroup.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use edge_agent_core::step::Step;
use edge_agent_core::{Sample, SampleContainer, SampleTarget};
use edge_protocol::v1::{ContainerStats, WorkloadStats};

use super::containerd::eventually;
use super::device::{Device, logged};
use super::given::Workload;
use super::{done, started};
use crate::host;
use crate::usage::Sampler;

/// Turns one core for ever, beside a sleeper with a file's worth of cache.
const LOAD: &str = "dd if=/dev/zero of=/tmp/file bs=1M count=8; cat /tmp/file > /dev/null; sleep 1000 & echo ready; while :; do :; done";

/// A workload that is under way, and where its container's files are.
struct Loaded {
    device: Device,
    sampler: Sampler,
    target: SampleTarget,
    /// Relative to the mount of each controller.
    container: String,
}

async fn loaded() -> Loaded {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    let workload = Workload::new("busy");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let id = started(&runtime, workload.start(&sandbox, "main", 0, LOAD)).await;
    logged(&workload.log(&device.logs("device-a"), "main", 0), "ready").await;
    let pod = runtime
        .cgroups()
        .find_pod(&workload.uid())
        .expect("it has a cgroup");
    let target = SampleTarget {
        uid: workload.uid(),
        sandbox_id: Some(sandbox),
        started_ms: Some(1),
        containers: vec![SampleContainer {
            name: "main".into(),
            id: id.clone(),
            started_ms: 2,
        }],
    };
    Loaded {
        sampler: Sampler::new(runtime, device.containerd.scratch().to_owned()),
        device,
        target,
        container: format!("{pod}/{id}"),
    }
}

impl Loaded {
    async fn sample(&self) -> Sample {
        self.sampler
            .sample(vec![self.target.clone()])
            .await
            .expect("in time")
    }

    /// A number that the kernel tells of the container, by the controllers' own files.
    fn kernel(&self, controller: &str, file: &str) -> String {
        let path: PathBuf = ["/sys/fs/cgroup", controller].iter().collect();
        let path = path.join(self.container.trim_start_matches('/')).join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn cpu_ns(&self) -> u64 {
        self.kernel("cpuacct", "cpuacct.usage").trim().parse().unwrap()
    }
}

fn only(sample: &Sample) -> (&WorkloadStats, &ContainerStats) {
    let [workload] = &sample.workloads[..] else {
        panic!("{sample:?}")
    };
    (workload, &workload.containers[0])
}

#[track_caller]
fn within_5_percent(what: &str, told: u64, kernel: u64) {
    let off = told.abs_diff(kernel);
    assert!(off * 20 <= kernel, "{what}: {told} told, {kernel} by the kernel");
}

/// Cgroup v1 only: its files are read here as `kubectl top` must agree with them.
#[tokio::test]
async fn figures_are_those_of_the_containers_cgroup() {
    let loaded = loaded().await;
    loaded.sample().await;
    let (at_ms, before_ns) = (host::mono_ms(), loaded.cpu_ns());
    loaded.sample().await;
    // The window that is measured, not one that is waited for.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sample = loaded.sample().await;
    let (passed_ms, after_ns) = (host::mono_ms() - at_ms, loaded.cpu_ns());
    let (workload, container) = only(&sample);

    let cpu = container.cpu.unwrap();
    within_5_percent("cpu", cpu.usage_ns.unwrap() - before_ns, after_ns - before_ns);
    within_5_percent(
        "rate",
        cpu.rate_nanocores.unwrap(),
        (after_ns - before_ns) * 1_000 / passed_ms,
    );
    let whole = workload.cpu.unwrap();
    assert!(whole.usage_ns >= cpu.usage_ns, "{whole:?} {cpu:?}");
    assert!(sample.node.cpu.unwrap().rate_nanocores.unwrap() > 0);

    let memory = container.memory.unwrap();
    let stat = loaded.kernel("memory", "memory.stat");
    let of = |name: &str| -> u64 {
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().trim().parse().unwrap()
    };
    let usage: u64 = loaded
        .kernel("memory", "memory.usage_in_bytes")
        .trim()
        .parse()
        .unwrap();
    within_5_percent("usage", memory.usage_bytes.unwrap(), usage);
    let working_set = usage.saturating_sub(of("total_inactive_file"));
    within_5_percent("working set", memory.working_set_bytes.unwrap(), working_set);
}

#[tokio::test]
async fn what_is_on_disks_is_as_last_measured() {
    let loaded = loaded().await;
    let runtime = loaded.device.runtime("device-a");
    let sampler = Sampler::new(runtime.clone(), loaded.device.containerd.scratch().to_owned());
    let targets = vec![loaded.target.clone()];
    let before = sampler.sample(targets.clone()).await.unwrap();
    assert_eq!(
        (only(&before).1.rootfs, before.node.image_fs),
        (None, None),
        "nothing was measured yet"
    );
    runtime
        .images_directory()
        .await
        .unwrap()
        .expect("the runtime says where images are");
    // The runtime measures layers from time to time.
    let sample = eventually("the file is in the layer", async || {
        runtime.workloads().await.unwrap().expect("measured");
        let sample = sampler.sample(targets.clone()).await.unwrap();
        let rootfs = only(&sample).1.rootfs?;
        (rootfs.used_bytes? >= 8 << 20).then_some(sample)
    })
    .await;
    let (workload, container) = only(&sample);
    let logs = container.logs.unwrap();
    assert!(
        logs.used_bytes.unwrap() > 0 && logs.inodes_used.unwrap() >= 2,
        "{logs:?}"
    );
    let whole = workload.ephemeral_storage.unwrap();
    assert_eq!(
        whole.used_bytes.unwrap(),
        container.rootfs.unwrap().used_bytes.unwrap() + logs.used_bytes.unwrap()
    );
    assert!(whole.at_ms <= sample.node.fs.unwrap().at_ms);
    let images = sample.node.image_fs.unwrap();
    assert!(
        images.used_bytes.is_some() && images.capacity_bytes.unwrap() > 0,
        "{images:?}"
    );
}

#[tokio::test]
async fn what_has_gone_is_left_out() {
    let loaded = loaded().await;
    let runtime = loaded.device.runtime("device-a");
    let sandbox_id = loaded.target.sandbox_id.clone().unwrap();
    done(
        &runtime,
        Step::StopSandbox {
            sandbox_id: sandbox_id.clone(),
        },
    )
    .await;
    let uid = loaded.target.uid.clone();
    done(
        &runtime,
        Step::RemoveSandbox {
            sandbox_id,
            uid: uid.clone(),
        },
    )
    .await;
    done(&runtime, Step::RemoveWorkload { uid }).await;
    let sample = loaded.sample().await;
    assert!(sample.workloads.is_empty(), "{sample:?}");
    assert!(sample.node.memory.unwrap().working_set_bytes.unwrap() > 0);
}
