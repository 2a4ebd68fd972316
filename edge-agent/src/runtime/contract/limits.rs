//! What only a real containerd can show of limits and the cgroups that hold them.

use std::fs;

use edge_agent_core::step::{ObservedState, Step};
use edge_protocol::v1::{QosClass, Reason, Resources};

use super::containerd::eventually;
use super::device::{Device, logged};
use super::given::Workload;
use super::{done, find, started, within};
use crate::runtime::cgroup::Cgroups;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn limits_are_enforced_and_go_with_the_workload() {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    let mut workload = Workload::new("limited");
    workload.sandbox.qos = QosClass::Burstable;
    workload.sandbox.cpu_request_milli = 100;
    workload.sandbox.cpu_limit_milli = Some(250);
    workload.sandbox.memory_limit_bytes = Some(64 * MIB);
    workload.resources = Resources {
        cpu_request_milli: Some(100),
        cpu_limit_milli: Some(250),
        memory_request_bytes: Some(32 * MIB),
        memory_limit_bytes: Some(64 * MIB),
        ..Resources::default()
    };
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let script = "echo score $(cat /proc/self/oom_score_adj); sleep 1000";
    let id = started(&runtime, workload.start(&sandbox, "main", 0, script)).await;

    let pod = format!(
        "{}/burstable/pod{}",
        device.cgroup_root("device-a"),
        workload.uid()
    );
    let container = format!("{pod}/{id}");
    for cgroup in [&pod, &container] {
        check_limits(cgroup);
    }
    let class = format!("{}/burstable", device.cgroup_root("device-a"));
    check_weight(&class, "4", "102");
    // 1000 - 1000 * 32 MiB / 4 GiB.
    logged(&workload.log(&device.logs("device-a"), "main", 0), "score 993").await;

    done(
        &runtime,
        Step::StopSandbox {
            sandbox_id: sandbox.clone(),
        },
    )
    .await;
    done(
        &runtime,
        Step::RemoveSandbox {
            sandbox_id: sandbox,
            uid: workload.uid(),
        },
    )
    .await;
    check_weight(&class, "1", "2");
    assert!(workload.log(&device.logs("device-a"), "main", 0).exists());
    done(&runtime, Step::RemoveWorkload { uid: workload.uid() }).await;
    assert_eq!(fs::read_dir(device.logs("device-a")).unwrap().count(), 0);
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
        let left = hierarchy.unwrap().path().join(pod.trim_start_matches('/'));
        assert!(!left.exists(), "{left:?}");
    }
}

/// Reads back what a cgroup weighs, in whichever cgroup version the kernel has.
fn check_weight(cgroup: &str, weight: &str, shares: &str) {
    let unified = fs::read_to_string(format!("/sys/fs/cgroup{cgroup}/cpu.weight"));
    let split = || fs::read_to_string(format!("/sys/fs/cgroup/cpu{cgroup}/cpu.shares")).unwrap();
    let (read, expect) = match unified {
        Ok(unified) => (unified, weight),
        Err(_) => (split(), shares),
    };
    assert_eq!(read.trim(), expect, "{cgroup}");
}

/// Reads a quarter of a CPU and 64 MiB back from the kernel, in whichever cgroup version it has.
fn check_limits(cgroup: &str) {
    let read = |path: String| fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
    if let Some(memory) = read(format!("/sys/fs/cgroup{cgroup}/memory.max")) {
        assert_eq!(memory, (64 * MIB).to_string());
        assert_eq!(
            read(format!("/sys/fs/cgroup{cgroup}/cpu.max")).unwrap(),
            "25000 100000"
        );
        assert_eq!(read(format!("/sys/fs/cgroup{cgroup}/cpu.weight")).unwrap(), "4");
    } else {
        let value = |file: &str| {
            read(format!(
                "/sys/fs/cgroup/{}{cgroup}/{file}",
                &file[..file.find('.').unwrap()]
            ))
        };
        assert_eq!(
            value("memory.limit_in_bytes"),
            Some((64 * MIB).to_string()),
            "{cgroup}"
        );
        assert_eq!(value("cpu.cfs_quota_us"), Some("25000".into()), "{cgroup}");
        assert_eq!(value("cpu.shares"), Some("102".into()), "{cgroup}");
    }
}

#[tokio::test]
async fn a_memory_hog_is_known_as_such() {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    let mut workload = Workload::new("hog");
    workload.sandbox.qos = QosClass::Burstable;
    workload.resources = Resources {
        memory_limit_bytes: Some(16 * MIB),
        ..Default::default()
    };
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    for attempt in 0..5 {
        // tail keeps the whole of a line in memory, and this one has no end.
        let start = workload.start(&sandbox, "main", attempt, "exec tail -n 1 /dev/zero");
        let id = started(&runtime, start).await;
        // Looks as often as it can, to see the exit before the runtime hears of its cause.
        let state = within("the container ended", async {
            loop {
                let state = find(&runtime, &id).await.expect("stays listed").state;
                if matches!(state, ObservedState::Exited { .. }) {
                    break state;
                }
            }
        })
        .await;
        assert!(
            matches!(
                state,
                ObservedState::Exited {
                    exit_code: 137,
                    reason: Reason::OOMKilled,
                    ..
                }
            ),
            "{state:?}"
        );
    }
}

#[tokio::test]
async fn a_pod_cgroup_is_made_and_removed_repeatedly() {
    let device = Device::start().await;
    let cgroups = Cgroups::new(
        "/sys/fs/cgroup",
        &device.cgroup_root("device-a"),
        device.pods("device-a"),
    );
    let mut workload = Workload::new("cgroup");
    for qos in [QosClass::BestEffort, QosClass::Burstable, QosClass::Guaranteed] {
        workload.sandbox.qos = qos;
        for _ in 0..2 {
            assert_eq!(
                cgroups.ensure_pod(&workload.sandbox).unwrap(),
                cgroups.pod(qos, &workload.uid())
            );
        }
    }
    for _ in 0..2 {
        cgroups.remove_pod(&workload.uid()).unwrap();
    }
}

#[tokio::test]
async fn what_a_workload_uses_is_measured() {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    let mut workload = Workload::new("measured");
    workload.sandbox.qos = QosClass::Burstable;
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let script = "dd if=/dev/zero of=/layer bs=1M count=2; sleep 1000 & sleep 1000 & echo ready; wait";
    started(&runtime, workload.start(&sandbox, "main", 0, script)).await;
    logged(&workload.log(&device.logs("device-a"), "main", 0), "ready").await;
    // The runtime looks at layers by its own clock.
    let usage = eventually("the layer is measured", async || {
        let usage = runtime.workloads().await.unwrap()?.remove(&workload.uid())?;
        (usage.layer_bytes() >= 2 * MIB).then_some(usage)
    })
    .await;
    assert_eq!(usage.processes, 3, "the sandbox's own is nobody's");
    assert!(usage.layer_inodes > 0 && usage.memory_bytes > 0, "{usage:?}");
    let images = runtime
        .images_directory()
        .await
        .unwrap()
        .expect("containerd says where");
    assert!(images.is_dir(), "{images:?}");
}
