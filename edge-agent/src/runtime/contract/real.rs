//! What only a real containerd can show: limits, files, networks, neighbours and restarts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_agent_core::step::{ObservedState, Step, StepOutcome};
use edge_agent_cri::CriOptions;
use edge_agent_cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, PodSandboxConfig, PodSandboxMetadata,
};
use edge_protocol::Digest;
use edge_protocol::v1::{PortProtocol, PortSpec, QosClass, Reason, Resources};

use super::containerd::{Containerd, eventually};
use super::given::{IMAGE, Workload, restart_digest};
use super::{done, exited, find, started, within};
use crate::objects::Objects;
use crate::runtime::cgroup::Cgroups;
use crate::runtime::names::Resolver;
use crate::runtime::policy::Policy;
use crate::runtime::sources::Capacity;
use crate::runtime::{ContainerRuntime, CriRuntime, CriRuntimeOptions};

/// The machine's memory, as OOM scores are computed from it here.
const CAPACITY: u64 = 4 << 30;
const MIB: u64 = 1 << 20;

/// A machine with one containerd, for one agent or several.
pub struct Device {
    pub containerd: Containerd,
    pub objects: Objects,
}

impl Device {
    pub async fn start() -> Self {
        Self {
            containerd: Containerd::start().await,
            objects: Objects::default(),
        }
    }

    /// Where the agent keeps its workloads' files.
    pub fn pods(&self, agent: &str) -> PathBuf {
        self.containerd.scratch().join(format!("{agent}-pods"))
    }

    pub fn logs(&self, agent: &str) -> PathBuf {
        self.containerd.scratch().join(format!("{agent}-logs"))
    }

    /// A new process's view: nothing is remembered from an earlier call.
    pub fn runtime(&self, agent: &str) -> CriRuntime {
        CriRuntime::new(CriRuntimeOptions {
            cri: CriOptions::new(self.containerd.socket()),
            agent: agent.parse().expect("a good id"),
            cgroup_root: self.cgroup_root(agent),
            cgroup_mount: "/sys/fs/cgroup".into(),
            log_root: self.logs(agent),
            capacity: Capacity {
                memory_bytes: CAPACITY,
                ..Capacity::default()
            },
            pods: self.pods(agent),
            objects: self.objects.clone(),
            resolver: Resolver {
                resolv_conf: Some("/etc/resolv.conf".into()),
                ..Resolver::default()
            },
            seccomp_dir: self.containerd.scratch().join("seccomp"),
            policy: Policy {
                forbid_host_pid: true,
                ..Policy::default()
            },
        })
    }

    fn cgroup_root(&self, agent: &str) -> String {
        format!("{}/{agent}", self.containerd.cgroup())
    }
}

/// Waits until a log has a line that contains `text`.
pub async fn logged(log: &Path, text: &str) {
    eventually("the line is logged", async || {
        fs::read_to_string(log)
            .is_ok_and(|log| log.contains(text))
            .then_some(())
    })
    .await;
}

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
    assert!(workload.log(&device.logs("device-a"), "main", 0).exists());
    done(&runtime, Step::RemoveWorkload { uid: workload.uid() }).await;
    assert_eq!(fs::read_dir(device.logs("device-a")).unwrap().count(), 0);
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
        let left = hierarchy.unwrap().path().join(pod.trim_start_matches('/'));
        assert!(!left.exists(), "{left:?}");
    }
}

#[tokio::test]
async fn the_log_of_the_last_attempt_stays_beside_the_present_one() {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    let workload = Workload::new("crashes");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    for attempt in 0..4 {
        let id = started(
            &runtime,
            workload.start(&sandbox, "main", attempt, "echo here; exit 1"),
        )
        .await;
        exited(&runtime, &id).await;
    }
    let there = [0, 1, 2, 3].map(|attempt| workload.log(&device.logs("device-a"), "main", attempt).exists());
    assert_eq!(there, [false, false, true, true]);
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
async fn neighbours_are_left_alone() {
    let device = Device::start().await;
    let (a, b) = (device.runtime("device-a"), device.runtime("device-b"));
    let client = device.containerd.client();
    let stranger = client.run_pod_sandbox(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "stranger".into(),
            uid: "stranger".into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        ..Default::default()
    });
    let stranger = stranger.await.unwrap();
    // The same fleet pod on both: same names, same uid.
    let workload = Workload::new("shared");
    let sandbox_a = started(&a, workload.run_sandbox(0)).await;
    let sandbox_b = started(&b, workload.run_sandbox(0)).await;
    let container_a = started(&a, workload.start(&sandbox_a, "main", 0, "sleep 1000")).await;
    let container_b = started(&b, workload.start(&sandbox_b, "main", 0, "sleep 1000")).await;
    assert_ne!(sandbox_a, sandbox_b);

    let seen = a.observe().await.unwrap();
    assert_eq!(
        seen.sandboxes.iter().map(|s| &s.id).collect::<Vec<_>>(),
        [&sandbox_a]
    );
    assert_eq!(
        seen.containers.iter().map(|c| &c.id).collect::<Vec<_>>(),
        [&container_a]
    );
    for step in [
        Step::StopContainer {
            container_id: container_b.clone(),
            grace_s: 0,
            pre_stop: None,
        },
        Step::RemoveContainer {
            container_id: container_b.clone(),
        },
        Step::StopSandbox {
            sandbox_id: sandbox_b.clone(),
        },
        Step::RemoveSandbox {
            sandbox_id: sandbox_b.clone(),
            uid: workload.uid(),
        },
        Step::StopSandbox {
            sandbox_id: stranger.clone(),
        },
        Step::RemoveSandbox {
            sandbox_id: stranger.clone(),
            uid: workload.uid(),
        },
    ] {
        let outcome = a.run(step).await;
        assert!(
            matches!(&outcome, StepOutcome::Failed { message, .. } if message.contains("somebody else")),
            "{outcome:?}"
        );
    }
    done(
        &a,
        Step::StopSandbox {
            sandbox_id: sandbox_a.clone(),
        },
    )
    .await;
    done(
        &a,
        Step::RemoveSandbox {
            sandbox_id: sandbox_a,
            uid: workload.uid(),
        },
    )
    .await;
    done(&a, Step::RemoveWorkload { uid: workload.uid() }).await;
    let state = find(&b, &container_b).await.unwrap().state;
    assert!(matches!(state, ObservedState::Running { .. }), "{state:?}");
    assert!(
        b.observe()
            .await
            .unwrap()
            .sandboxes
            .iter()
            .all(|sandbox| sandbox.ready)
    );
    assert_eq!(client.list_pod_sandboxes(BTreeMap::new()).await.unwrap().len(), 2);
}

/// An empty runtime is looked at every ten seconds; its first container is watched closely all the same.
#[tokio::test]
async fn the_end_of_a_first_container_is_seen_soon() {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    runtime.observe().await.unwrap();
    let changed = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.changed().await }
    });
    let workload = Workload::new("short");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let container = started(&runtime, workload.start(&sandbox, "main", 0, "sleep 1")).await;
    runtime.observe().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), changed)
        .await
        .expect("the wait of the empty runtime is over")
        .unwrap();
    exited(&runtime, &container).await;
}

#[tokio::test]
async fn a_restart_of_either_side_disturbs_nothing() {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    let workload = Workload::new("steady");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    started(&runtime, workload.start(&sandbox, "main", 0, "sleep 1000")).await;
    let before = runtime.observe().await.unwrap();

    // A new process of the agent sees the very same.
    let runtime = device.runtime("device-a");
    assert_eq!(runtime.observe().await.unwrap(), before);

    device.containerd.kill_daemon();
    let away = eventually("containerd is away", async || runtime.observe().await.err()).await;
    assert_eq!(away.to_string(), "the container runtime cannot be looked at");
    within("its return wakes", runtime.changed()).await;
    device.containerd.ready().await;
    assert_eq!(runtime.observe().await.unwrap(), before);
}

/// Also the golden form of our labels: the next version must find what this one left.
#[tokio::test]
async fn an_interrupted_start_is_finished() {
    let device = Device::start().await;
    let (runtime, client) = (device.runtime("device-a"), device.containerd.client());
    let workload = Workload::new("interrupted");
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let map = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    };
    let current = restart_digest().to_string();
    for (name, digest, survives) in [
        ("same", current.as_str(), true),
        ("other", &Digest::of("another specification").to_string(), false),
    ] {
        let pod = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "interrupted".into(),
                uid: "uid-interrupted.device-a".into(),
                namespace: "default".into(),
                attempt: 0,
            }),
            ..Default::default()
        };
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: name.into(),
                attempt: 0,
            }),
            image: Some(ImageSpec {
                image: IMAGE.into(),
                ..Default::default()
            }),
            command: vec!["sleep".into(), "1000".into()],
            labels: map(&[
                ("outrigger.io/agent", "device-a"),
                ("io.kubernetes.pod.name", "interrupted"),
                ("io.kubernetes.pod.namespace", "default"),
                ("io.kubernetes.pod.uid", "uid-interrupted"),
                ("io.kubernetes.container.name", name),
            ]),
            annotations: map(&[
                ("outrigger.io/restart-digest", digest),
                ("io.kubernetes.container.restartCount", "0"),
            ]),
            ..Default::default()
        };
        let created = client.create_container(&sandbox, config, pod).await.unwrap();
        let seen = find(&runtime, &created).await.expect("carries our labels");
        assert_eq!(
            (seen.uid, seen.name.as_str(), seen.state),
            (workload.uid(), name, ObservedState::Created)
        );
        let id = started(&runtime, workload.start(&sandbox, name, 0, "sleep 1000")).await;
        assert_eq!(id == created, survives, "{name}");
        let seen = find(&runtime, &id).await.expect("runs");
        assert_eq!(seen.restart_digest, restart_digest());
        assert!(matches!(seen.state, ObservedState::Running { .. }), "{seen:?}");
    }
    assert_eq!(runtime.observe().await.unwrap().containers.len(), 2);
}

#[tokio::test]
async fn a_host_port_leads_to_the_container() {
    let device = Device::start().await;
    let runtime = device.runtime("device-a");
    let mut workload = Workload::new("web");
    workload.sandbox.ports = vec![PortSpec {
        name: None,
        container_port: 80,
        host_port: Some(8080),
        host_ip: None,
        protocol: PortProtocol::Tcp,
    }];
    let sandbox = started(&runtime, workload.run_sandbox(0)).await;
    let script = "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp";
    started(&runtime, workload.start(&sandbox, "main", 0, script)).await;
    // bash's own sockets: Debian's static busybox crashes in its resolver.
    let get = r"exec 3<>/dev/tcp/10.99.0.1/8080; printf 'GET / HTTP/1.0\r\n\r\n' >&3; cat <&3";
    eventually("the page is served", async || {
        let page = device.containerd.in_network(&["timeout", "2", "bash", "-c", get]);
        page.is_ok_and(|page| page.ends_with("\r\n\r\nhello\n"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_cgroup_is_made_and_removed_repeatedly() {
    let device = Device::start().await;
    let cgroups = Cgroups::new("/sys/fs/cgroup", &device.cgroup_root("device-a"));
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
