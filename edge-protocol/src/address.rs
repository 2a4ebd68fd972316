//! Which of many addresses are shown as a workload's or a device's own.

use std::net::IpAddr;

/// The first of each family, IPv4 before IPv6: at most two. As `sortPodIPs` of `pkg/kubelet/kubelet_pods.go` has them on a node that was told
/// no address of its own; the API server refuses a status with two of one family.
pub fn one_of_each_family(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (mut v4, mut v6) = (None, None);
    for address in addresses {
        match address {
            IpAddr::V4(_) => v4.get_or_insert(address),
            IpAddr::V6(_) => v6.get_or_insert(address),
        };
    }
    v4.into_iter().chain(v6).collect()
}

/// The same of what was said in words; what is no address counts for nothing.
pub(crate) fn said<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    one_of_each_family(texts.into_iter().filter_map(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &[&str], expect: &[&str]) {
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        let found: Vec<String> = said(&given).iter().map(ToString::to_string).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn of_each_family_there_is_one_and_ipv4_is_foremost() {
        check(&[], &[]);
        check(&["10.1.0.4"], &["10.1.0.4"]);
        check(&["FD00::4"], &["fd00::4"]);
        check(
            &["fd00::4", "no address", "10.1.0.4", "fd00::5", "10.1.0.5"],
            &["10.1.0.4", "fd00::4"],
        );
    }
}
