//! One golden file per document.

use std::collections::BTreeMap;

use edge_protocol::v1::up::HeldSet;
use edge_protocol::v1::{
    AckStage, ContainerSpec, ContainerState, ContainerStatus, DeviceEvent, Down, DownFrame, EnvVar,
    EventLevel, EventReport, Facts, Hello, Manifest, ObjectRef, Phase, PortProtocol, PortSpec, PullPolicy,
    QosClass, Reason, ReportAck, Resources, RestartPolicy, Rung, SetAck, StatementBody, StatusReport,
    Tombstone, TombstoneReason, Up, UpFrame, WorkloadSpec, WorkloadStatus,
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
        name: "web".into(),
        image: "registry.example/server:v1".into(),
        pull_policy: PullPolicy::IfNotPresent,
        command: vec!["/server".into()],
        args: vec!["http".into()],
        working_dir: Some("/srv".into()),
        env: vec![EnvVar {
            name: "COLOUR".into(),
            value: "blue".into(),
        }],
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
                hostname: "web-1".into(),
                restart_policy: RestartPolicy::Always,
                termination_grace_period_s: 30,
                qos: QosClass::Burstable,
                containers: vec![container],
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
        facts,
    };
    check("up-hello", &up(0, Up::Hello(Box::new(hello))));
    let ack = SetAck {
        generation: generation(42),
        digest: set.digest(),
        stage: AckStage::Persisted,
    };
    check("up-ack", &up(1, Up::Ack(ack)));
    check("up-heartbeat", &up(2, Up::Heartbeat));
    check("up-bye", &up(3, Up::Bye));
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
            name: "web".into(),
            image: "registry.example/server:v1".into(),
            image_id: "sha256:11".into(),
            container_id: "containerd://abc".into(),
            state: ContainerState::Waiting {
                reason: Reason::CrashLoopBackOff,
                message: "back-off 10s restarting failed container".into(),
            },
            last: Some(terminated),
            restart_count: 2,
            ready: false,
        }],
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
        message: "Back-off restarting failed container".into(),
    };
    check(
        "up-events",
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
    };
    check(
        "down-ack",
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
