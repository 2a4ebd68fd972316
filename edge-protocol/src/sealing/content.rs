//! Objects encrypted under content keys of their own, the same bytes for every device and after every restart of their sealer.
//!
//! Everything is derived (HKDF-SHA256, RFC 5869) from the sealer's root secret, the object's place and name, and the SHA-256 of its
//! content: the same object gives the same bytes, so that an unchanged secret makes no other manifest, and another content has another
//! key, so that no key ever meets a second nonce. Whoever sees the bytes learns when a secret returns to an earlier value, and its length.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroizing;

use crate::Digest;
use crate::digest::{hex, unhex};
use crate::v1::{Bytes, ObjectData, SealedObject, VERSION};

/// Separates these derivations from all others of the same root.
const SALT: &[u8] = b"outrigger sealer v1";

/// What a sealer derives every key from: any 32 random bytes. Whoever has it reads all that was sealed with it; a lost one only means that
/// everything is sealed anew. Erased from memory when dropped.
pub struct RootSecret {
    bytes: Zeroizing<[u8; 32]>,
    derived: Prk,
}

impl fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootSecret").finish_non_exhaustive()
    }
}

/// A text is not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a root secret is 64 lower-case hex digits")]
pub struct InvalidRootSecret;

/// Where an object is from: equal names of two places never share a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealingScope {
    /// The UID of the cluster's `kube-system` namespace.
    pub cluster: String,
    pub namespace: String,
}

/// The key of one object with one content. Erased from memory when dropped.
#[derive(Clone)]
pub struct ContentKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentKey({})", self.digest())
    }
}

impl ContentKey {
    pub(super) fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// By which the key is named: its SHA-256.
    pub fn digest(&self) -> Digest {
        Digest::of(*self.0)
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*self.0).expect("the key has the cipher's length");
        LessSafeKey::new(key)
    }
}

/// A sealed object as its bytes, which are what a manifest names, and its key.
#[derive(Debug, Clone)]
pub struct Sealed {
    pub body: String,
    pub key: ContentKey,
}

/// Why a sealed object does not open, or a wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("it is sealed with another key")]
    OtherKey,
    #[error("it is sealed to another device")]
    OtherDevice,
    #[error("version {0} is not known")]
    OtherVersion(u16),
    /// Truncated, swapped, renamed or otherwise not what was sealed.
    #[error("it is not what was sealed")]
    Damaged,
}

impl RootSecret {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let derived = Salt::new(HKDF_SHA256, SALT).extract(&*bytes);
        Self { bytes, derived }
    }

    /// What [`reveal`](Self::reveal) wrote.
    ///
    /// # Errors
    /// [`InvalidRootSecret`]
    pub fn from_hex(text: &str) -> Result<Self, InvalidRootSecret> {
        unhex(text).map(Self::from_bytes).ok_or(InvalidRootSecret)
    }

    /// The secret in lower-case hex, for the file that keeps it.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(&*self.bytes))
    }

    /// Encrypts an object under its own content key.
    pub fn seal(&self, scope: &SealingScope, object: &ObjectData) -> Sealed {
        let mut text = serde_json::to_vec(object).expect("an object has only string keys");
        let content = Digest::of(&text);
        let place = Digest::of_parts([
            scope.cluster.as_bytes(),
            scope.namespace.as_bytes(),
            object.kind.as_bytes(),
            object.name.as_bytes(),
            content.as_bytes(),
        ]);
        let key = ContentKey(self.derive("content key", place));
        let nonce: Zeroizing<[u8; NONCE_LEN]> = self.derive("nonce", place);
        let associated = associated(&object.kind, &object.name, &key.digest());
        key.cipher()
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(*nonce), associated, &mut text)
            .expect("an object is shorter than the 256 GiB that the cipher allows");
        let sealed = SealedObject {
            v: VERSION,
            kind: object.kind.clone(),
            name: object.name.clone(),
            key: key.digest(),
            nonce: Bytes(nonce.to_vec()),
            ciphertext: Bytes(text),
        };
        let body = serde_json::to_string(&sealed).expect("a sealed object has only string keys");
        Sealed { body, key }
    }

    /// Bytes for one purpose and one subject.
    pub(super) fn derive<const N: usize>(&self, purpose: &str, subject: Digest) -> Zeroizing<[u8; N]> {
        let mut bytes = Zeroizing::new([0; N]);
        let info = [purpose.as_bytes(), subject.as_bytes()];
        self.derived
            .expand(&info, Length(N))
            .and_then(|expanded| expanded.fill(&mut *bytes))
            .expect("HKDF gives up to 8160 bytes");
        bytes
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl SealedObject {
    /// The object in clear.
    ///
    /// # Errors
    /// [`OpenError`]; nothing of the content is in it.
    pub fn open(self, key: &ContentKey) -> Result<ObjectData, OpenError> {
        if self.v != VERSION {
            return Err(OpenError::OtherVersion(self.v));
        }
        if self.key != key.digest() {
            return Err(OpenError::OtherKey);
        }
        let nonce = Nonce::try_assume_unique_for_key(&self.nonce.0).map_err(|_| OpenError::Damaged)?;
        let associated = associated(&self.kind, &self.name, &self.key);
        let mut text = Zeroizing::new(self.ciphertext.0);
        let clear = key
            .cipher()
            .open_in_place(nonce, associated, &mut text)
            .map_err(|_| OpenError::Damaged)?;
        let object: ObjectData = serde_json::from_slice(clear).map_err(|_| OpenError::Damaged)?;
        if (&object.kind, &object.name) != (&self.kind, &self.name) {
            return Err(OpenError::Damaged);
        }
        Ok(object)
    }
}

/// Kind, name and key, so that none of them can be changed.
fn associated(kind: &str, name: &str, key: &Digest) -> Aad<[u8; 32]> {
    Aad::from(*Digest::of_parts([kind.as_bytes(), name.as_bytes(), key.as_bytes()]).as_bytes())
}
