//! One golden file per document, but for the manifests.

use std::collections::BTreeMap;

use edge_protocol::v1::up::HeldSet;
use edge_protocol::v1::{
    AckStage, Bytes, ContainerState, ContainerStatus, DeferredResize, DeviceEvent, Down, DownFrame,
    EventLevel, EventReport, Facts, HeldImage, Hello, KeyWrap, ObjectData, Phase, Reason, ReportAck,
    ResizeFailure, Resizing, Resources, Rung, SealedObject, SetAck, StatementBody, StatusReport, Up, UpFrame,
    WorkloadStatus, bounded_images, object,
};
use edge_protocol::{
    DeploymentRevision, DesiredSet, DeviceTime, Digest, Incarnation, ItemState, Nonce, SessionEpoch,
    SetGeneration, SetItem,
};

use crate::fixture::{check, uid};
use crate::refusals::{boot, statement};

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
        disrupted: false,
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
        ephemeral_containers: Vec::new(),
        sandbox_ready: false,
        further_pod_ips: Vec::new(),
        allocated: None,
        resources: None,
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

const NO_ROOM: &str = "Node didn't have enough resource: cpu, requested: 3000, used: 2500, capacity: 4000";

fn millis(request: u64, limit: u64) -> Resources {
    Resources {
        cpu_request_milli: Some(request),
        cpu_limit_milli: Some(limit),
        ..Resources::default()
    }
}

fn resizing() -> WorkloadStatus {
    WorkloadStatus {
        uid: uid(1),
        revision: DeploymentRevision(4),
        manifest: Digest::of("manifest"),
        rung: Rung::Healthy,
        phase: Phase::Running,
        reason: None,
        message: String::new(),
        disrupted: false,
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
        ephemeral_containers: Vec::new(),
        sandbox_ready: true,
        further_pod_ips: Vec::new(),
        allocated: None,
        resources: None,
        deferred: Some(DeferredResize {
            reason: Reason::OutOfcpu,
            message: NO_ROOM.into(),
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
    }
}

#[test]
fn a_resize_that_is_not_through() {
    let report = StatusReport {
        upto: 9,
        complete: false,
        workloads: vec![resizing()],
    };
    check("up-status-resize", &up(4, Up::Status(report)));
    let as_a_whole = WorkloadStatus {
        allocated: Some(millis(2_000, 4_000)),
        resources: Some(millis(1_500, 3_000)),
        ..resizing()
    };
    let report = StatusReport {
        upto: 9,
        complete: false,
        workloads: vec![as_a_whole],
    };
    check("up-status-resize-whole", &up(4, Up::Status(report)));
    let event = DeviceEvent {
        seq: 13,
        at: time(),
        uid: uid(1),
        container: None,
        level: EventLevel::Warning,
        reason: Reason::ResizeDeferred,
        cause: Some(Reason::OutOfcpu),
        message: NO_ROOM.into(),
    };
    check(
        "up-events-resize",
        &up(5, Up::Events(EventReport { events: vec![event] })),
    );
}

#[test]
fn one_that_had_to_make_room() {
    let workload = WorkloadStatus {
        rung: Rung::Persisted,
        phase: Phase::Failed,
        reason: Some(Reason::Evicted),
        message: "The node was low on resource: memory. ".into(),
        disrupted: true,
        containers: Vec::new(),
        deferred: None,
        resizing: None,
        ..resizing()
    };
    let report = StatusReport {
        upto: 10,
        complete: false,
        workloads: vec![workload],
    };
    check("up-status-disrupted", &up(6, Up::Status(report)));
}

#[test]
fn one_that_somebody_looks_into() {
    let workload = WorkloadStatus {
        ephemeral_containers: vec![ContainerStatus::waiting(
            "debugger",
            "registry.example/tools:v1",
            Reason::ErrImagePull,
        )],
        deferred: None,
        resizing: None,
        ..resizing()
    };
    let report = StatusReport {
        upto: 11,
        complete: false,
        workloads: vec![workload],
    };
    check("up-status-ephemeral", &up(7, Up::Status(report)));
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
