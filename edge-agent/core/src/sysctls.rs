//! Which parameters of the kernel a workload may set: those that are its own and that no other workload feels (`safeSysctls` of
//! `pkg/kubelet/sysctl/safe_sysctls.go`, `validateSysctl` of `pkg/kubelet/sysctl/allowlist.go`).

use edge_protocol::v1::WorkloadSpec;

/// Where a parameter lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

/// With the least version of the kernel that keeps it apart for each namespace.
const SAFE: [(&str, Namespace, (u32, u32)); 14] = [
    ("kernel.shm_rmid_forced", Namespace::Ipc, (0, 0)),
    ("net.ipv4.ip_local_port_range", Namespace::Net, (0, 0)),
    ("net.ipv4.tcp_syncookies", Namespace::Net, (0, 0)),
    ("net.ipv4.ping_group_range", Namespace::Net, (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", Namespace::Net, (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", Namespace::Net, (3, 16)),
    ("net.ipv4.tcp_keepalive_time", Namespace::Net, (4, 5)),
    ("net.ipv4.tcp_fin_timeout", Namespace::Net, (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", Namespace::Net, (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", Namespace::Net, (4, 5)),
    ("net.ipv4.tcp_rmem", Namespace::Net, (4, 15)),
    ("net.ipv4.tcp_wmem", Namespace::Net, (4, 15)),
    ("net.ipv4.tcp_slow_start_after_idle", Namespace::Net, (4, 15)),
    ("net.ipv4.tcp_notsent_lowat", Namespace::Net, (4, 6)),
];

/// Why it may not set what it wants to set, in the kubelet's words.
pub(crate) fn forbidden(workload: &WorkloadSpec, kernel_version: &str) -> Option<String> {
    let kernel = version(kernel_version);
    let namespaces = workload.namespaces;
    let refused = |name: &String| {
        let known = SAFE.iter().find(|(safe, ..)| safe == name);
        match known {
            Some((_, Namespace::Ipc, _)) if namespaces.host_ipc => Some("not allowed with host IPC enabled"),
            Some((_, Namespace::Net, _)) if namespaces.host_network => {
                Some("not allowed with host Net enabled")
            }
            Some((_, _, least)) if kernel >= *least => None,
            _ => Some("not allowlisted"),
        }
    };
    let mut names = workload.security.sysctls.keys();
    names.find_map(|name| Some(format!("forbidden sysctl: {name:?} {}", refused(name)?)))
}

/// One that cannot be read is older than all.
fn version(text: &str) -> (u32, u32) {
    let number = |text: &str| {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..digits)?.parse().ok()
    };
    let mut parts = text.split('.');
    let major = parts.next().and_then(number);
    major.zip(parts.next().and_then(number)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, kernel: &str, set: fn(&mut WorkloadSpec), expect: Option<&str>) {
        let mut workload = WorkloadSpec::new("w", Vec::new());
        workload.security.sysctls.insert(name.to_owned(), "1".to_owned());
        set(&mut workload);
        let expect = expect.map(|why| format!("forbidden sysctl: {name:?} {why}"));
        assert_eq!(forbidden(&workload, kernel), expect);
    }

    #[test]
    fn only_what_is_safe_may_be_set_and_not_on_the_device_itself() {
        let unknown = Some("not allowlisted");
        let (ipc, net) = ("kernel.shm_rmid_forced", "net.ipv4.tcp_syncookies");
        check(ipc, "6.1.0-18-arm64", |_| {}, None);
        check(ipc, "", |_| {}, None);
        check(ipc, "", |w| w.namespaces.host_network = true, None);
        let shared = "not allowed with host IPC enabled";
        check(ipc, "6.1", |w| w.namespaces.host_ipc = true, Some(shared));
        check(net, "6.1", |w| w.namespaces.host_ipc = true, None);
        let shared = "not allowed with host Net enabled";
        check(net, "6.1", |w| w.namespaces.host_network = true, Some(shared));
        check("net.core.somaxconn", "6.1", |_| {}, unknown);
        check("kernel.msgmax", "6.1", |_| {}, unknown);
        check("net.ipv4.tcp_rmem", "4.15-rc1", |_| {}, None);
        check("net.ipv4.tcp_rmem", "4.14.336", |_| {}, unknown);
        check("net.ipv4.tcp_rmem", "strange", |_| {}, unknown);
        check("net.ipv4.tcp_rmem", "10.0", |_| {}, None);
    }
}
