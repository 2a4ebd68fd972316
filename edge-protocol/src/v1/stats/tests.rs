use super::*;
use crate::frame;
use crate::v1::{Up, UpFrame, VERSION};

fn at() -> DeviceTime {
    let boot_id = crate::BootId(uuid::Uuid::from_u128(1));
    DeviceTime {
        boot_id,
        mono_ms: u64::MAX,
        wall_ms: i64::MIN,
        wall_trusted: false,
    }
}

/// As long as JSON makes it, and nothing that compresses well in the names.
fn longest(number: usize) -> WorkloadStats {
    let name = |at: usize| crate::Digest::of(format!("{number} {at}")).to_string()[7..].to_owned();
    let cpu = CpuStats {
        at_ms: u64::MAX,
        usage_ns: Some(u64::MAX),
        rate_nanocores: Some(u64::MAX),
        periods: Some(u64::MAX),
        throttled_periods: Some(u64::MAX),
        throttled_ns: Some(u64::MAX),
    };
    let fs = FsStats {
        at_ms: u64::MAX,
        capacity_bytes: Some(u64::MAX),
        available_bytes: Some(u64::MAX),
        used_bytes: Some(u64::MAX),
        inodes: Some(u64::MAX),
        inodes_free: Some(u64::MAX),
        inodes_used: Some(u64::MAX),
    };
    let memory = MemoryStats {
        at_ms: u64::MAX,
        usage_bytes: Some(u64::MAX),
        working_set_bytes: Some(u64::MAX),
        available_bytes: Some(u64::MAX),
        rss_bytes: Some(u64::MAX),
        cache_bytes: Some(u64::MAX),
        page_faults: Some(u64::MAX),
        major_page_faults: Some(u64::MAX),
    };
    let container = |at| ContainerStats {
        name: name(at),
        id: name(at),
        started_ms: Some(i64::MIN),
        cpu: Some(cpu),
        memory: Some(memory),
        swap: Some(SwapStats {
            at_ms: u64::MAX,
            usage_bytes: Some(u64::MAX),
            available_bytes: Some(u64::MAX),
        }),
        io: Some(IoStats {
            at_ms: u64::MAX,
            ..IoStats::default()
        }),
        processes: Some(ProcessStats {
            at_ms: u64::MAX,
            ..ProcessStats::default()
        }),
        rootfs: Some(fs),
        logs: Some(fs),
    };
    WorkloadStats {
        uid: PodUid::new(name(0)).unwrap(),
        started_ms: Some(i64::MIN),
        cpu: Some(cpu),
        memory: Some(memory),
        swap: None,
        io: None,
        network: None,
        processes: None,
        ephemeral_storage: Some(fs),
        volumes: (0..200).map(|at| VolumeStats { name: name(at), fs }).collect(),
        containers: (0..200).map(container).collect(),
    }
}

#[test]
fn the_longest_part_fits_a_frame() {
    let workloads: Vec<_> = (0..MAX_STATS_WORKLOADS).map(longest).collect();
    let stats = Stats {
        at: at(),
        node: None,
        workloads,
    };
    let report = StatsReport::parts(u64::MAX, u64::MAX, stats).remove(0);
    let frame = UpFrame {
        v: VERSION,
        session: Some(SessionEpoch(u64::MAX)),
        incarnation: None,
        seq: u64::MAX,
        time: at(),
        body: Up::Stats(report),
    };
    let bytes = frame::encode(&frame).unwrap();
    assert_eq!(frame::decode::<UpFrame>(&bytes).unwrap(), frame);
}

#[test]
fn a_sample_is_told_in_parts_and_none_is_empty_but_the_only_one() {
    let bare = WorkloadStats {
        containers: vec![],
        volumes: vec![],
        ..longest(1)
    };
    let counts = |workloads: usize| {
        let stats = Stats {
            at: at(),
            node: Some(Box::default()),
            workloads: vec![bare.clone(); workloads],
        };
        let parts = StatsReport::parts(3, 10_000, stats);
        let of = u32::try_from(parts.len()).unwrap();
        let told: Vec<usize> = (0..)
            .zip(&parts)
            .map(|(number, part)| {
                assert_eq!((part.sample, part.part, part.of), (3, number, of));
                assert_eq!(part.stats.node.is_some(), number == 0);
                part.stats.workloads.len()
            })
            .collect();
        told
    };
    assert_eq!(counts(0), [0]);
    assert_eq!(counts(MAX_STATS_WORKLOADS), [MAX_STATS_WORKLOADS]);
    assert_eq!(counts(MAX_STATS_WORKLOADS + 1), [MAX_STATS_WORKLOADS, 1]);
    assert_eq!(counts(MAX_STATS_WORKLOADS * 100).len(), MAX_STATS_PARTS as usize);
}

#[test]
fn what_a_stranger_says_is_cut_and_cleaned() {
    let mut workload = longest(1);
    workload.containers[0].name = "é\u{1b}".repeat(100);
    let interface = |_| InterfaceStats {
        name: "\u{7}".repeat(50),
        ..InterfaceStats::default()
    };
    let interfaces = (0..99).map(interface).collect();
    workload.network = Some(NetworkStats {
        interfaces,
        default: Some("\n".into()),
        at_ms: 1,
    });
    let stats = Stats {
        at: at(),
        node: None,
        workloads: vec![workload; 50],
    }
    .bounded();
    assert_eq!(stats.workloads.len(), MAX_STATS_WORKLOADS);
    let first = &stats.workloads[0];
    assert_eq!((first.containers.len(), first.volumes.len()), (64, 64));
    let network = first.network.as_ref().unwrap();
    assert_eq!(network.interfaces.len(), 16);
    let names = [
        &first.containers[0].name,
        &network.interfaces[0].name,
        network.default.as_ref().unwrap(),
    ];
    for name in names {
        assert!(
            name.len() <= MAX_NAME && !name.chars().any(char::is_control),
            "{name:?}"
        );
    }
    assert_eq!(stats.clone().bounded(), stats);
}
