//! The device's own addresses, as workloads are told them: those that it would speak from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses of documentation networks (RFC 5737, RFC 3849): connecting a datagram socket to them sends nothing.
const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The source addresses of the default routes, IPv4 first (`ResolveBindAddress` of k8s.io/apimachinery/pkg/util/net does the same from the
/// routing table); never empty.
pub fn addresses() -> Vec<IpAddr> {
    let unspecified = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let pairs = unspecified.into_iter().zip([FAR_V4, FAR_V6]);
    let mut found: Vec<IpAddr> = pairs.filter_map(|(from, to)| source(from, to)).collect();
    if found.is_empty() {
        found.push(Ipv4Addr::LOCALHOST.into());
    }
    found
}

fn source(from: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).ok()?;
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_unspecified() && !source.is_loopback()).then_some(source)
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_always_an_address() {
        let found = super::addresses();
        assert!(!found.is_empty() && found.iter().all(|address| !address.is_unspecified()));
    }
}
