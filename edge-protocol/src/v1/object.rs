//! The blobs that a manifest's [`ObjectRef`](super::ObjectRef)s name: what files and variables are made from.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// Kinds of objects, as [`ObjectRef::kind`](super::ObjectRef) spells them.
pub mod kind {
    pub const CONFIG_MAP: &str = "ConfigMap";
    pub const SECRET: &str = "Secret";
    /// A service account's token bound to the pod; its one key is `token`.
    pub const TOKEN: &str = "Token";
    /// A `.dockerconfigjson`, for pulls of the pod's images only.
    pub const PULL_CREDENTIAL: &str = "PullCredential";
    /// The variables of services and of the API server, as a pod with `enableServiceLinks` gets them. There is at most one, named `services`.
    pub const SERVICES: &str = "Services";

    /// Whether an object of this kind leaves its cluster sealed only.
    pub fn is_secret(kind: &str) -> bool {
        matches!(kind, SECRET | TOKEN | PULL_CREDENTIAL)
    }
}

/// The largest body of an object, in bytes: 1 MiB of values, which is all that a `ConfigMap` or a `Secret` may hold, in base64 twice.
pub const MAX_OBJECT: usize = 2 << 20;

/// An object in clear. `Debug` shows the keys only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectData {
    pub v: u16,
    pub kind: String,
    pub name: String,
    /// Values that are UTF-8.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub text: BTreeMap<String, String>,
    /// Values that are not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binary: BTreeMap<String, Bytes>,
}

impl ObjectData {
    /// The value of a key, as bytes.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.text
            .get(key)
            .map(String::as_bytes)
            .or_else(|| self.binary.get(key).map(|bytes| bytes.0.as_slice()))
    }

    /// All keys in order, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut all: BTreeMap<&str, &[u8]> = BTreeMap::new();
        all.extend(
            self.binary
                .iter()
                .map(|(key, bytes)| (key.as_str(), bytes.0.as_slice())),
        );
        all.extend(
            self.text
                .iter()
                .map(|(key, text)| (key.as_str(), text.as_bytes())),
        );
        all.into_iter()
    }
}

impl fmt::Debug for ObjectData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.iter().map(|(key, _)| key).collect();
        f.debug_struct("ObjectData")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

/// Bytes, written as base64.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        BASE64.encode(bytes.0)
    }
}

impl TryFrom<String> for Bytes {
    type Error = base64::DecodeError;
    fn try_from(text: String) -> Result<Self, base64::DecodeError> {
        BASE64.decode(text).map(Self)
    }
}

/// An [`ObjectData`] encrypted under a content key of its own, the same bytes for every device. Who may read it gets the content key
/// in a [`KeyWrap`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedObject {
    pub v: u16,
    pub kind: String,
    pub name: String,
    /// The SHA-256 of the content key: which wrap opens it.
    pub key: Digest,
    /// 12 bytes.
    pub nonce: Bytes,
    /// ChaCha20-Poly1305 (RFC 8439) over the JSON of the [`ObjectData`]; the associated data is kind, name and `key`.
    pub ciphertext: Bytes,
}

impl SealedObject {
    /// The key of a sealed object, read from its bytes without the rest of them. What is no sealed object has none.
    pub fn key_of(body: &str) -> Option<Digest> {
        #[derive(Deserialize)]
        struct Head {
            key: Digest,
            #[serde(rename = "ciphertext")]
            _ciphertext: serde::de::IgnoredAny,
        }
        serde_json::from_str(body).map(|Head { key, .. }| key).ok()
    }
}

/// A content key encrypted to one device's sealing key by HPKE base mode (RFC 9180: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
/// ChaCha20-Poly1305). A forged one opens nothing: the manifest is signed and names the sealed blob's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyWrap {
    /// The SHA-256 of the content key.
    pub key: Digest,
    /// The SHA-256 of the device's sealing key that it is wrapped for.
    pub sealing_key: Digest,
    /// HPKE's encapsulated key, 32 bytes.
    pub enc: Bytes,
    pub ciphertext: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_shows_its_keys_only() {
        let object = ObjectData {
            v: 1,
            kind: kind::SECRET.into(),
            name: "db".into(),
            text: BTreeMap::from([("password".into(), "hunter2".into())]),
            binary: BTreeMap::from([("blob".into(), Bytes(vec![0, 255]))]),
        };
        let shown = format!("{object:?}");
        assert!(
            shown.contains("password") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert_eq!(object.get("blob"), Some([0, 255].as_slice()));
        assert_eq!(
            object.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            ["blob", "password"]
        );
        let text = serde_json::to_string(&object).unwrap();
        assert_eq!(serde_json::from_str::<ObjectData>(&text).unwrap(), object);
    }
}
