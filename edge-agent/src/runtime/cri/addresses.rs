//! The addresses that the runtime gave a sandbox.

use std::net::{AddrParseError, IpAddr};

use edge_agent_core::step::MAX_POD_IPS;
use edge_agent_cri::v1::{PodSandboxNetworkStatus, PodSandboxStatus};

/// All of a sandbox's, in the runtime's order. One that cannot be read makes all of them worthless
/// (`determinePodSandboxIPs` of `pkg/kubelet/kuberuntime/kuberuntime_sandbox.go`).
pub(super) fn addresses(status: &PodSandboxStatus) -> Vec<IpAddr> {
    let Some(network) = &status.network else {
        return Vec::new();
    };
    parsed(network).unwrap_or_else(|error| {
        tracing::warn!(sandbox = status.id, %error, "the runtime gave the sandbox an address that is none");
        Vec::new()
    })
}

/// The first one is empty on the device's own network, which is not the runtime's.
fn parsed(network: &PodSandboxNetworkStatus) -> Result<Vec<IpAddr>, AddrParseError> {
    let first = Some(&network.ip).filter(|ip| !ip.is_empty());
    let further = network.additional_ips.iter().map(|further| &further.ip);
    let all = first.into_iter().chain(further).take(MAX_POD_IPS);
    all.map(|ip| ip.parse()).collect()
}

#[cfg(test)]
mod tests {
    use edge_agent_cri::v1::PodIp;

    use super::*;

    #[track_caller]
    fn check(ip: &str, further: &[&str], expect: &[&str]) {
        let network = PodSandboxNetworkStatus {
            ip: ip.to_owned(),
            additional_ips: further.iter().map(|ip| PodIp { ip: ip.to_string() }).collect(),
        };
        let status = PodSandboxStatus {
            network: Some(network),
            ..PodSandboxStatus::default()
        };
        let found: Vec<String> = addresses(&status).iter().map(ToString::to_string).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn all_of_them_are_taken_in_the_runtimes_order() {
        assert!(addresses(&PodSandboxStatus::default()).is_empty());
        check("", &[], &[]);
        check("10.1.0.4", &[], &["10.1.0.4"]);
        check(
            "fd00::4",
            &["10.1.0.4", "10.1.0.5"],
            &["fd00::4", "10.1.0.4", "10.1.0.5"],
        );
    }

    #[test]
    fn one_that_cannot_be_read_makes_all_worthless() {
        check("10.1.0.4/16", &["fd00::4"], &[]);
        check("10.1.0.4", &["fd00::4", ""], &[]);
    }

    #[test]
    fn their_number_is_bounded() {
        let many = ["10.1.0.4"; 40];
        check("10.1.0.4", &many, &many[..MAX_POD_IPS]);
    }
}
