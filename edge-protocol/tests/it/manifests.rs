//! The golden files of manifests.

use std::collections::BTreeMap;

use edge_protocol::Digest;
use edge_protocol::v1::{
    Action, Amounts, ClaimPlugin, ContainerResource, ContainerSecurity, ContainerSpec, DnsPolicy, DnsSpec,
    DownwardValue, EnvFrom, EnvVar, Header, HostAlias, HostPathCheck, KeyToPath, Lifecycle, Manifest, Medium,
    MountSpec, Names, Namespaces, ObjectKind, ObjectRef, PodField, PodSecurity, PortProtocol, PortSpec,
    Probe, Probes, Profile, ProjectedSource, Propagation, PullPolicy, QosClass, RecursiveReadOnly,
    ResizeResource, ResourceField, Resources, RestartAction, RestartPolicy, RestartRule, SubPath, Terminal,
    TerminationMessage, Tombstone, TombstoneReason, ValueFrom, VolumeSource, VolumeSpec, WorkloadSpec,
    ability,
};

use crate::fixture::{check, uid};

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
fn an_ephemeral_container_names_the_one_that_it_looks_into() {
    let workload = WorkloadSpec {
        ephemeral_containers: vec![ContainerSpec {
            target: Some("web".into()),
            ..ContainerSpec::new("debugger", "registry.example/tools:v1")
        }],
        ..WorkloadSpec::new(
            "web-1",
            vec![ContainerSpec::new("web", "registry.example/server:v1")],
        )
    };
    check("workload-ephemeral", &workload);
    let names = |specs: &mut dyn Iterator<Item = &ContainerSpec>| -> Vec<String> {
        specs.map(|spec| spec.name.clone()).collect()
    };
    assert_eq!(names(&mut workload.all_containers()), ["web"]);
    assert_eq!(names(&mut workload.every_container()), ["web", "debugger"]);
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
