//! Which protocol both sides speak, from the headers of the upgrade. Pure; the answers are the kubelet's.

use crate::websocket::ChannelProtocol;

/// SPDY's protocol for exec and attach: the only one that tells exit codes, and asked for by every client that is still met.
pub const REMOTE_COMMAND: &str = "v4.channel.k8s.io";
/// SPDY's protocol for port-forwarding.
pub const PORT_FORWARD: &str = "portforward.k8s.io";
/// WebSocket's, whose messages carry SPDY.
pub const PORT_FORWARD_TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Why an upgrade is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// The kubelet answers 400.
    #[error("the client names no protocol in X-Stream-Protocol-Version")]
    NothingOffered,
    /// The kubelet answers 403 and, for SPDY, one `X-Accepted-Stream-Protocol-Versions` per accepted one.
    #[error("none of the client's protocols is spoken here; accepted: {}", .accepted.join(", "))]
    NothingInCommon { accepted: Vec<&'static str> },
}

/// SPDY: the values of every `X-Stream-Protocol-Version`, against what this side speaks ([`REMOTE_COMMAND`] or [`PORT_FORWARD`]). The
/// answer repeats the one that was chosen.
///
/// # Errors
/// [`NegotiationError`].
pub fn spdy<'a>(
    offered: impl IntoIterator<Item = &'a str>,
    spoken: &'static str,
) -> Result<&'static str, NegotiationError> {
    let mut offered = listed(offered).peekable();
    if offered.peek().is_none() {
        return Err(NegotiationError::NothingOffered);
    }
    if offered.any(|protocol| protocol == spoken) {
        Ok(spoken)
    } else {
        let accepted = vec![spoken];
        Err(NegotiationError::NothingInCommon { accepted })
    }
}

/// What a WebSocket for port-forwarding speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortForwardProtocol {
    /// [`PORT_FORWARD_TUNNEL`].
    Tunnel,
    /// Two channels per port.
    Channels(ChannelProtocol),
}

impl PortForwardProtocol {
    /// The name to answer with in `Sec-WebSocket-Protocol`, if any.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Tunnel => Some(PORT_FORWARD_TUNNEL),
            Self::Channels(protocol) => protocol.name(),
        }
    }
}

/// WebSocket, exec and attach: the values of every `Sec-WebSocket-Protocol`; the client's order decides.
///
/// # Errors
/// [`NegotiationError::NothingInCommon`].
pub fn websocket_remote_command<'a>(
    offered: impl IntoIterator<Item = &'a str>,
) -> Result<ChannelProtocol, NegotiationError> {
    use ChannelProtocol::{Base64, Base64V4, Plain, V4, V5};
    first(offered, &[V5, V4, Base64V4, Plain, Base64])
}

/// WebSocket, port-forward: the tunnel if it is offered at all, else the client's order decides.
///
/// # Errors
/// [`NegotiationError::NothingInCommon`].
pub fn websocket_port_forward<'a>(
    offered: impl IntoIterator<Item = &'a str>,
) -> Result<PortForwardProtocol, NegotiationError> {
    use ChannelProtocol::{Base64V4, V4};
    let offered: Vec<&str> = listed(offered).collect();
    if offered.contains(&PORT_FORWARD_TUNNEL) {
        return Ok(PortForwardProtocol::Tunnel);
    }
    match first(offered, &[V4, Base64V4]) {
        Ok(protocol) => Ok(PortForwardProtocol::Channels(protocol)),
        Err(NegotiationError::NothingInCommon { mut accepted }) => {
            accepted.insert(0, PORT_FORWARD_TUNNEL);
            Err(NegotiationError::NothingInCommon { accepted })
        }
        Err(error) => Err(error),
    }
}

fn first<'a>(
    offered: impl IntoIterator<Item = &'a str>,
    spoken: &[ChannelProtocol],
) -> Result<ChannelProtocol, NegotiationError> {
    let mut offered = listed(offered).peekable();
    if offered.peek().is_none() {
        return Ok(ChannelProtocol::Unnamed);
    }
    let named = |name: &str| {
        spoken
            .iter()
            .copied()
            .find(|protocol| protocol.name() == Some(name))
    };
    offered
        .find_map(named)
        .ok_or_else(|| NegotiationError::NothingInCommon {
            accepted: spoken.iter().filter_map(|protocol| protocol.name()).collect(),
        })
}

/// Values may be lists themselves.
fn listed<'a>(values: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    values
        .into_iter()
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_spdy(offered: &[&str], spoken: &'static str, expected: &Result<&str, NegotiationError>) {
        assert_eq!(&spdy(offered.iter().copied(), spoken), expected, "{offered:?}");
    }

    #[test]
    fn spdy_takes_what_both_speak() {
        let nothing = |accepted| {
            Err(NegotiationError::NothingInCommon {
                accepted: vec![accepted],
            })
        };
        let kubectl = [
            "v5.channel.k8s.io",
            "v4.channel.k8s.io",
            "v3.channel.k8s.io",
            "channel.k8s.io",
        ];
        check_spdy(&kubectl, REMOTE_COMMAND, &Ok("v4.channel.k8s.io"));
        check_spdy(
            &["v5.channel.k8s.io, v4.channel.k8s.io"],
            REMOTE_COMMAND,
            &Ok("v4.channel.k8s.io"),
        );
        check_spdy(&["portforward.k8s.io"], PORT_FORWARD, &Ok("portforward.k8s.io"));
        check_spdy(
            &["v3.channel.k8s.io"],
            REMOTE_COMMAND,
            &nothing("v4.channel.k8s.io"),
        );
        check_spdy(
            &["V4.CHANNEL.K8S.IO"],
            REMOTE_COMMAND,
            &nothing("v4.channel.k8s.io"),
        );
        check_spdy(&[], REMOTE_COMMAND, &Err(NegotiationError::NothingOffered));
        check_spdy(
            &["", " , "],
            REMOTE_COMMAND,
            &Err(NegotiationError::NothingOffered),
        );
    }

    #[test]
    fn a_websocket_for_a_command_takes_the_clients_first() {
        use ChannelProtocol::{Base64, Base64V4, Unnamed, V4, V5};
        let check = |offered: &[&str], expected| {
            let chosen = websocket_remote_command(offered.iter().copied());
            assert_eq!(chosen, Ok(expected), "{offered:?}");
        };
        check(&["v5.channel.k8s.io"], V5);
        check(&["v5.channel.k8s.io,v4.channel.k8s.io"], V5);
        check(&["v4.channel.k8s.io", "v5.channel.k8s.io"], V4);
        check(&["unknown", "v4.base64.channel.k8s.io"], Base64V4);
        check(&["base64.channel.k8s.io"], Base64);
        check(&[], Unnamed);
        let refused = websocket_remote_command([PORT_FORWARD_TUNNEL]).unwrap_err();
        let NegotiationError::NothingInCommon { accepted } = refused else {
            panic!("{refused}");
        };
        assert_eq!(accepted.len(), 5);
    }

    #[test]
    fn a_websocket_for_ports_takes_the_tunnel_before_all() {
        use ChannelProtocol::{Base64V4, Unnamed, V4};
        use PortForwardProtocol::{Channels, Tunnel};
        let check = |offered: &[&str], expected| {
            let chosen = websocket_port_forward(offered.iter().copied());
            assert_eq!(chosen, Ok(expected), "{offered:?}");
        };
        check(&["v4.channel.k8s.io, SPDY/3.1+portforward.k8s.io"], Tunnel);
        check(&["v4.channel.k8s.io"], Channels(V4));
        check(&["v4.base64.channel.k8s.io"], Channels(Base64V4));
        check(&[], Channels(Unnamed));
        let refused = websocket_port_forward(["v5.channel.k8s.io"]).unwrap_err();
        let accepted = vec![
            PORT_FORWARD_TUNNEL,
            "v4.channel.k8s.io",
            "v4.base64.channel.k8s.io",
        ];
        assert_eq!(refused, NegotiationError::NothingInCommon { accepted });
    }
}
