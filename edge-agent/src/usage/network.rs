//! What went over the interfaces of a network namespace, as the kernel tells any process in it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use edge_protocol::v1::{InterfaceStats, NetworkStats};

/// Loopback, and what leads into containers (`ignoredDevicePrefixes` of cAdvisor's libcontainer handler).
const IGNORED: [&str; 4] = ["lo", "veth", "docker", "nerdctl"];

/// The device's own.
pub(super) fn of_device(at_ms: u64) -> Option<NetworkStats> {
    of_process("self", at_ms)
}

/// That of a process; none if it is the device's own, whose counts are no workload's.
pub(super) fn of_workload(process: u32, at_ms: u64) -> Option<NetworkStats> {
    let namespace = |process: &str| {
        let metadata = fs::metadata(format!("/proc/{process}/ns/net")).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let process = process.to_string();
    let theirs = namespace(&process)?;
    (namespace("self")? != theirs).then(|| of_process(&process, at_ms))?
}

fn of_process(process: &str, at_ms: u64) -> Option<NetworkStats> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{process}/net/{file}"));
    let interfaces = interfaces(&read("dev").ok()?);
    Some(NetworkStats {
        at_ms,
        default: default(&read("route").unwrap_or_default(), &interfaces),
        interfaces,
    })
}

/// After two lines of headings: name, then eight counts received and eight sent.
fn interfaces(dev: &str) -> Vec<InterfaceStats> {
    let lines = dev.lines().skip(2);
    let parsed = lines.filter_map(|line| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts
            .split_whitespace()
            .map_while(|count| count.parse().ok())
            .collect();
        let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = counts[..]
        else {
            return None;
        };
        Some(InterfaceStats {
            name: name.trim().to_owned(),
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        })
    });
    parsed
        .filter(|interface| !IGNORED.iter().any(|prefix| interface.name.starts_with(prefix)))
        .collect()
}

/// The interface of the default route of IPv4 with the least metric; a pod's without one is `eth0`, as the kubelet has it.
fn default(route: &str, interfaces: &[InterfaceStats]) -> Option<String> {
    let routes = route.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, "00000000", _, _, _, _, metric, "00000000", ..] = words[..] else {
            return None;
        };
        Some((metric.parse::<u64>().ok()?, name))
    });
    let name = routes.min().map_or("eth0", |(_, name)| name);
    interfaces
        .iter()
        .any(|interface| interface.name == name)
        .then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 40211375796 7313454    0    0    0     0          0         0 40211375796 7313454    0    0    0     0       0          0
  eth0: 502194588   24541    3    4    0     0          0         0  1716612   14526    7    8    0     0       0          0
 wlan0:100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0
veth12:1 1 0 0 0 0 0 0 2 2 0 0 0 0 0 0
broken: 1 2 three
";

    #[test]
    fn interfaces_are_those_that_lead_out() {
        let found = interfaces(DEV);
        let names: Vec<_> = found.iter().map(|interface| interface.name.as_str()).collect();
        assert_eq!(names, ["eth0", "wlan0"]);
        let eth0 = InterfaceStats {
            name: "eth0".into(),
            rx_bytes: 502_194_588,
            rx_packets: 24_541,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 1_716_612,
            tx_packets: 14_526,
            tx_errors: 7,
            tx_dropped: 8,
        };
        assert_eq!(found[0], eth0);
        assert_eq!((found[1].rx_bytes, found[1].tx_bytes), (100, 200));
    }

    #[test]
    fn the_default_one_has_the_default_route() {
        let heading = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let route = |name: &str, metric: u32| {
            format!("{name}\t00000000\t010011AC\t0003\t0\t0\t{metric}\t00000000\t0\t0\t0\n")
        };
        let near = "eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let found = interfaces(DEV);
        let of = |routes: &str| default(&format!("{heading}{routes}"), &found);
        assert_eq!(
            of(&format!("{near}{}", route("wlan0", 600))).as_deref(),
            Some("wlan0")
        );
        let both = route("wlan0", 600) + &route("eth0", 100);
        assert_eq!(of(&both).as_deref(), Some("eth0"));
        assert_eq!(of(near).as_deref(), Some("eth0"));
        assert_eq!(of(&route("ppp0", 1)), None);
    }

    #[test]
    fn the_devices_own_network_is_no_workloads() {
        assert!(of_device(1).is_some());
        assert_eq!(of_workload(std::process::id(), 1), None);
    }
}
