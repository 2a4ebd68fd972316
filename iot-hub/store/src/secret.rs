//! Secrets at rest. Tokens carry 256 random bits, so a plain SHA-256 is enough; there is nothing to guess offline.

use edge_protocol::Digest;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// The SHA-256 of a random secret, kept in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash(Digest);

impl SecretHash {
    pub fn of(secret: &str) -> Self {
        Self(Digest::of(secret))
    }

    /// Whether it is the hash of this secret; takes the same time wherever they differ.
    pub fn matches(&self, secret: &str) -> bool {
        Digest::of(secret).as_bytes().ct_eq(self.0.as_bytes()).into()
    }

    pub(crate) fn column(&self) -> String {
        self.0.to_string()
    }

    pub(crate) fn from_column(text: &str) -> Result<Self, edge_protocol::ids::InvalidId> {
        text.parse().map(Self)
    }
}
