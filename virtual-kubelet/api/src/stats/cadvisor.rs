//! `/metrics/cadvisor`: the series that kube-prometheus' rules and dashboards use, by cAdvisor's names, labels and times
//! (github.com/google/cadvisor `metrics/prometheus.go`, labels of `containerPrometheusLabelsFunc`).

use jiff::Timestamp;

use super::exposition::{Exposition, Kind};
use super::{ContainerStats, CpuStats, FsStats, InterfaceStats, MemoryStats, PodStats, Summary, SwapStats};

/// `container`, `id`, `image`, `name`, `namespace`, `pod`: of a container, of a pod as a whole, of the machine.
type Labels<'a> = [(&'static str, &'a str); 6];

/// One cgroup of cAdvisor's.
struct Row<'a> {
    labels: Labels<'a>,
    cpu: Option<&'a CpuStats>,
    memory: Option<&'a MemoryStats>,
    swap: Option<&'a SwapStats>,
    fs: Option<&'a FsStats>,
    interfaces: Vec<(&'a InterfaceStats, Timestamp)>,
    container: Option<&'a ContainerStats>,
}

/// `None` when the figures could not be had: the answer then says just that.
pub(crate) fn cadvisor(summary: Option<&Summary>) -> String {
    let mut out = Exposition::default();
    let rows = summary.map(rows).unwrap_or_default();
    cpu(&mut out, &rows);
    memory(&mut out, &rows);
    filesystem(&mut out, &rows);
    network(&mut out, &rows);
    specification(&mut out, &rows);
    if let Some(machine) = summary.and_then(|summary| summary.node.machine.as_ref()) {
        out.family("machine_cpu_cores", Kind::Gauge, "Number of logical CPU cores.");
        out.whole(&[], Some(machine.cores), None);
        let help = "Amount of memory installed on the machine.";
        out.family("machine_memory_bytes", Kind::Gauge, help);
        out.whole(&[], Some(machine.memory_bytes), None);
    }
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    out.family("container_scrape_error", Kind::Gauge, help);
    out.whole(&[], Some(u64::from(summary.is_none())), None);
    out.finish()
}

fn rows(summary: &Summary) -> Vec<Row<'_>> {
    let node = &summary.node;
    let mut rows = vec![Row {
        labels: labels(["", "/", "", "", "", ""]),
        cpu: node.cpu.as_ref(),
        memory: node.memory.as_ref(),
        swap: node.swap.as_ref(),
        fs: node.fs.as_ref(),
        interfaces: interfaces(node.network.as_ref()),
        container: None,
    }];
    for pod in &summary.pods {
        rows.push(of_pod(pod));
        rows.extend(
            pod.containers
                .iter()
                .map(|container| of_container(pod, container)),
        );
    }
    rows
}

fn labels(values: [&str; 6]) -> Labels<'_> {
    let [container, id, image, name, namespace, pod] = values;
    [
        ("container", container),
        ("id", id),
        ("image", image),
        ("name", name),
        ("namespace", namespace),
        ("pod", pod),
    ]
}

fn of_pod(pod: &PodStats) -> Row<'_> {
    let of = &pod.pod_ref;
    Row {
        labels: labels(["", "", "", "", &of.namespace, &of.name]),
        cpu: pod.cpu.as_ref(),
        memory: pod.memory.as_ref(),
        swap: pod.swap.as_ref(),
        fs: None,
        interfaces: interfaces(pod.network.as_ref()),
        container: None,
    }
}

fn of_container<'a>(pod: &'a PodStats, container: &'a ContainerStats) -> Row<'a> {
    let (of, is) = (&pod.pod_ref, &container.identity);
    Row {
        labels: labels([
            &container.name,
            &is.cgroup,
            &is.image,
            &is.id,
            &of.namespace,
            &of.name,
        ]),
        cpu: container.cpu.as_ref(),
        memory: container.memory.as_ref(),
        swap: container.swap.as_ref(),
        fs: container.rootfs.as_ref(),
        interfaces: Vec::new(),
        container: Some(container),
    }
}

fn interfaces(network: Option<&super::NetworkStats>) -> Vec<(&InterfaceStats, Timestamp)> {
    let Some(network) = network else {
        return Vec::new();
    };
    if network.interfaces.is_empty() {
        return vec![(&network.default, network.time)];
    }
    let each = network.interfaces.iter();
    each.map(|interface| (interface, network.time)).collect()
}

fn cpu(out: &mut Exposition, rows: &[Row<'_>]) {
    let help = "Cumulative cpu time consumed in seconds.";
    out.family("container_cpu_usage_seconds_total", Kind::Counter, help);
    for row in rows {
        if let Some(cpu) = row.cpu {
            let labels = [row.labels.as_slice(), &[("cpu", "total")]].concat();
            out.seconds(&labels, cpu.usage_core_nano_seconds, Some(cpu.time));
        }
    }
    let throttled = |row: &Row<'_>| Some((row.cpu?.throttling?, row.cpu?.time));
    let help = "Number of elapsed enforcement period intervals.";
    out.family("container_cpu_cfs_periods_total", Kind::Counter, help);
    for row in rows {
        if let Some((throttling, time)) = throttled(row) {
            out.whole(&row.labels, Some(throttling.periods), Some(time));
        }
    }
    let help = "Number of throttled period intervals.";
    out.family("container_cpu_cfs_throttled_periods_total", Kind::Counter, help);
    for row in rows {
        if let Some((throttling, time)) = throttled(row) {
            out.whole(&row.labels, Some(throttling.throttled_periods), Some(time));
        }
    }
    let help = "Total time duration the container has been throttled.";
    out.family("container_cpu_cfs_throttled_seconds_total", Kind::Counter, help);
    for row in rows {
        if let Some((throttling, time)) = throttled(row) {
            out.seconds(&row.labels, Some(throttling.throttled_nano_seconds), Some(time));
        }
    }
}

type MemoryFigure = fn(&MemoryStats) -> Option<u64>;

fn memory(out: &mut Exposition, rows: &[Row<'_>]) {
    let figures: [(&'static str, &'static str, MemoryFigure); 4] = [
        (
            "container_memory_cache",
            "Number of bytes of page cache memory.",
            |memory| memory.cache_bytes,
        ),
        ("container_memory_rss", "Size of RSS in bytes.", |memory| {
            memory.rss_bytes
        }),
        (
            "container_memory_usage_bytes",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            |memory| memory.usage_bytes,
        ),
        (
            "container_memory_working_set_bytes",
            "Current working set in bytes.",
            |memory| memory.working_set_bytes,
        ),
    ];
    for (name, help, figure) in figures {
        out.family(name, Kind::Gauge, help);
        for row in rows {
            if let Some(memory) = row.memory {
                out.whole(&row.labels, figure(memory), Some(memory.time));
            }
        }
    }
    out.family(
        "container_memory_swap",
        Kind::Gauge,
        "Container swap usage in bytes.",
    );
    for row in rows {
        if let Some(swap) = row.swap {
            out.whole(&row.labels, swap.swap_usage_bytes, Some(swap.time));
        }
    }
}

type FsFigure = fn(&FsStats) -> Option<u64>;

fn filesystem(out: &mut Exposition, rows: &[Row<'_>]) {
    let figures: [(&'static str, &'static str, FsFigure); 4] = [
        ("container_fs_inodes_free", "Number of available Inodes", |fs| {
            fs.inodes_free
        }),
        ("container_fs_inodes_total", "Number of Inodes", |fs| fs.inodes),
        (
            "container_fs_limit_bytes",
            "Number of bytes that can be consumed by the container on this filesystem.",
            |fs| fs.capacity_bytes,
        ),
        (
            "container_fs_usage_bytes",
            "Number of bytes that are consumed by the container on this filesystem.",
            |fs| fs.used_bytes,
        ),
    ];
    for (name, help, figure) in figures {
        out.family(name, Kind::Gauge, help);
        for row in rows {
            if let Some(fs) = row.fs {
                let labels = [row.labels.as_slice(), &[("device", "")]].concat();
                out.whole(&labels, figure(fs), Some(fs.time));
            }
        }
    }
}

type InterfaceFigure = fn(&InterfaceStats) -> Option<u64>;

const NETWORK: [(&str, &str, InterfaceFigure); 8] = [
    (
        "container_network_receive_bytes_total",
        "Cumulative count of bytes received",
        |interface| interface.rx_bytes,
    ),
    (
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
        |interface| interface.rx_errors,
    ),
    (
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving",
        |interface| interface.rx_dropped,
    ),
    (
        "container_network_receive_packets_total",
        "Cumulative count of packets received",
        |interface| interface.rx_packets,
    ),
    (
        "container_network_transmit_bytes_total",
        "Cumulative count of bytes transmitted",
        |interface| interface.tx_bytes,
    ),
    (
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        |interface| interface.tx_errors,
    ),
    (
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting",
        |interface| interface.tx_dropped,
    ),
    (
        "container_network_transmit_packets_total",
        "Cumulative count of packets transmitted",
        |interface| interface.tx_packets,
    ),
];

fn network(out: &mut Exposition, rows: &[Row<'_>]) {
    for (name, help, figure) in NETWORK {
        out.family(name, Kind::Counter, help);
        for row in rows {
            for (interface, time) in &row.interfaces {
                let labels = [row.labels.as_slice(), &[("interface", interface.name.as_str())]].concat();
                out.whole(&labels, figure(interface), Some(*time));
            }
        }
    }
}

type ContainerFigure = fn(&ContainerStats) -> Option<u64>;

fn specification(out: &mut Exposition, rows: &[Row<'_>]) {
    let containers = || {
        rows.iter()
            .filter_map(|row| row.container.map(|container| (&row.labels, container)))
    };
    let figures: [(&'static str, &'static str, ContainerFigure); 5] = [
        (
            "container_processes",
            "Number of processes running inside the container.",
            |container| container.processes,
        ),
        (
            "container_spec_cpu_period",
            "CPU period of the container.",
            |container| container.limits.cpu_period,
        ),
        (
            "container_spec_cpu_quota",
            "CPU quota of the container.",
            |container| {
                container
                    .limits
                    .cpu_quota
                    .and_then(|quota| u64::try_from(quota).ok())
            },
        ),
        (
            "container_spec_cpu_shares",
            "CPU share of the container.",
            |container| container.limits.cpu_shares,
        ),
        (
            "container_spec_memory_limit_bytes",
            "Memory limit for the container.",
            |container| Some(container.limits.memory_bytes.unwrap_or_default()),
        ),
    ];
    for (name, help, figure) in figures {
        out.family(name, Kind::Gauge, help);
        for (labels, container) in containers() {
            out.whole(labels, figure(container), None);
        }
    }
    let help = "Start time of the container since unix epoch in seconds.";
    out.family("container_start_time_seconds", Kind::Gauge, help);
    for (labels, container) in containers() {
        let since = u64::try_from(container.start_time.as_second()).ok();
        out.whole(labels, since.filter(|since| *since > 0), None);
    }
}
