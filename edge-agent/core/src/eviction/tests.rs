use edge_protocol::v1::{ContainerSpec, Resources, VolumeSpec, WorkloadSpec};

use super::*;
use crate::usage::ContainerUsage;

const MIB: u64 = 1 << 20;

fn uid(name: &str) -> PodUid {
    PodUid::new(name).unwrap()
}

fn manifest(name: &str, priority: i32, memory_request: u64) -> Manifest {
    let container = ContainerSpec {
        resources: Resources {
            memory_request_bytes: Some(memory_request),
            ..Resources::default()
        },
        ..ContainerSpec::new("main", "image")
    };
    Manifest {
        v: 1,
        uid: uid(name),
        namespace: "n".to_owned(),
        name: name.to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        workload: WorkloadSpec {
            priority,
            ..WorkloadSpec::new(name, vec![container])
        },
        objects: Vec::new(),
        requires: Vec::new(),
        replaces: Vec::new(),
    }
}

fn uses(memory_bytes: u64) -> WorkloadUsage {
    let container = ContainerUsage {
        memory_bytes,
        ..ContainerUsage::default()
    };
    WorkloadUsage {
        memory_bytes,
        containers: BTreeMap::from([("main".to_owned(), container)]),
        ..WorkloadUsage::default()
    }
}

fn measured() -> Usage {
    Usage {
        workloads: Some(BTreeMap::new()),
        ..Usage::default()
    }
}

fn short_of_memory() -> Usage {
    Usage {
        memory: Some(Room {
            capacity: 1024 * MIB,
            available: 52 * MIB,
        }),
        ..measured()
    }
}

/// Who goes first of `(name, priority, request, used)`, in MiB, when memory is short.
#[track_caller]
fn check(workloads: &[(&str, i32, u64, Option<u64>)], expect: Option<&str>) {
    let uids: Vec<PodUid> = workloads.iter().map(|(name, ..)| uid(name)).collect();
    let manifests: Vec<Manifest> = workloads
        .iter()
        .map(|(name, priority, request, _)| manifest(name, *priority, request * MIB))
        .collect();
    let usages: Vec<Option<WorkloadUsage>> = workloads
        .iter()
        .map(|(.., used)| used.map(|used| uses(used * MIB)))
        .collect();
    let runs: Vec<Runs<'_>> = uids
        .iter()
        .zip(&manifests)
        .zip(&usages)
        .map(|((uid, manifest), usage)| Runs {
            uid,
            manifest,
            usage: usage.as_ref(),
        })
        .collect();
    let (usage, thresholds) = (short_of_memory(), Thresholds::default());
    let mut pressure = Pressure::default();
    pressure.measure(&usage, &thresholds, 0);
    let goes = for_lack(&pressure, &usage, &thresholds, &runs);
    assert_eq!(goes.map(|eviction| eviction.uid.to_string()).as_deref(), expect);
}

#[test]
fn the_order_is_the_kubelets() {
    check(&[], None);
    // Over its requests before under them, whatever the priority.
    check(
        &[("under", 0, 100, Some(90)), ("over", 1000, 10, Some(20))],
        Some("over"),
    );
    // Then by priority.
    check(&[("high", 10, 0, Some(500)), ("low", 0, 0, Some(5))], Some("low"));
    // Then by how much it is over.
    check(&[("a", 0, 100, Some(150)), ("b", 0, 10, Some(100))], Some("b"));
    // One that could not be measured goes first of all.
    check(
        &[("known", 0, 0, Some(900)), ("unknown", 99, 0, None)],
        Some("unknown"),
    );
    // Critical ones stay.
    check(&[("critical", 2_000_000_000, 0, Some(900))], None);
}

/// Who goes of one with many volumes and one with large layers, when this disk is full, and whether images go before.
#[track_caller]
fn check_disks(usage: &Usage, expect: Option<&str>, images_go: bool) {
    let uses = |layer_bytes: u64, volume: u64| WorkloadUsage {
        layer_inodes: layer_bytes / MIB,
        volume_inodes: volume / MIB,
        processes: volume / MIB,
        volumes: BTreeMap::from([("data".to_owned(), volume)]),
        containers: BTreeMap::from([(
            "main".to_owned(),
            ContainerUsage {
                layer_bytes,
                ..ContainerUsage::default()
            },
        )]),
        ..WorkloadUsage::default()
    };
    let all = [
        ("layers", uses(50 * MIB, MIB)),
        ("volumes", uses(20 * MIB, 40 * MIB)),
    ];
    let workloads = all.map(|(name, usage)| (uid(name), manifest(name, 0, 0), usage));
    let runs: Vec<Runs<'_>> = workloads
        .iter()
        .map(|(uid, manifest, usage)| Runs {
            uid,
            manifest,
            usage: Some(usage),
        })
        .collect();
    let thresholds = Thresholds {
        processes: Some(Threshold::Percent(10)),
        ..Thresholds::default()
    };
    let mut pressure = Pressure::default();
    pressure.measure(usage, &thresholds, 0);
    let goes = for_lack(&pressure, usage, &thresholds, &runs);
    assert_eq!(goes.map(|eviction| eviction.uid.to_string()).as_deref(), expect);
    assert_eq!(pressure.wants_images_gone(usage), images_go);
}

#[test]
fn of_two_disks_only_what_is_on_the_full_one_counts() {
    let room = |available| Room {
        capacity: 1000,
        available,
    };
    let disk = |bytes, inodes| {
        Some(Disk {
            bytes: room(bytes),
            inodes: room(inodes),
        })
    };
    let usage = |node_disk, image_disk, disks_differ| Usage {
        node_disk,
        image_disk,
        disks_differ,
        ..measured()
    };
    let free = || disk(900, 900);
    check_disks(&usage(free(), free(), true), None, false);
    check_disks(&usage(disk(99, 900), free(), true), Some("volumes"), false);
    check_disks(&usage(disk(900, 49), free(), true), Some("volumes"), false);
    check_disks(&usage(free(), disk(149, 900), true), Some("layers"), true);
    check_disks(&usage(free(), disk(900, 49), true), Some("layers"), true);
    // One disk lacks room for images first, and all that is on it counts.
    check_disks(
        &usage(disk(149, 900), disk(149, 900), false),
        Some("volumes"),
        true,
    );
    check_disks(&usage(disk(99, 900), None, false), Some("volumes"), true);
    let processes = Usage {
        processes: Some(room(99)),
        ..measured()
    };
    check_disks(&processes, Some("volumes"), false);
}

#[test]
fn the_message_says_what_the_kubelet_says() {
    let (manifest, used) = (manifest("web", 0, 16 * MIB), uses(20 * MIB));
    let id = uid("web");
    let runs = [Runs {
        uid: &id,
        manifest: &manifest,
        usage: Some(&used),
    }];
    let (usage, thresholds) = (short_of_memory(), Thresholds::default());
    let mut pressure = Pressure::default();
    pressure.measure(&usage, &thresholds, 0);
    assert_eq!(
        for_lack(&pressure, &usage, &thresholds, &runs).unwrap().message,
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 52Mi. \
         Container main was using 20Mi, request is 16Mi, has larger consumption of memory. "
    );
}

#[test]
fn a_condition_outlives_its_cause_by_five_minutes_but_evicts_nobody() {
    let thresholds = Thresholds::default();
    let mut pressure = Pressure::default();
    pressure.measure(&short_of_memory(), &thresholds, 1_000);
    let memory = Pressures {
        memory: true,
        ..Pressures::default()
    };
    assert_eq!(pressure.conditions(), memory);
    let fine = Usage {
        memory: Some(Room {
            capacity: 1024 * MIB,
            available: 900 * MIB,
        }),
        ..measured()
    };
    pressure.measure(&fine, &thresholds, 300_999);
    assert_eq!(pressure.conditions(), memory);
    assert_eq!(for_lack(&pressure, &fine, &thresholds, &[]), None);
    pressure.measure(&fine, &thresholds, 301_000);
    assert!(pressure.conditions().is_none());
    // Nothing measured, nothing concluded.
    pressure.measure(&Usage::default(), &thresholds, 301_001);
    assert!(pressure.conditions().is_none() && !pressure.wants_images_gone(&Usage::default()));
}

#[test]
fn limits_of_its_own_end_a_workload_whatever_is_left() {
    let mut web = manifest("web", 0, 0);
    web.workload.volumes.push(VolumeSpec {
        name: "data".to_owned(),
        source: VolumeSource::EmptyDir {
            medium: Medium::Disk,
            size_limit_bytes: Some(8 * MIB),
        },
    });
    web.workload.containers[0].resources.ephemeral_storage_limit_bytes = Some(10 * MIB);
    let id = uid("web");
    let judge = |volume: u64, layer: u64, log: u64| {
        let container = ContainerUsage {
            layer_bytes: layer,
            log_bytes: log,
            ..ContainerUsage::default()
        };
        let usage = WorkloadUsage {
            volumes: BTreeMap::from([("data".to_owned(), volume)]),
            containers: BTreeMap::from([("main".to_owned(), container)]),
            ..WorkloadUsage::default()
        };
        let runs = [Runs {
            uid: &id,
            manifest: &web,
            usage: Some(&usage),
        }];
        over_limit(&runs).pop().map(|eviction| eviction.message)
    };
    assert_eq!(judge(8 * MIB, MIB, MIB), None);
    assert_eq!(
        judge(8 * MIB + 1, 0, 0).as_deref(),
        Some("Usage of EmptyDir volume \"data\" exceeds the limit \"8Mi\". ")
    );
    assert_eq!(
        judge(8 * MIB, MIB, MIB + 1).as_deref(),
        Some("Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ")
    );
    let mut two = web.clone();
    let mut free = ContainerSpec::new("free", "image");
    free.resources.ephemeral_storage_limit_bytes = Some(100 * MIB);
    two.workload.containers.push(free);
    let container = ContainerUsage {
        layer_bytes: 11 * MIB,
        ..ContainerUsage::default()
    };
    let usage = WorkloadUsage {
        containers: BTreeMap::from([("main".to_owned(), container)]),
        ..WorkloadUsage::default()
    };
    let runs = [Runs {
        uid: &id,
        manifest: &two,
        usage: Some(&usage),
    }];
    assert_eq!(
        over_limit(&runs)[0].message,
        "Container main exceeded its local ephemeral storage limit \"10Mi\". "
    );
}

#[test]
fn what_runs_before_the_main_containers_may_take_what_it_asks_for() {
    let unpacks = |name: &str| {
        let mut spec = ContainerSpec::new(name, "image");
        spec.resources.ephemeral_storage_limit_bytes = Some(20 * MIB);
        spec.resources.memory_request_bytes = Some(80 * MIB);
        spec
    };
    let mut web = manifest("web", 0, MIB);
    web.workload.containers[0].resources.ephemeral_storage_limit_bytes = Some(10 * MIB);
    web.workload.init_containers = vec![unpacks("first"), unpacks("second")];
    let id = uid("web");
    let over = |used: u64| {
        let usage = WorkloadUsage {
            volumes: BTreeMap::from([("data".to_owned(), used)]),
            ..WorkloadUsage::default()
        };
        let runs = [Runs {
            uid: &id,
            manifest: &web,
            usage: Some(&usage),
        }];
        over_limit(&runs).pop()
    };
    assert_eq!(over(20 * MIB), None);
    let goes = over(20 * MIB + 1).unwrap();
    assert_eq!(
        goes.message,
        "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. "
    );
    assert!(!goes.disrupts, "that was its own doing");
    // What it asks for then counts as well: the other is over it, and goes.
    let other = manifest("zulu", 0, MIB);
    let used = uses(70 * MIB);
    let runs = [("web", &web), ("zulu", &other)].map(|(name, manifest)| (uid(name), manifest));
    let runs: Vec<Runs<'_>> = runs
        .iter()
        .map(|(uid, manifest)| Runs {
            uid,
            manifest,
            usage: Some(&used),
        })
        .collect();
    let (usage, thresholds) = (short_of_memory(), Thresholds::default());
    let mut pressure = Pressure::default();
    pressure.measure(&usage, &thresholds, 0);
    let goes = for_lack(&pressure, &usage, &thresholds, &runs).unwrap();
    assert!(goes.uid == uid("zulu") && goes.disrupts);
}

#[test]
fn quantities_are_written_as_kubernetes_writes_them() {
    for (bytes, text) in [
        (0, "0"),
        (1, "1"),
        (1023, "1023"),
        (1024, "1Ki"),
        (1536, "1536"),
        (100 * MIB, "100Mi"),
        (3 << 30, "3Gi"),
    ] {
        assert_eq!(binary(bytes), text);
    }
}

#[test]
fn everything_is_measured_from_twice_a_threshold_on() {
    let thresholds = |memory| Thresholds {
        memory,
        ..Thresholds::default()
    };
    let near = |thresholds: Thresholds| thresholds.are_near(&short_of_memory());
    assert!(near(thresholds(Threshold::Least(27 * MIB))));
    assert!(!near(thresholds(Threshold::Least(26 * MIB))));
    assert!(near(thresholds(Threshold::Percent(3))));
    assert!(
        !Thresholds::default().are_near(&Usage::default()),
        "nothing is known"
    );
}
