//! Why a connection was refused and why a session ended: closed enumerations, never text from a peer.

use crate::gate::Refusal;

/// Why the hub cuts a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CutReason {
    /// The identity is no longer valid: revoked, replaced or deleted.
    Revoked,
    /// The hub found the device to break the protocol above MQTT.
    Protocol,
    /// An operator asked for it, or the device is to connect anew with other settings.
    Requested,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// The device sent DISCONNECT. The only end that drops the will.
    Graceful,
    /// The stream ended without DISCONNECT.
    Closed,
    /// The stream failed.
    Io,
    /// No packet arrived within 1.5 × keep-alive.
    KeepAlive,
    /// The device did not read what was sent to it in time.
    WriteTimeout,
    /// A newer connection of the same device took over.
    TakenOver,
    /// The endpoint stops.
    Stopping,
    /// The hub cut the session.
    Cut(CutReason),
    /// Bytes that are not MQTT 3.1.1, or a packet that may not come from a client or not now.
    Protocol,
    /// A packet above the size limit.
    PacketTooLarge,
    /// A publish with `QoS` 2.
    Qos,
    /// A retained publish.
    Retained,
    /// A publish to a topic that is not the device's own up lane.
    Topic,
    /// The task that served the stream was dropped.
    Aborted,
}

impl DisconnectReason {
    /// A fixed word, used as metric label and log field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Graceful => "graceful",
            Self::Closed => "closed",
            Self::Io => "io",
            Self::KeepAlive => "keep-alive",
            Self::WriteTimeout => "write-timeout",
            Self::TakenOver => "taken-over",
            Self::Stopping => "stopping",
            Self::Cut(CutReason::Revoked) => "cut-revoked",
            Self::Cut(CutReason::Protocol) => "cut-protocol",
            Self::Cut(CutReason::Requested) => "cut-requested",
            Self::Protocol => "protocol",
            Self::PacketTooLarge => "packet-too-large",
            Self::Qos => "qos",
            Self::Retained => "retained",
            Self::Topic => "topic",
            Self::Aborted => "aborted",
        }
    }

    /// Whether the peer may still be listening, so that ending the stream properly is worth a moment.
    pub(crate) fn peer_listens(self) -> bool {
        !matches!(
            self,
            Self::Io | Self::KeepAlive | Self::WriteTimeout | Self::TakenOver | Self::Aborted | Self::Closed
        )
    }

    /// Whether messages that wait for their turn are dropped: after a cut the hub wants no more of this device.
    pub(crate) fn discards_waiting(self) -> bool {
        matches!(self, Self::Cut(_))
    }
}

/// Why a connection did not become a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefuseReason {
    /// The TLS handshake failed or took too long.
    Handshake,
    /// Evicted while waiting in the handshake, in favour of newer connections.
    HandshakeEvicted,
    /// A resumed session whose certificate no longer verifies.
    CertificateNotValid,
    /// ALPN chose MQTT, but no client certificate was shown.
    NoCertificate,
    /// The gate refused.
    Gate(Refusal),
    /// Too many connections of this device wait for their CONNECT.
    TooManyArrivals,
    /// No complete CONNECT in time, or the stream ended before it.
    NoConnect,
    /// The first packet is not a well-formed CONNECT.
    Malformed,
    /// A protocol name or level other than 3.1.1.
    ProtocolVersion,
    /// The client id is not the device's id.
    ClientId,
    /// Keep-alive is zero or above the limit.
    KeepAlive,
    /// A persistent session was asked for.
    CleanSession,
    /// A will outside `dev/<id>/`, retained, with `QoS` 2, or too large.
    Will,
    /// The limit of sessions or connections is reached.
    Capacity,
    /// The device's old session did not end in time.
    Takeover,
    /// The endpoint stops.
    Stopping,
}

impl RefuseReason {
    /// A fixed word, used as metric label and log field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::HandshakeEvicted => "handshake-evicted",
            Self::CertificateNotValid => "certificate-not-valid",
            Self::NoCertificate => "no-certificate",
            Self::Gate(Refusal::UnknownDevice) => "unknown-device",
            Self::Gate(Refusal::Revoked) => "revoked",
            Self::Gate(Refusal::NotAdmitted) => "not-admitted",
            Self::Gate(Refusal::Unavailable) => "gate-unavailable",
            Self::TooManyArrivals => "too-many-arrivals",
            Self::NoConnect => "no-connect",
            Self::Malformed => "malformed",
            Self::ProtocolVersion => "protocol-version",
            Self::ClientId => "client-id",
            Self::KeepAlive => "keep-alive",
            Self::CleanSession => "clean-session",
            Self::Will => "will",
            Self::Capacity => "capacity",
            Self::Takeover => "takeover",
            Self::Stopping => "stopping",
        }
    }
}
