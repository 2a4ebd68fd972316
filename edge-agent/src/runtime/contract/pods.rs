//! What a container sees of its pod, looked at from inside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use edge_agent_core::step::{InContainer, ObservedState, ProbeKind, Step, StepOutcome};
use edge_protocol::Digest;
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{
    Action, ContainerSecurity, ContainerSpec, DnsPolicy, DnsSpec, EnvFrom, EnvVar, HostAlias, HostPathCheck,
    Manifest, Medium, MountSpec, Namespaces, ObjectData, ObjectKind, ObjectRef, PodField, Profile,
    ProjectedSource, Propagation, QosClass, Reason, RecursiveReadOnly, Resources, SubPath,
    TerminationMessage, VERSION, ValueFrom, VolumeSource, VolumeSpec,
};

use super::containerd::eventually;
use super::given::{IMAGE, Workload};
use super::real::Device;
use super::{done, exited, started};
use crate::runtime::{ContainerRuntime, CriRuntime};

/// One pod on a device of its own.
struct Pod {
    device: Device,
    runtime: CriRuntime,
    workload: Workload,
}

impl Pod {
    async fn new(name: &str, write: impl FnOnce(&mut Manifest)) -> Self {
        let device = Device::start().await;
        let mut workload = Workload::new(name);
        write(Arc::make_mut(&mut workload.sandbox.manifest));
        let runtime = device.runtime("device-a");
        Self {
            device,
            runtime,
            workload,
        }
    }

    fn put(&mut self, kind: &str, name: &str, text: &[(&str, &str)]) {
        let text = text
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        let data = ObjectData {
            v: VERSION,
            kind: kind.into(),
            name: name.into(),
            text: text.collect(),
            binary: BTreeMap::new(),
        };
        let body = serde_json::to_string(&data).unwrap();
        let digest = Digest::of(&body);
        self.device.objects.put(digest, body);
        let manifest = Arc::make_mut(&mut self.workload.sandbox.manifest);
        manifest.objects.retain(|object| object.name != name);
        manifest.objects.push(ObjectRef {
            kind: kind.into(),
            name: name.into(),
            digest,
            sealed: false,
        });
    }

    fn sync(&self, pod_ip: Option<String>) -> Step {
        Step::SyncVolumes {
            manifest: self.workload.sandbox.manifest.clone(),
            pod_ip,
        }
    }

    /// Has the volumes and the sandbox; gives its id and address.
    async fn up(&self) -> (String, Option<String>) {
        done(&self.runtime, self.sync(None)).await;
        match self.runtime.run(self.workload.run_sandbox(0)).await {
            StepOutcome::Sandbox { sandbox_id, ip } => (sandbox_id, ip),
            other => panic!("{other:?}"),
        }
    }

    fn start(&self, (sandbox_id, pod_ip): &(String, Option<String>), container: ContainerSpec) -> Step {
        self.workload.start_as(sandbox_id, pod_ip.clone(), container)
    }

    /// Runs a container to its end; gives what it printed, by line, and its end.
    async fn run(
        &self,
        up: &(String, Option<String>),
        container: ContainerSpec,
    ) -> (Vec<String>, ObservedState) {
        let name = container.name.clone();
        let id = started(&self.runtime, self.start(up, container)).await;
        let end = exited(&self.runtime, &id).await.state;
        let log = self.workload.log(&self.device.logs("device-a"), &name, 0);
        // The runtime copies what was printed on its own time.
        let text = eventually("the log is whole", async || {
            let text = fs::read_to_string(&log).ok()?;
            text.contains(" the end\n").then_some(text)
        })
        .await;
        let line = |line: &str| line.splitn(4, ' ').nth(3).map(str::to_owned);
        (text.lines().filter_map(line).collect(), end)
    }

    async fn refused(&self, up: &(String, Option<String>), container: ContainerSpec) -> (Reason, String) {
        match self.runtime.run(self.start(up, container)).await {
            StepOutcome::Failed { reason, message } => (reason, message),
            other => panic!("{other:?}"),
        }
    }
}

fn shell(name: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        command: vec!["sh".into(), "-c".into()],
        args: vec![format!("{script}\necho the end; exit $code")],
        ..ContainerSpec::new(name, IMAGE)
    }
}

fn volume(name: &str, source: VolumeSource) -> VolumeSpec {
    VolumeSpec {
        name: name.into(),
        source,
    }
}

fn mount(volume: &str, path: &str, sub_path: Option<&str>) -> MountSpec {
    MountSpec {
        volume: volume.into(),
        mount_path: path.into(),
        sub_path: sub_path.map(|path| SubPath::Expand(path.into())),
        read_only: false,
        recursive_read_only: RecursiveReadOnly::Disabled,
        propagation: Propagation::None,
    }
}

fn empty(medium: Medium) -> VolumeSource {
    VolumeSource::EmptyDir {
        medium,
        size_limit_bytes: None,
    }
}

fn files(object: ObjectKind, name: &str) -> VolumeSource {
    VolumeSource::Projected {
        sources: vec![ProjectedSource::Object {
            object,
            name: name.into(),
            items: Vec::new(),
            optional: false,
        }],
        default_mode: 0o640,
    }
}

#[track_caller]
fn has(lines: &[String], line: &str) {
    assert!(
        lines.iter().any(|printed| printed == line),
        "{line:?} in {lines:#?}"
    );
}

#[tokio::test]
async fn variables_and_arguments_are_made_at_the_start() {
    let mut pod = Pod::new("env", |_| {}).await;
    pod.put(kind::CONFIG_MAP, "settings", &[("COLOUR", "blue")]);
    pod.put(kind::SERVICES, "services", &[("DB_SERVICE_HOST", "10.0.0.9")]);
    let up = pod.up().await;
    let field = EnvVar {
        from: Some(ValueFrom::Field {
            field: PodField::PodIp,
        }),
        ..EnvVar::literal("ADDRESS", "")
    };
    let container = ContainerSpec {
        expand: true,
        env_from: vec![EnvFrom {
            prefix: "P_".into(),
            object: ObjectKind::ConfigMap,
            name: "settings".into(),
            optional: false,
        }],
        env: vec![field, EnvVar::literal("ALL", "$(P_COLOUR) $(DB_SERVICE_HOST)")],
        ..shell(
            "main",
            "echo arg $(ALL) $$(P_COLOUR); echo env $ALL $ADDRESS $DB_SERVICE_HOST",
        )
    };
    let started = pod.runtime.run(pod.start(&up, container)).await;
    assert!(matches!(started, StepOutcome::Started { .. }), "{started:?}");
    let log = pod.workload.log(&pod.device.logs("device-a"), "main", 0);
    super::real::logged(&log, "arg blue 10.0.0.9").await;
    super::real::logged(
        &log,
        &format!("env blue 10.0.0.9 {} 10.0.0.9", up.1.as_deref().unwrap()),
    )
    .await;

    let waits = ContainerSpec {
        env_from: vec![EnvFrom {
            prefix: String::new(),
            object: ObjectKind::Secret,
            name: "absent".into(),
            optional: false,
        }],
        ..shell("waits", "")
    };
    let refused = pod.refused(&up, waits).await;
    assert_eq!(
        refused,
        (
            Reason::CreateContainerConfigError,
            "secret \"absent\" not found".into()
        )
    );
}

#[tokio::test]
async fn volumes_are_seen_change_and_go() {
    let shown = tempfile::tempdir().unwrap();
    fs::write(shown.path().join("kept"), "of the device").unwrap();
    let path = shown.path().to_str().unwrap().to_owned();
    let mut pod = Pod::new("volumes", |manifest| {
        manifest.workload.security.fs_group = Some(4711);
        manifest.workload.volumes = vec![
            volume("memory", empty(Medium::Memory)),
            volume("disk", empty(Medium::Disk)),
            volume("keys", files(ObjectKind::Secret, "keys")),
            volume(
                "host",
                VolumeSource::HostPath {
                    path,
                    check: HostPathCheck::Directory,
                },
            ),
        ];
    })
    .await;
    pod.put(kind::SECRET, "keys", &[("password", "hunter2")]);
    let up = pod.up().await;
    let script = "cat /keys/password; echo; stat -L -c 'mode %a %u %g' /keys/password; stat -c 'root %a %g' /disk
        echo x > /keys/password || echo keys are read-only
        echo x > /host/kept || echo the host path is read-only
        echo made > /sub/file; cat /disk/logs/main/file; grep -q ' /memory tmpfs ' /proc/mounts && echo in memory
        sleep 1000";
    let container = ContainerSpec {
        env: vec![EnvVar::literal("NAME", "main")],
        mounts: vec![
            mount("memory", "/memory", None),
            mount("disk", "/disk", None),
            mount("disk", "/sub", Some("logs/$(NAME)")),
            mount("keys", "/keys", None),
            MountSpec {
                read_only: true,
                ..mount("host", "/host", None)
            },
        ],
        ..shell("main", script)
    };
    let id = started(&pod.runtime, pod.start(&up, container)).await;
    let log = pod.workload.log(&pod.device.logs("device-a"), "main", 0);
    super::real::logged(&log, "in memory").await;
    let text = fs::read_to_string(&log).unwrap();
    for line in [
        "hunter2",
        "mode 640 0 4711",
        "root 2777 4711",
        "keys are read-only",
        "the host path is read-only",
        "made",
    ] {
        assert!(text.contains(&format!(" {line}\n")), "{line}: {text}");
    }

    // A changed secret reaches the running container.
    pod.put(kind::SECRET, "keys", &[("password", "rotated")]);
    done(&pod.runtime, pod.sync(up.1.clone())).await;
    let client = pod.device.containerd.client();
    let cat = ["cat".to_owned(), "/keys/password".to_owned()];
    let seen = client
        .exec_sync(&id, cat.to_vec(), std::time::Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(seen.stdout, b"rotated");

    done(
        &pod.runtime,
        Step::StopSandbox {
            sandbox_id: up.0.clone(),
        },
    )
    .await;
    let uid = pod.workload.uid();
    done(
        &pod.runtime,
        Step::RemoveSandbox {
            sandbox_id: up.0,
            uid: uid.clone(),
        },
    )
    .await;
    done(&pod.runtime, Step::RemoveWorkload { uid }).await;
    let left: Vec<PathBuf> = fs::read_dir(pod.device.pods("device-a"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(left, [] as [PathBuf; 0]);
    assert_eq!(
        fs::read_to_string(shown.path().join("kept")).unwrap(),
        "of the device"
    );
}

#[tokio::test]
async fn names_security_and_last_words_are_the_pods() {
    let pod = Pod::new("identity", |manifest| {
        let workload = &mut manifest.workload;
        workload.names.fqdn = Some("identity.sub.default.svc.cluster.local".into());
        workload.names.hostname_is_fqdn = true;
        workload.names.host_aliases = vec![HostAlias {
            ip: "10.9.9.9".into(),
            hostnames: vec!["db".into()],
        }];
        workload.names.dns = DnsSpec {
            policy: DnsPolicy::None,
            nameservers: vec!["192.0.2.53".into()],
            searches: vec!["lab.example".into()],
            options: vec!["ndots:2".into()],
        };
        workload.security.supplemental_groups = vec![4712];
        workload.security.sysctls =
            BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".into(), "81".into())]);
    })
    .await;
    let up = pod.up().await;
    let container = ContainerSpec {
        security: ContainerSecurity {
            run_as_user: Some(1234),
            run_as_group: Some(1235),
            run_as_non_root: true,
            no_new_privileges: true,
            read_only_root_filesystem: true,
            drop_capabilities: vec!["ALL".into()],
            seccomp: Some(Profile::RuntimeDefault),
            ..ContainerSecurity::default()
        },
        termination_message: Some(TerminationMessage {
            path: "/dev/termination-log".into(),
            fall_back_to_log: true,
        }),
        working_dir: Some("/tmp".into()),
        ..shell(
            "main",
            "echo name $(hostname); cat /etc/hosts /etc/resolv.conf; id; pwd
            grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /x 2>/dev/null || echo the root is read-only
            cat /proc/sys/net/ipv4/ip_unprivileged_port_start
            echo 'first line\nsecond' > /dev/termination-log; code=3",
        )
    };
    let (lines, end) = Box::pin(pod.run(&up, container)).await;
    let fqdn = "identity.sub.default.svc.cluster.local";
    has(&lines, &format!("name {fqdn}"));
    has(&lines, &format!("{}\t{fqdn}\tidentity", up.1.as_deref().unwrap()));
    for line in [
        "10.9.9.9\tdb",
        "nameserver 192.0.2.53",
        "search lab.example",
        "options ndots:2",
        "uid=1234 gid=1235 groups=1235,4712",
        "/tmp",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "the root is read-only",
        "81",
    ] {
        has(&lines, line);
    }
    let ObservedState::Exited {
        exit_code: 3,
        message,
        ..
    } = end
    else {
        panic!("{end:?}")
    };
    assert_eq!(message, "first line\nsecond\n");
}

#[tokio::test]
async fn without_last_words_the_log_counts_and_root_is_refused() {
    let pod = Pod::new("words", |manifest| {
        manifest.workload.namespaces = Namespaces {
            host_network: true,
            share_process_namespace: true,
            ..Namespaces::default()
        };
    })
    .await;
    let up = pod.up().await;
    let container = ContainerSpec {
        termination_message: Some(TerminationMessage {
            path: "/dev/termination-log".into(),
            fall_back_to_log: true,
        }),
        ..shell("main", "head -1 /etc/hosts; ls -d /proc/[0-9]* | wc -l; code=1")
    };
    let (lines, end) = Box::pin(pod.run(&up, container)).await;
    has(&lines, "# Kubernetes-managed hosts file (host network).");
    assert!(
        lines[1].parse::<u32>().unwrap() > 1 + 2,
        "the sandbox's process is seen: {lines:?}"
    );
    let ObservedState::Exited { message, .. } = end else {
        panic!("{end:?}")
    };
    assert!(message.ends_with("the end\n"), "{message}");

    let as_root = ContainerSpec {
        security: ContainerSecurity {
            run_as_non_root: true,
            ..ContainerSecurity::default()
        },
        ..shell("root", "")
    };
    let (reason, message) = pod.refused(&up, as_root).await;
    assert_eq!(reason, Reason::CreateContainerConfigError);
    assert!(
        message.starts_with("container has runAsNonRoot and image will run as root"),
        "{message}"
    );
}

#[tokio::test]
async fn probes_and_hooks_are_done_in_the_container() {
    let pod = Pod::new("hooks", |_| {}).await;
    let up = pod.up().await;
    let polite = "trap 'cat /tmp/hook; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let id = started(&pod.runtime, pod.start(&up, shell("main", polite))).await;
    let log = pod.workload.log(&pod.device.logs("device-a"), "main", 0);
    super::real::logged(&log, "ready").await;
    let exec = |script: &str| InContainer {
        container_id: id.clone(),
        action: Action::Exec {
            command: ["sh", "-c", script].map(str::to_owned).into(),
        },
        pod_ip: up.1.clone(),
    };
    let probe = async |script: &str| {
        let step = Step::Probe {
            kind: ProbeKind::Liveness,
            target: Box::new(exec(script)),
            timeout_s: 1,
        };
        match pod.runtime.run(step).await {
            StepOutcome::Probed { success, output } => (success, output),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(probe("echo fine").await, (true, "fine\n".into()));
    assert_eq!(
        probe("echo out; echo bad >&2; exit 3").await,
        (false, "out\nbad\n".into())
    );
    let late = "command timed out: \"sh -c sleep 100\" timed out after 1s";
    assert_eq!(probe("sleep 100").await, (false, late.into()));
    let absent = InContainer {
        action: Action::Exec {
            command: vec!["/nowhere".into()],
        },
        ..exec("")
    };
    let step = Step::Probe {
        kind: ProbeKind::Startup,
        target: Box::new(absent),
        timeout_s: 1,
    };
    let outcome = pod.runtime.run(step).await;
    assert!(matches!(outcome, StepOutcome::Failed { .. }), "{outcome:?}");

    done(
        &pod.runtime,
        Step::PostStart(Box::new(exec("echo started >> /tmp/hook"))),
    )
    .await;
    let StepOutcome::Failed { reason, message } = pod
        .runtime
        .run(Step::PostStart(Box::new(exec("echo why; exit 4"))))
        .await
    else {
        panic!("the hook fails")
    };
    assert_eq!(reason, Reason::PostStartHookError);
    let words = "Exec lifecycle hook ([sh -c echo why; exit 4]) for Container \"main\" in Pod \"hooks_default(uid-hooks)\" failed - error: command 'sh -c echo why; exit 4' exited with 4: , message: \"why\\n\"";
    assert_eq!(message, words);

    let stop = |script: &str, grace_s| Step::StopContainer {
        container_id: id.clone(),
        grace_s,
        pre_stop: Some(Box::new(exec(script))),
    };
    done(&pod.runtime, stop("echo about to stop >> /tmp/hook", 30)).await;
    super::real::logged(&log, "about to stop").await;
    assert!(matches!(
        exited(&pod.runtime, &id).await.state,
        ObservedState::Exited { exit_code: 0, .. }
    ));
    // One that has ended has nothing to be stopped from.
    done(&pod.runtime, stop("true", 30)).await;
}

#[tokio::test]
async fn a_hook_that_fails_or_takes_too_long_does_not_keep_the_container() {
    let pod = Pod::new("slow", |_| {}).await;
    let up = pod.up().await;
    for (name, hook, grace_s, failed) in [("fails", "exit 1", 30, true), ("slow", "sleep 1000", 1, false)] {
        let polite = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done";
        let id = started(&pod.runtime, pod.start(&up, shell(name, polite))).await;
        let log = pod.workload.log(&pod.device.logs("device-a"), name, 0);
        super::real::logged(&log, "ready").await;
        let hook = InContainer {
            container_id: id.clone(),
            action: Action::Exec {
                command: ["sh", "-c", hook].map(str::to_owned).into(),
            },
            pod_ip: None,
        };
        let stop = Step::StopContainer {
            container_id: id.clone(),
            grace_s,
            pre_stop: Some(Box::new(hook)),
        };
        let outcome = pod.runtime.run(stop).await;
        assert_eq!(
            matches!(outcome, StepOutcome::HookFailed { .. }),
            failed,
            "{name}: {outcome:?}"
        );
        // The signal had its two seconds.
        let state = exited(&pod.runtime, &id).await.state;
        assert!(
            matches!(state, ObservedState::Exited { exit_code: 5, .. }),
            "{name}: {state:?}"
        );
    }
}

#[tokio::test]
async fn a_running_container_is_held_to_other_resources() {
    const MIB: u64 = 1 << 20;
    let container = ContainerSpec {
        resources: Resources {
            cpu_request_milli: Some(100),
            cpu_limit_milli: Some(200),
            memory_request_bytes: Some(32 * MIB),
            memory_limit_bytes: Some(64 * MIB),
            ..Resources::default()
        },
        ..shell("main", "sleep 1000")
    };
    let of_pod = container.clone();
    let mut pod = Pod::new("resized", |manifest| manifest.workload.containers.push(of_pod)).await;
    pod.workload.sandbox.qos = QosClass::Burstable;
    let up = pod.up().await;
    let id = started(&pod.runtime, pod.start(&up, container)).await;
    // containerd 1.6 does not tell; the kernel does.
    let limit = |pod: &Pod| {
        let cgroup = format!(
            "{}/{}/device-a/burstable",
            "/sys/fs/cgroup",
            pod.device.containerd.cgroup()
        );
        let of = format!("pod{}/{id}", pod.workload.uid());
        let v2 = fs::read_to_string(format!("{cgroup}/{of}/memory.max"));
        let v1 = cgroup.replacen("/cgroup/", "/cgroup/memory/", 1);
        v2.or_else(|_| fs::read_to_string(format!("{v1}/{of}/memory.limit_in_bytes")))
            .ok()
    };
    for mib in [128, 48] {
        pod.workload.sandbox.memory_limit_bytes = Some(mib * MIB);
        let resize = Step::Resize {
            container_id: id.clone(),
            resources: Resources {
                cpu_limit_milli: Some(300),
                memory_limit_bytes: Some(mib * MIB),
                ..Resources::default()
            },
            sandbox: Box::new(pod.workload.sandbox.clone()),
        };
        done(&pod.runtime, resize).await;
        let now = limit(&pod).map(|text| text.trim().to_owned());
        assert_eq!(now, Some((mib * MIB).to_string()));
    }
}

#[tokio::test]
async fn what_the_device_forbids_is_not_even_begun() {
    let pod = Pod::new("forbidden", |manifest| {
        manifest.workload.namespaces.host_pid = true;
        manifest.workload.volumes = vec![volume("disk", empty(Medium::Disk))];
    })
    .await;
    for step in [pod.sync(None), pod.workload.run_sandbox(0)] {
        let outcome = pod.runtime.run(step).await;
        let StepOutcome::Failed { reason, message } = outcome else {
            panic!("{outcome:?}")
        };
        let words = "the device's policy forbids it: forbid_host_pid: the pod wants the device's own";
        assert_eq!((reason, message.as_str()), (Reason::DevicePolicy, words));
    }
    assert!(!pod.device.pods("device-a").exists());
    assert!(pod.runtime.observe().await.unwrap().sandboxes.is_empty());
}
