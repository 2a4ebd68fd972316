//! What asks for figures, and what tells them.

use edge_protocol::v1::{
    ContainerStats, CpuStats, Down, DownFrame, FsStats, InterfaceStats, IoStats, MemoryStats, NetworkStats,
    NodeStats, ProcessStats, Stats, StatsAsk, StatsReport, SwapStats, Up, UpFrame, VolumeStats,
    WorkloadStats,
};
use edge_protocol::{DeviceTime, SessionEpoch};

use crate::fixture::{check, uid};
use crate::refusals::{binding, boot};

const AT: u64 = 61_000;

fn cpu() -> CpuStats {
    CpuStats {
        at_ms: AT,
        usage_ns: Some(1_500_000_000),
        rate_nanocores: Some(250_000_000),
        periods: Some(100),
        throttled_periods: Some(3),
        throttled_ns: Some(40_000_000),
    }
}

fn memory() -> MemoryStats {
    MemoryStats {
        at_ms: AT,
        usage_bytes: Some(64 << 20),
        working_set_bytes: Some(48 << 20),
        available_bytes: Some(16 << 20),
        rss_bytes: Some(40 << 20),
        cache_bytes: Some(24 << 20),
        page_faults: Some(1_000),
        major_page_faults: Some(1),
    }
}

fn used(bytes: u64, inodes: u64) -> FsStats {
    FsStats {
        at_ms: AT - 30_000,
        used_bytes: Some(bytes),
        inodes_used: Some(inodes),
        ..FsStats::default()
    }
}

fn network(name: &str) -> NetworkStats {
    NetworkStats {
        at_ms: AT,
        default: Some(name.into()),
        interfaces: vec![InterfaceStats {
            name: name.into(),
            rx_bytes: 1,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 5,
            tx_packets: 6,
            tx_errors: 7,
            tx_dropped: 8,
        }],
    }
}

fn container() -> ContainerStats {
    ContainerStats {
        name: "main".into(),
        id: "0123abcd".into(),
        started_ms: Some(1_795_219_100_000),
        cpu: Some(cpu()),
        memory: Some(memory()),
        swap: Some(SwapStats {
            at_ms: AT,
            usage_bytes: Some(0),
            available_bytes: None,
        }),
        io: Some(IoStats {
            at_ms: AT,
            read_bytes: Some(4_096),
            written_bytes: Some(8_192),
            reads: Some(1),
            writes: Some(2),
        }),
        processes: Some(ProcessStats {
            at_ms: AT,
            count: Some(2),
            threads: Some(9),
            threads_limit: Some(100),
        }),
        rootfs: Some(used(4_096, 1)),
        logs: Some(used(8_192, 2)),
    }
}

fn stats() -> Stats {
    let workload = WorkloadStats {
        uid: uid(1),
        started_ms: Some(1_795_219_090_000),
        cpu: Some(cpu()),
        memory: Some(memory()),
        swap: None,
        io: None,
        network: Some(network("eth0")),
        processes: None,
        ephemeral_storage: Some(used(16_384, 4)),
        volumes: vec![VolumeStats {
            name: "data".into(),
            fs: used(4_096, 1),
        }],
        containers: vec![container()],
    };
    let node = NodeStats {
        started_ms: Some(1_795_219_000_000),
        cpu: Some(cpu()),
        memory: Some(memory()),
        network: Some(network("wlan0")),
        image_fs: Some(FsStats {
            at_ms: AT,
            capacity_bytes: Some(100 << 30),
            available_bytes: Some(60 << 30),
            used_bytes: Some(1 << 30),
            inodes: Some(1_000),
            inodes_free: Some(900),
            inodes_used: Some(50),
        }),
        ..NodeStats::default()
    };
    Stats {
        at: DeviceTime {
            boot_id: boot(),
            mono_ms: AT,
            wall_ms: 1_795_219_200_000,
            wall_trusted: true,
        },
        node: Some(Box::new(node)),
        workloads: vec![workload],
    }
}

#[test]
fn an_ask_and_its_answer() {
    let ask = DownFrame {
        v: 1,
        body: Down::StatsAsk(StatsAsk {
            nonce: binding().nonce,
            session: SessionEpoch(7),
            interval_ms: 15_000,
            for_ms: 60_000,
        }),
    };
    check("frame-stats-ask", &ask);
    let stats = stats();
    let report = UpFrame {
        v: 1,
        session: Some(SessionEpoch(7)),
        incarnation: None,
        seq: 9,
        time: stats.at,
        body: Up::Stats(StatsReport::parts(4, 15_000, stats).remove(0)),
    };
    check("up-stats", &report);
}
