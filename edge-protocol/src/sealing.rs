//! A device's sealing key, X25519: how the key is named, and how the device's identity key vouches for it.
//!
//! What will be sealed to a device must not be readable by who carries it, so the key it is sealed to is not simply the one that a hub
//! names: the device signs it with its identity key, whose certificate anyone can check. The signature covers everything that
//! makes the enrolment ([`SealingKeyStatement`]), so that one taken from elsewhere fits no other device, token or hub.
//!
//! `content` encrypts objects, once each; `wrap` encrypts their keys to devices.
//!
//! Keys are the 32 bytes of RFC 7748, which are also what HPKE's DHKEM(X25519) calls a serialised key (RFC 9180, 7.1.1).

mod content;
mod wrap;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::traits::IsIdentity as _;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::digest::{hex, unhex};
use crate::sign::{Envelope, EnvelopeSignature, KeyId, pre_authentication_encoding};
use crate::v1::{SealingKeyStatement, VERSION};
use crate::{DeviceId, Digest};

pub use content::{ContentKey, InvalidRootSecret, OpenError, RootSecret, Sealed, SealingScope};

/// The payload type of a [`SealingKeyStatement`].
pub const SEALING_KEY_TYPE: &str = "application/vnd.outrigger.sealing-key.v1+json";

/// The public half of a device's sealing key, written as 64 lower-case hex digits. Something can be sealed to it: it is no point of low
/// order, with which everyone would share the same secret (RFC 7748, 6.1).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SealingKey([u8; 32]);

/// Why bytes or a text are no sealing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSealingKey {
    #[error("a sealing key is 64 lower-case hex digits")]
    NotHex,
    #[error("the sealing key is a point of low order")]
    LowOrder,
}

impl SealingKey {
    /// # Errors
    /// [`InvalidSealingKey::LowOrder`].
    pub fn new(bytes: [u8; 32]) -> Result<Self, InvalidSealingKey> {
        // A clamped scalar is a multiple of the cofactors of curve and twist: it takes exactly the points of low order to the identity.
        if MontgomeryPoint(bytes).mul_clamped([0; 32]).is_identity() {
            return Err(InvalidSealingKey::LowOrder);
        }
        Ok(Self(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What people compare: the SHA-256 of the key.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(self.0)
    }
}

impl fmt::Display for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for SealingKey {
    type Err = InvalidSealingKey;
    fn from_str(text: &str) -> Result<Self, InvalidSealingKey> {
        Self::new(unhex(text).ok_or(InvalidSealingKey::NotHex)?)
    }
}

impl TryFrom<String> for SealingKey {
    type Error = InvalidSealingKey;
    fn try_from(text: String) -> Result<Self, InvalidSealingKey> {
        text.parse()
    }
}

impl From<SealingKey> for String {
    fn from(key: SealingKey) -> Self {
        key.to_string()
    }
}

/// The private half: any 32 random bytes. Erased from memory when dropped, and shown by nothing but [`reveal`](Self::reveal).
pub struct SealingSecret(Zeroizing<[u8; 32]>);

impl fmt::Debug for SealingSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingSecret").finish_non_exhaustive()
    }
}

impl SealingSecret {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// What [`reveal`](Self::reveal) wrote.
    ///
    /// # Errors
    /// [`InvalidSealingKey::NotHex`].
    pub fn from_hex(text: &str) -> Result<Self, InvalidSealingKey> {
        let bytes = unhex(text).ok_or(InvalidSealingKey::NotHex)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// The secret in lower-case hex, for the file that keeps it.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(&*self.0))
    }

    /// The half that may be known.
    pub fn public(&self) -> SealingKey {
        SealingKey(MontgomeryPoint::mul_base_clamped(*self.0).to_bytes())
    }
}

/// The one enrolment that a sealing key is registered with. Device and hub each make it of what they know by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentBinding {
    /// The SHA-256 of the hub's root certificate (DER), as the token names it.
    pub anchor: Digest,
    pub token_id: String,
    /// The id that the device asks for, if it asks for one.
    pub device: Option<DeviceId>,
    /// The public key of the certificate request, ECDSA P-256, as an uncompressed point (SEC 1, 2.3.3).
    pub identity: Vec<u8>,
}

/// Why a sealing key is not taken. Nothing was registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealingRefusal {
    #[error("payload type {0:?} is not {SEALING_KEY_TYPE:?}")]
    WrongType(String),
    #[error("it is not signed by the key of the certificate request")]
    OtherSigner,
    #[error("the signature does not fit the content")]
    BadSignature,
    #[error("the payload is not a statement of a known version: {0}")]
    Malformed(String),
    #[error("it is meant for another hub")]
    OtherHub,
    #[error("it was made for another enrolment token")]
    OtherToken,
    #[error("it was made for another device")]
    OtherDevice,
    #[error(transparent)]
    BadKey(#[from] InvalidSealingKey),
}

impl EnrolmentBinding {
    /// Vouches for a sealing key. `sign` is the identity key: ECDSA P-256 with SHA-256, the signature in DER.
    ///
    /// # Errors
    /// Those of `sign`.
    pub fn seal<E>(
        &self,
        key: SealingKey,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Envelope, E> {
        let statement = self.statement(key.into());
        let payload = serde_json::to_vec(&statement).expect("a statement has only string keys");
        let signature = sign(&pre_authentication_encoding(SEALING_KEY_TYPE, &payload))?;
        Ok(Envelope {
            payload_type: SEALING_KEY_TYPE.to_owned(),
            payload: BASE64.encode(payload),
            signatures: vec![EnvelopeSignature {
                keyid: KeyId::of_bytes(&self.identity),
                sig: BASE64.encode(signature),
            }],
        })
    }

    /// The sealing key, if this enrolment's identity key signed it for this very enrolment.
    ///
    /// # Errors
    /// The [`SealingRefusal`] that says which of these does not hold.
    pub fn open(&self, envelope: &Envelope) -> Result<SealingKey, SealingRefusal> {
        let statement = verified(envelope, &self.identity)?;
        self.check(&statement)?;
        Ok(statement.sealing_key.parse()?)
    }

    fn statement(&self, sealing_key: String) -> SealingKeyStatement {
        SealingKeyStatement {
            v: VERSION,
            anchor: self.anchor,
            token_id: self.token_id.clone(),
            device: self.device.clone(),
            identity: Digest::of(&self.identity),
            sealing_key,
        }
    }

    fn check(&self, said: &SealingKeyStatement) -> Result<(), SealingRefusal> {
        let meant = self.statement(String::new());
        if said.v != meant.v {
            return Err(SealingRefusal::Malformed(format!("version {}", said.v)));
        }
        // For one message and signature another key can be found that verifies them: the signed text itself names the signer.
        if said.identity != meant.identity {
            return Err(SealingRefusal::OtherSigner);
        }
        if said.anchor != meant.anchor {
            return Err(SealingRefusal::OtherHub);
        }
        if said.token_id != meant.token_id {
            return Err(SealingRefusal::OtherToken);
        }
        if said.device != meant.device {
            return Err(SealingRefusal::OtherDevice);
        }
        Ok(())
    }
}

/// The sealing key that a device vouched for when it enrolled at the hub of this root, for those who seal: they know the identity key
/// from the device's certificate, and believe the hub nothing. `anchor` is the SHA-256 of the root certificate (DER).
///
/// # Errors
/// The [`SealingRefusal`] that says what does not hold.
pub fn vouched_key(
    envelope: &Envelope,
    anchor: Digest,
    identity: &[u8],
) -> Result<SealingKey, SealingRefusal> {
    let statement = verified(envelope, identity)?;
    let binding = EnrolmentBinding {
        anchor,
        token_id: statement.token_id.clone(),
        device: statement.device.clone(),
        identity: identity.to_vec(),
    };
    binding.check(&statement)?;
    Ok(statement.sealing_key.parse()?)
}

/// What the identity key signed.
fn verified(envelope: &Envelope, identity: &[u8]) -> Result<SealingKeyStatement, SealingRefusal> {
    if envelope.payload_type != SEALING_KEY_TYPE {
        let given = envelope.payload_type.chars().take(80).collect();
        return Err(SealingRefusal::WrongType(given));
    }
    let keyid = KeyId::of_bytes(identity);
    let mut signatures = envelope.signatures.iter();
    let signature = signatures
        .find(|signature| signature.keyid == keyid)
        .ok_or(SealingRefusal::OtherSigner)?;
    let malformed = |error: base64::DecodeError| SealingRefusal::Malformed(error.to_string());
    let payload = BASE64.decode(&envelope.payload).map_err(malformed)?;
    let signature = BASE64
        .decode(&signature.sig)
        .map_err(|_| SealingRefusal::BadSignature)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, identity)
        .verify(
            &pre_authentication_encoding(SEALING_KEY_TYPE, &payload),
            &signature,
        )
        .map_err(|_| SealingRefusal::BadSignature)?;
    serde_json::from_slice(&payload).map_err(|error| SealingRefusal::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Alice of RFC 7748, 6.1.
    const SECRET: &str = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
    const PUBLIC: &str = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";

    #[test]
    fn the_public_half_is_that_of_the_standard() {
        let secret = SealingSecret::from_hex(SECRET).unwrap();
        assert_eq!(secret.public().to_string(), PUBLIC);
        assert_eq!(PUBLIC.parse(), Ok(secret.public()));
        assert_eq!(secret.reveal().as_str(), SECRET);
        assert!(!format!("{secret:?}").contains(&SECRET[..8]));
    }

    #[test]
    fn only_keys_that_something_can_be_sealed_to_are_keys() {
        for bad in ["", &PUBLIC[..62], &format!("{PUBLIC}00"), &PUBLIC.to_uppercase()] {
            assert_eq!(bad.parse::<SealingKey>(), Err(InvalidSealingKey::NotHex), "{bad}");
        }
        // All points of low order of curve and twist, with their second encodings (cr.yp.to/ecdh.html, "validate"): 0, 1, p - 1, p,
        // p + 1, and the two of order 8; each also with the unused top bit set.
        let points = [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ];
        for point in points {
            let mut bytes = unhex(point).unwrap();
            assert_eq!(
                SealingKey::new(bytes),
                Err(InvalidSealingKey::LowOrder),
                "{point}"
            );
            bytes[31] |= 0x80;
            assert_eq!(
                SealingKey::new(bytes),
                Err(InvalidSealingKey::LowOrder),
                "{point}"
            );
        }
    }
}
