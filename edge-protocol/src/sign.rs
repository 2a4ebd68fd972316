//! Signatures of the hub: DSSE envelopes with Ed25519, and the check that a statement was meant for this very session.
//!
//! DSSE (Dead Simple Signing Envelope, v1.0.2) signs `PAE(type, body)`, a length-prefixed concatenation, so that neither part can be
//! mistaken for the other. The envelope's JSON field names are those of its specification.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::digest::hex;
use crate::v1::{Statement, StreamOrder};
use crate::{DeviceId, Digest, EnrolmentSerial, HubId, Nonce, SessionEpoch};

/// The payload type of a [`Statement`].
pub const STATEMENT_TYPE: &str = "application/vnd.outrigger.statement.v1+json";

/// The payload type of a [`StreamOrder`].
pub const STREAM_TYPE: &str = "application/vnd.outrigger.stream.v1+json";

/// Names a signing key: the first 16 bytes of the SHA-256 of its public key, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    pub fn of(key: &VerifyingKey) -> Self {
        Self::of_bytes(key.as_bytes())
    }

    pub(crate) fn of_bytes(public_key: &[u8]) -> Self {
        Self(hex(&Digest::of(public_key).as_bytes()[..16]))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A DSSE envelope. Its payload is opaque until a signature over it was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    pub payload_type: String,
    /// Standard base64 with padding.
    pub payload: String,
    pub signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    pub keyid: KeyId,
    pub sig: String,
}

/// The hub's signing key. Signing is deterministic (RFC 8032), so machines may do it.
pub struct Signer {
    key: SigningKey,
    id: KeyId,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Signer {
    pub fn new(key: SigningKey) -> Self {
        let id = KeyId::of(&key.verifying_key());
        Self { key, id }
    }

    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// Signs one payload of the named type.
    pub fn seal(&self, payload_type: &str, payload: &[u8]) -> Envelope {
        let signature = self.key.sign(&pre_authentication_encoding(payload_type, payload));
        Envelope {
            payload_type: payload_type.to_owned(),
            payload: BASE64.encode(payload),
            signatures: vec![EnvelopeSignature {
                keyid: self.id.clone(),
                sig: BASE64.encode(signature.to_bytes()),
            }],
        }
    }

    pub fn seal_statement(&self, statement: &Statement) -> Envelope {
        let payload = serde_json::to_vec(statement).expect("a statement has only string keys");
        self.seal(STATEMENT_TYPE, &payload)
    }

    pub fn seal_stream_order(&self, order: &StreamOrder) -> Envelope {
        let payload = serde_json::to_vec(order).expect("an order has only string keys");
        self.seal(STREAM_TYPE, &payload)
    }
}

/// The hub keys that a device trusts.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    keys: BTreeMap<KeyId, VerifyingKey>,
}

impl FromIterator<VerifyingKey> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = VerifyingKey>>(keys: I) -> Self {
        Self {
            keys: keys.into_iter().map(|key| (KeyId::of(&key), key)).collect(),
        }
    }
}

/// What a device's present session is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub hub: HubId,
    pub device: DeviceId,
    pub enrolment: EnrolmentSerial,
    pub nonce: Nonce,
    /// Known from the first statement of the session on.
    pub session: Option<SessionEpoch>,
    /// The greatest statement sequence seen in this session; 0 before the first.
    pub last_seq: u64,
}

/// Why a signed message was not accepted. Nothing of it was acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no signature by a key this device trusts")]
    UnknownKey,
    #[error("the signature does not fit the content")]
    BadSignature,
    #[error("payload type {0:?} is not the one that is expected here")]
    WrongType(String),
    #[error("the payload is no document of a known version: {0}")]
    Malformed(String),
    #[error("it speaks for another hub, {0}")]
    OtherHub(HubId),
    #[error("it is for another device, {0}")]
    OtherDevice(DeviceId),
    #[error("it is for another enrolment of this device, {0}")]
    OtherEnrolment(EnrolmentSerial),
    #[error("it belongs to another session of this device")]
    OtherSession,
    #[error("statement {seq} is not after {last}: a replay")]
    Replayed { seq: u64, last: u64 },
}

impl TrustedKeys {
    /// The payload, if a trusted key signed it under this type.
    ///
    /// # Errors
    /// [`Refusal::WrongType`], [`Refusal::UnknownKey`], [`Refusal::BadSignature`] or [`Refusal::Malformed`] (not base64).
    pub fn open(&self, payload_type: &str, envelope: &Envelope) -> Result<Vec<u8>, Refusal> {
        if envelope.payload_type != payload_type {
            return Err(Refusal::WrongType(
                envelope.payload_type.chars().take(80).collect(),
            ));
        }
        let malformed = |error: base64::DecodeError| Refusal::Malformed(error.to_string());
        let payload = BASE64.decode(&envelope.payload).map_err(malformed)?;
        let (key, signature) = envelope
            .signatures
            .iter()
            .find_map(|signature| Some((self.keys.get(&signature.keyid)?, signature)))
            .ok_or(Refusal::UnknownKey)?;
        let bytes = BASE64.decode(&signature.sig).map_err(|_| Refusal::BadSignature)?;
        let signature = Signature::from_slice(&bytes).map_err(|_| Refusal::BadSignature)?;
        key.verify_strict(&pre_authentication_encoding(payload_type, &payload), &signature)
            .map_err(|_| Refusal::BadSignature)?;
        Ok(payload)
    }

    /// The statement, if a trusted key signed it for exactly this device, enrolment and session, and it was not seen before.
    ///
    /// # Errors
    /// The [`Refusal`] that says which of these does not hold.
    pub fn open_statement(&self, envelope: &Envelope, binding: &Binding) -> Result<Statement, Refusal> {
        let payload = self.open(STATEMENT_TYPE, envelope)?;
        let statement: Statement =
            serde_json::from_slice(&payload).map_err(|error| Refusal::Malformed(error.to_string()))?;
        binding.check(&statement)?;
        Ok(statement)
    }

    /// The order, if a trusted key signed it for exactly this device, enrolment and session. Whether it was seen before, its ticket tells the hub.
    ///
    /// # Errors
    /// The [`Refusal`] that says which of these does not hold.
    pub fn open_stream_order(&self, envelope: &Envelope, binding: &Binding) -> Result<StreamOrder, Refusal> {
        let payload = self.open(STREAM_TYPE, envelope)?;
        let order: StreamOrder =
            serde_json::from_slice(&payload).map_err(|error| Refusal::Malformed(error.to_string()))?;
        if binding.session.is_none() {
            return Err(Refusal::OtherSession);
        }
        binding.check_parties(&Parties {
            v: order.v,
            hub: order.hub,
            device: &order.device,
            enrolment: &order.enrolment,
            nonce: &order.nonce,
            session: order.session,
        })?;
        Ok(order)
    }
}

/// Whom a signed document is between.
struct Parties<'a> {
    v: u16,
    hub: HubId,
    device: &'a DeviceId,
    enrolment: &'a EnrolmentSerial,
    nonce: &'a Nonce,
    session: SessionEpoch,
}

impl Binding {
    fn check(&self, statement: &Statement) -> Result<(), Refusal> {
        self.check_parties(&Parties {
            v: statement.v,
            hub: statement.hub,
            device: &statement.device,
            enrolment: &statement.enrolment,
            nonce: &statement.nonce,
            session: statement.session,
        })?;
        if statement.generation.incarnation != statement.incarnation {
            return Err(Refusal::Malformed(
                "the set's incarnation is not the statement's".to_owned(),
            ));
        }
        if statement.seq <= self.last_seq {
            return Err(Refusal::Replayed {
                seq: statement.seq,
                last: self.last_seq,
            });
        }
        Ok(())
    }

    fn check_parties(&self, of: &Parties<'_>) -> Result<(), Refusal> {
        if of.v != crate::v1::VERSION {
            return Err(Refusal::Malformed(format!("version {}", of.v)));
        }
        if of.hub != self.hub {
            return Err(Refusal::OtherHub(of.hub));
        }
        if *of.device != self.device {
            return Err(Refusal::OtherDevice(of.device.clone()));
        }
        if *of.enrolment != self.enrolment {
            return Err(Refusal::OtherEnrolment(of.enrolment.clone()));
        }
        if *of.nonce != self.nonce || self.session.is_some_and(|session| session != of.session) {
            return Err(Refusal::OtherSession);
        }
        Ok(())
    }
}

/// `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`, lengths in decimal.
pub(crate) fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {} {} ",
        payload_type.len(),
        payload_type,
        payload.len()
    )
    .into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        // The example of the DSSE protocol document.
        let bytes = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
