//! Enrolment: the one exchange a device has before it has a certificate (`POST /enroll` on the device port).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::facts::LinkClass;
use crate::sealing::SealingKey;
use crate::sign::Envelope;
use crate::{DeviceId, Digest, EnrolmentSerial, HubId};

/// A one-time token as a person carries it to the device: `id.secret.anchor`, where `anchor` is the SHA-256 of the hub's root
/// certificate (DER), so that the very first contact is authenticated from both sides. `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolmentToken {
    pub id: String,
    pub secret: String,
    pub anchor: Digest,
}

/// A text that is not an enrolment token. The text itself is not repeated: it may be most of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an enrolment token: expected id.secret.anchor, as the hub printed it")]
pub struct InvalidToken;

impl std::str::FromStr for EnrolmentToken {
    type Err = InvalidToken;
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let word = |part: &str| {
            (1..=128).contains(&part.len())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let mut parts = text.trim().splitn(3, '.');
        let (id, secret, anchor) = (parts.next(), parts.next(), parts.next());
        let (Some(id), Some(secret), Some(anchor)) = (id, secret, anchor) else {
            return Err(InvalidToken);
        };
        let anchor = format!("sha256:{anchor}").parse().map_err(|_| InvalidToken)?;
        if !word(id) || !word(secret) {
            return Err(InvalidToken);
        }
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            anchor,
        })
    }
}

impl EnrolmentToken {
    /// The form that people carry; it contains the secret.
    pub fn reveal(&self) -> String {
        let anchor = self.anchor.to_string();
        format!(
            "{}.{}.{}",
            self.id,
            self.secret,
            anchor.trim_start_matches("sha256:")
        )
    }
}

impl fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolmentToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The same token with the same keys within 24 h gives the same certificate, so an answer lost on the way may be asked for again.
/// `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    pub v: u16,
    pub token_id: String,
    pub token_secret: String,
    /// The id the device would like; the token may fix another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// A PKCS#10 request (PEM) signed by the device's identity key, ECDSA P-256. Only its public key is used.
    pub csr: String,
    /// A [`SealingKeyStatement`] signed by the identity key; see [`EnrolmentBinding`](crate::sealing::EnrolmentBinding).
    pub sealing: Envelope,
}

impl fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest")
            .field("token_id", &self.token_id)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// What a device's identity key says of its sealing key: that it belongs to this enrolment and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealingKeyStatement {
    pub v: u16,
    /// The hub it is meant for, by the SHA-256 of its root certificate (DER).
    pub anchor: Digest,
    pub token_id: String,
    /// The id that the same request asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// The SHA-256 of the identity's public key, an uncompressed point: who says this.
    pub identity: Digest,
    /// A [`SealingKey`] as text, so that one which is none is refused by its name.
    pub sealing_key: String,
}

/// What the device pins. It is authenticated by the TLS connection, whose chain ended in the token's anchor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolAnswer {
    pub v: u16,
    pub device: DeviceId,
    pub enrolment: EnrolmentSerial,
    /// The device's certificate and the intermediate (PEM, leaf first).
    pub certificate_chain: String,
    pub hub: HubId,
    /// The hub's Ed25519 statement keys, each 32 bytes in lower-case hex; the first one signs now.
    pub signing_keys: Vec<String>,
    /// Root certificates to pin (PEM).
    pub anchors: String,
    pub link: LinkClass,
    /// The sealing key that was registered.
    pub sealing_key: SealingKey,
}

/// The DNS name in the certificate of a hub's device port. Devices check this name, never the host name they dialled:
/// the hub's identity is its key.
pub fn hub_server_name(hub: HubId) -> String {
    format!("{hub}.hub.outrigger.internal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_hide_their_secret() {
        let token = EnrolmentToken {
            id: "t1".into(),
            secret: "s3cret".into(),
            anchor: Digest::of("root"),
        };
        assert_eq!(token.reveal().parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("s3cret"));
        for bad in ["", "a.b", "a.b.c", "a..sha", "a b.c.d"] {
            assert_eq!(bad.parse::<EnrolmentToken>(), Err(InvalidToken), "{bad}");
        }
    }
}
