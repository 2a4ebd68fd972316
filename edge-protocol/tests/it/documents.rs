//! One golden file per document.

use std::collections::BTreeMap;

use edge_protocol::v1::up::HeldSet;
use edge_protocol::v1::{
    AckStage, Action, Amounts, Bytes, ClaimPlugin, ContainerResource, ContainerSecurity, ContainerSpec,
    ContainerState, ContainerStatus, DeferredResize, DeviceEvent, DnsPolicy, DnsSpec, Down, DownFrame,
    DownwardValue, EnvFrom, EnvVar, EventLevel, EventReport, Facts, Header, HeldImage, Hello, HostAlias,
    HostPathCheck, KeyToPath, KeyWrap, Lifecycle, Manifest, Medium, MountSpec, Names, Namespaces, ObjectData,
    ObjectKind, ObjectRef, Phase, PodField, PodSecurity, PortProtocol, PortSpec, Probe, Probes, Profile,
    ProjectedSource, Propagation, PullPolicy, QosClass, Reason, RecursiveReadOnly, ReportAck, ResizeFailure,
    ResizeResource, Resizing, ResourceField, Resources, RestartAction, RestartPolicy, RestartRule, Rung,
    SealedObject, SetAck, StatementBody, StatusReport, SubPath, Terminal, TerminationMessage, Tombstone,
    TombstoneReason, Up, UpFrame, ValueFrom, VolumeSource, VolumeSpec, WorkloadSpec, WorkloadStatus, ability,
    bounded_images, object,
};
use edge_protocol::{
    DeploymentRevision, DesiredSet, DeviceTime, Digest, Incarnation, ItemState, Nonce, PodUid, SessionEpoch,
    SetGeneration, SetItem,
};

use crate::fixture::check;
use crate::refusals::{boot, statement};

fn uid(n: u32) -> PodUid {
    PodUid::new(format!("00000000-0000-4000-8000-{n:012}")).unwrap()
}

fn time() -> DeviceTime {
    DeviceTime {
        boot_id: boot(),
        mono_ms: 61_000,
        wall_ms: 1_795_219_200_000,
        wall_trusted: true,
    }
}

fn generation(n: u64) -> SetGeneration {
    SetGeneration {
        incarnation: Incarnation(1_795_000_000_000),
        n,
    }
}

fn up(seq: u64, body: Up) -> UpFrame {
    let session = (seq > 0).then_some(SessionEpoch(7));
    UpFrame {
        v: 1,
        session,
        incarnation: Some(generation(0).incarnation),
        seq,
        time: time(),
        body,
    }
}

#[test]
fn manifest() {
    let container = ContainerSpec {
        command: vec!["/server".into()],
        args: vec!["http".into()],
        working_dir: Some("/srv".into()),
        env: vec![EnvVar::literal("COLOUR", "blue")],
        ports: vec![PortSpec {
            name: Some("http".into()),
            container_port: 8080,
            host_port: Some(80),
            host_ip: None,
            protocol: PortProtocol::Tcp,
        }],
        resources: Resources {
            cpu_limit_milli: Some(250),
            memory_limit_bytes: Some(64 << 20),
            ..Resources::default()
        },
        restart_digest: Digest::of("web"),
        ..ContainerSpec::new("web", "registry.example/server:v1")
    };
    check(
        "manifest",
        &Manifest {
            v: 1,
            uid: uid(1),
            namespace: "default".into(),
            name: "web-1".into(),
            labels: BTreeMap::from([("app".into(), "web".into())]),
            annotations: BTreeMap::new(),
            workload: WorkloadSpec {
                qos: QosClass::Burstable,
                ..WorkloadSpec::new("web-1", vec![container])
            },
            objects: vec![ObjectRef {
                kind: "ConfigMap".into(),
                name: "settings".into(),
                digest: Digest::of("settings"),
                sealed: false,
            }],
            requires: vec!["host-port".into()],
            replaces: vec![uid(2)],
        },
    );
    check(
        "tombstone",
        &Tombstone {
            v: 1,
            uid: uid(1),
            grace_period_s: Some(5),
            reason: TombstoneReason::Deleted,
        },
    );
}

/// Every field that agents did not know from the first day, set to something.
#[test]
#[expect(clippy::too_many_lines, reason = "it is one document")]
fn manifest_of_the_whole_pod() {
    let object = |object, name: &str| ProjectedSource::Object {
        object,
        name: name.into(),
        items: vec![KeyToPath {
            key: "a".into(),
            path: "b/c".into(),
            mode: Some(0o400),
        }],
        optional: true,
    };
    let limits = ResourceField {
        container: "web".into(),
        resource: ContainerResource::LimitsCpu,
        divisor_milli: 1000,
    };
    let field = |field| ValueFrom::Field { field };
    let from = |name: &str, from| EnvVar {
        name: name.into(),
        value: String::new(),
        from: Some(from),
    };
    let probe = |action| {
        Some(Probe {
            action,
            initial_delay_s: 1,
            timeout_s: 2,
            period_s: 3,
            success_threshold: 1,
            failure_threshold: 4,
            termination_grace_period_s: Some(5),
        })
    };
    let web = ContainerSpec {
        env: vec![
            from("IP", field(PodField::PodIp)),
            from("APP", field(PodField::Label("app".into()))),
            from("CPU", ValueFrom::Resource(limits.clone())),
            from(
                "KEY",
                ValueFrom::Object {
                    object: ObjectKind::Secret,
                    name: "db".into(),
                    key: "password".into(),
                    optional: false,
                },
            ),
        ],
        env_from: vec![EnvFrom {
            prefix: "P_".into(),
            object: ObjectKind::ConfigMap,
            name: "settings".into(),
            optional: true,
        }],
        expand: true,
        mounts: vec![MountSpec {
            volume: "data".into(),
            mount_path: "/data".into(),
            sub_path: Some(SubPath::Expand("$(IP)".into())),
            read_only: true,
            recursive_read_only: RecursiveReadOnly::IfPossible,
            propagation: Propagation::HostToContainer,
        }],
        probes: Probes {
            startup: probe(Action::Exec {
                command: vec!["true".into()],
            }),
            liveness: probe(Action::HttpGet {
                path: "/healthz".into(),
                port: 8080,
                host: None,
                tls: true,
                headers: vec![Header {
                    name: "X-A".into(),
                    value: "b".into(),
                }],
            }),
            readiness: probe(Action::Grpc {
                port: 9000,
                service: "shop".into(),
            }),
        },
        lifecycle: Lifecycle {
            post_start: Some(Action::TcpSocket { port: 80, host: None }),
            pre_stop: Some(Action::Sleep { seconds: 3 }),
            stop_signal: Some("SIGUSR1".into()),
        },
        security: ContainerSecurity {
            run_as_user: Some(1000),
            run_as_group: Some(1001),
            run_as_non_root: true,
            privileged: true,
            no_new_privileges: true,
            read_only_root_filesystem: true,
            add_capabilities: vec!["NET_ADMIN".into()],
            drop_capabilities: vec!["ALL".into()],
            seccomp: Some(Profile::RuntimeDefault),
            apparmor: Some(Profile::Localhost("web".into())),
            unmasked_proc: true,
        },
        restart_rules: vec![RestartRule {
            action: RestartAction::Restart,
            among: true,
            exit_codes: vec![42],
        }],
        terminal: Terminal {
            stdin: true,
            stdin_once: true,
            tty: true,
        },
        termination_message: Some(TerminationMessage {
            path: "/dev/termination-log".into(),
            fall_back_to_log: true,
        }),
        resize_restarts: vec![ResizeResource::Memory],
        ..ContainerSpec::new("web", "registry.example/server:v1")
    };
    let volume = |name: &str, source| VolumeSpec {
        name: name.into(),
        source,
    };
    let workload = WorkloadSpec {
        init_containers: vec![ContainerSpec {
            restart_policy: Some(RestartPolicy::Always),
            ..ContainerSpec::new("proxy", "registry.example/proxy:v1")
        }],
        active_deadline_s: Some(600),
        volumes: vec![
            volume(
                "data",
                VolumeSource::EmptyDir {
                    medium: Medium::Memory,
                    size_limit_bytes: Some(1 << 20),
                },
            ),
            volume(
                "host",
                VolumeSource::HostPath {
                    path: "/var/lib/x".into(),
                    check: HostPathCheck::DirectoryOrCreate,
                },
            ),
            volume(
                "files",
                VolumeSource::Projected {
                    sources: vec![
                        object(ObjectKind::ConfigMap, "settings"),
                        ProjectedSource::Downward {
                            path: "labels".into(),
                            value: DownwardValue::Field {
                                field: PodField::Labels,
                            },
                            mode: None,
                        },
                        ProjectedSource::Downward {
                            path: "cpu".into(),
                            value: DownwardValue::Resource(limits),
                            mode: Some(0o444),
                        },
                        ProjectedSource::Token {
                            path: "token".into(),
                            object: "api".into(),
                        },
                    ],
                    default_mode: 0o644,
                },
            ),
            volume(
                "model",
                VolumeSource::Image {
                    reference: "registry.example/model:v1".into(),
                    pull_policy: PullPolicy::Always,
                },
            ),
            volume(
                "disk",
                VolumeSource::Local {
                    claim: "data-web-0".into(),
                    path: "/mnt/disk".into(),
                    check: HostPathCheck::Directory,
                    read_only: true,
                    plugin: ClaimPlugin::HostPath,
                },
            ),
        ],
        security: PodSecurity {
            run_as_user: Some(1000),
            run_as_group: Some(1000),
            supplemental_groups: vec![7],
            strict_supplemental_groups: true,
            fs_group: Some(2000),
            fs_group_on_root_mismatch: true,
            seccomp: Some(Profile::Unconfined),
            sysctls: BTreeMap::from([("net.ipv4.ip_local_port_range".into(), "1024 65535".into())]),
        },
        namespaces: Namespaces {
            host_network: true,
            host_pid: true,
            host_ipc: true,
            share_process_namespace: true,
        },
        names: Names {
            fqdn: Some("web-1.shop.default.svc.cluster.local".into()),
            hostname_is_fqdn: true,
            host_aliases: vec![HostAlias {
                ip: "10.0.0.1".into(),
                hostnames: vec!["db".into()],
            }],
            dns: DnsSpec {
                policy: DnsPolicy::None,
                nameservers: vec!["1.1.1.1".into()],
                searches: vec!["example".into()],
                options: vec!["ndots:2".into()],
            },
        },
        resources: Some(Resources {
            ephemeral_storage_limit_bytes: Some(1 << 30),
            ..Resources::default()
        }),
        overhead: Some(Resources {
            cpu_request_milli: Some(10),
            ..Resources::default()
        }),
        node_name: "press-7".into(),
        service_account: "default".into(),
        priority: 1000,
        ..WorkloadSpec::new("web-1", vec![web])
    };
    check(
        "manifest-whole",
        &Manifest {
            v: 1,
            uid: uid(1),
            namespace: "default".into(),
            name: "web-1".into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            workload,
            objects: Vec::new(),
            requires: vec![ability::PROBES.into()],
            replaces: Vec::new(),
        },
    );
}

#[test]
fn a_manifest_of_a_device_node_says_what_is_kept_back() {
    let workload = WorkloadSpec {
        reserved: Some(Amounts {
            cpu_milli: 500,
            memory_bytes: 1 << 28,
            ephemeral_storage_bytes: 0,
        }),
        ..WorkloadSpec::new("web-1", Vec::new())
    };
    check("workload-reserved", &workload);
    let has = Amounts {
        cpu_milli: 4_000,
        memory_bytes: 1 << 30,
        ephemeral_storage_bytes: 1_000,
    };
    let gives = has.allocatable(workload.reserved.unwrap());
    assert_eq!(
        (gives.cpu_milli, gives.memory_bytes),
        (3_500, (1_024 - 256 - 100) << 20)
    );
    assert_eq!(gives.ephemeral_storage_bytes, 900);
    assert_eq!(Amounts::default().allocatable(has), Amounts::default());
}

#[test]
fn objects_and_their_keys() {
    let key = Digest::of("content key");
    check(
        "object-data",
        &ObjectData {
            v: 1,
            kind: object::kind::CONFIG_MAP.into(),
            name: "settings".into(),
            text: BTreeMap::from([("a".into(), "1".into())]),
            binary: BTreeMap::from([("b".into(), Bytes(vec![0, 255]))]),
        },
    );
    check(
        "object-sealed",
        &SealedObject {
            v: 1,
            kind: object::kind::SECRET.into(),
            name: "db".into(),
            key,
            nonce: Bytes(vec![1; 12]),
            ciphertext: Bytes(vec![2; 20]),
        },
    );
    check(
        "key-wrap",
        &KeyWrap {
            key,
            sealing_key: Digest::of("sealing key"),
            enc: Bytes(vec![3; 32]),
            ciphertext: Bytes(vec![4; 48]),
        },
    );
}

#[test]
fn hello_and_acknowledgement() {
    let set = DesiredSet::default();
    let facts = Facts {
        hostname: "press-7".into(),
        arch: "arm64".into(),
        cpu_milli: 4000,
        ..Facts::default()
    };
    let hello = Hello {
        nonce: Nonce::from_bytes([7; 16]),
        agent_version: "0.1.0".into(),
        features: vec!["host-port".into()],
        held: Some(HeldSet {
            generation: generation(41),
            digest: set.digest(),
        }),
        facts: facts.clone(),
    };
    check("up-hello", &up(0, Up::Hello(Box::new(hello))));
    let ack = SetAck {
        generation: generation(42),
        digest: set.digest(),
        stage: AckStage::Persisted,
    };
    check("up-ack", &up(1, Up::Ack(ack)));
    check("up-heartbeat", &up(2, Up::Heartbeat));
    let keys = vec![Digest::of("content key")];
    check("up-want-keys", &up(3, Up::WantKeys { keys }));
    check("up-bye", &up(3, Up::Bye));
    let facts = Box::new(Facts {
        addresses: vec!["10.64.0.7".into(), "fd00::7".into()],
        ..facts
    });
    check("up-facts", &up(4, Up::Facts { facts: facts.clone() }));
    let images = vec![HeldImage {
        names: vec![
            "registry.example/press@sha256:11".into(),
            "registry.example/press:1".into(),
        ],
        size_bytes: 4_194_304,
    }];
    let facts = Box::new(Facts { images, ..*facts });
    check("up-facts-images", &up(5, Up::Facts { facts }));
}

#[test]
fn the_largest_images_are_told_within_bounds() {
    let image = |size_bytes, names: &[&str]| HeldImage {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        size_bytes,
    };
    let (long, wild) = ("x".repeat(513), "a\u{1b}b");
    let odd = vec![
        image(1, &["small"]),
        image(9, &["large", &long, wild]),
        image(5, &[wild]),
        image(4, &["1", "2", "3", "4", "5", "6"]),
    ];
    let told = [
        image(9, &["large"]),
        image(4, &["1", "2", "3", "4", "5"]),
        image(1, &["small"]),
    ];
    assert_eq!(bounded_images(odd), told);
    let many = |count, length: usize| (0..count).map(|_| image(1, &[&"x".repeat(length)])).collect();
    assert_eq!(bounded_images(many(60, 10)).len(), 50);
    assert_eq!(bounded_images(many(60, 500)).len(), 8, "4 KiB of names");
}

#[test]
fn status_and_events() {
    let terminated = ContainerState::Terminated {
        exit_code: 137,
        reason: Reason::OOMKilled,
        message: String::new(),
        started_at_ms: 1_795_219_100_000,
        finished_at_ms: 1_795_219_190_000,
    };
    let workload = WorkloadStatus {
        uid: uid(1),
        revision: DeploymentRevision(3),
        manifest: Digest::of("manifest"),
        rung: Rung::Applied,
        phase: Phase::Running,
        reason: None,
        message: String::new(),
        containers: vec![ContainerStatus {
            image_id: "sha256:11".into(),
            container_id: "containerd://abc".into(),
            state: ContainerState::Waiting {
                reason: Reason::CrashLoopBackOff,
                message: "back-off 10s restarting failed container".into(),
            },
            last: Some(terminated),
            restart_count: 2,
            ..ContainerStatus::waiting("web", "registry.example/server:v1", Reason::Unknown)
        }],
        init_containers: Vec::new(),
        sandbox_ready: false,
        further_pod_ips: Vec::new(),
        deferred: None,
        resizing: None,
        pod_ip: Some("10.88.0.7".into()),
        started: Some(time()),
        since: time(),
    };
    check(
        "up-status",
        &up(
            4,
            Up::Status(StatusReport {
                upto: 9,
                complete: true,
                workloads: vec![workload],
            }),
        ),
    );
    let event = DeviceEvent {
        seq: 12,
        at: time(),
        uid: uid(1),
        container: Some("web".into()),
        level: EventLevel::Warning,
        reason: Reason::BackOff,
        cause: None,
        message: "Back-off restarting failed container".into(),
    };
    check(
        "up-events",
        &up(5, Up::Events(EventReport { events: vec![event] })),
    );
}

#[test]
fn a_resize_that_is_not_through() {
    let millis = |request, limit| Resources {
        cpu_request_milli: Some(request),
        cpu_limit_milli: Some(limit),
        ..Resources::default()
    };
    let no_room = "Node didn't have enough resource: cpu, requested: 3000, used: 2500, capacity: 4000";
    let workload = WorkloadStatus {
        uid: uid(1),
        revision: DeploymentRevision(4),
        manifest: Digest::of("manifest"),
        rung: Rung::Healthy,
        phase: Phase::Running,
        reason: None,
        message: String::new(),
        containers: vec![ContainerStatus {
            container_id: "containerd://abc".into(),
            state: ContainerState::Running {
                started_at_ms: 1_795_219_100_000,
            },
            ready: true,
            allocated: Some(millis(1_000, 2_000)),
            resources: Some(millis(500, 1_000)),
            ..ContainerStatus::waiting("web", "registry.example/server:v1", Reason::Unknown)
        }],
        init_containers: Vec::new(),
        sandbox_ready: true,
        further_pod_ips: Vec::new(),
        deferred: Some(DeferredResize {
            reason: Reason::OutOfcpu,
            message: no_room.into(),
            since: time(),
        }),
        resizing: Some(Resizing {
            since: time(),
            failure: Some(ResizeFailure {
                message: "device or resource busy".into(),
                since: time(),
            }),
        }),
        pod_ip: None,
        started: Some(time()),
        since: time(),
    };
    let report = StatusReport {
        upto: 9,
        complete: false,
        workloads: vec![workload],
    };
    check("up-status-resize", &up(4, Up::Status(report)));
    let event = DeviceEvent {
        seq: 13,
        at: time(),
        uid: uid(1),
        container: None,
        level: EventLevel::Warning,
        reason: Reason::ResizeDeferred,
        cause: Some(Reason::OutOfcpu),
        message: no_room.into(),
    };
    check(
        "up-events-resize",
        &up(5, Up::Events(EventReport { events: vec![event] })),
    );
}

#[test]
fn statements() {
    let item = |n, state| SetItem {
        uid: uid(n),
        state,
        revision: DeploymentRevision(1),
        digest: Digest::of([1]),
    };
    check("statement-same", &statement(1, StatementBody::Same));
    let put = vec![item(1, ItemState::Run), item(2, ItemState::Stop)];
    let base = generation(40);
    let delta = StatementBody::Delta {
        base,
        base_digest: Digest::of("base"),
        put,
        forget: vec![uid(3)],
    };
    check("statement-delta", &statement(2, delta));
    let items = vec![item(1, ItemState::Run), item(4, ItemState::Orphan)];
    check(
        "statement-snapshot",
        &statement(
            3,
            StatementBody::Snapshot {
                part: 0,
                of: 1,
                items,
            },
        ),
    );
    let ack = ReportAck {
        nonce: Nonce::from_bytes([7; 16]),
        session: SessionEpoch(7),
        status_upto: 9,
        event_seq: 12,
        facts_seq: None,
    };
    let wrap = KeyWrap {
        key: Digest::of("content key"),
        sealing_key: Digest::of("sealing key"),
        enc: Bytes(vec![3; 32]),
        ciphertext: Bytes(vec![4; 48]),
    };
    check(
        "down-keys",
        &DownFrame {
            v: 1,
            body: Down::Keys { wraps: vec![wrap] },
        },
    );
    check(
        "down-ack",
        &DownFrame {
            v: 1,
            body: Down::Ack(ack.clone()),
        },
    );
    let ack = ReportAck {
        facts_seq: Some(4),
        ..ack
    };
    check(
        "down-ack-facts",
        &DownFrame {
            v: 1,
            body: Down::Ack(ack),
        },
    );
}

#[test]
fn the_set_digest_is_the_same_in_every_release() {
    let item = |n, state| SetItem {
        uid: uid(n),
        state,
        revision: DeploymentRevision(n.into()),
        digest: Digest::of([1]),
    };
    let set: DesiredSet = [
        item(1, ItemState::Run),
        item(2, ItemState::Stop),
        item(3, ItemState::Orphan),
    ]
    .into_iter()
    .collect();
    check("set-digest", &set.digest());
}

#[test]
fn a_claim_on_a_local_volume_says_so() {
    let local = |plugin| VolumeSpec {
        name: "disk".into(),
        source: VolumeSource::Local {
            claim: "data-web-0".into(),
            path: "/mnt/disk".into(),
            check: HostPathCheck::Directory,
            read_only: false,
            plugin,
        },
    };
    check("volume-local", &local(ClaimPlugin::Local));
    let before = r#"{"name":"disk","source":{"kind":"local","claim":"data-web-0","path":"/mnt/disk","check":"directory"}}"#;
    assert_eq!(
        serde_json::from_str::<VolumeSpec>(before).unwrap(),
        local(ClaimPlugin::HostPath)
    );
}
