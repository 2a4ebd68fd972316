//! Why a pod is not translated: it cannot be honoured, or not before something else is there.

use std::fmt;

use crate::refusal::Refusals;

/// Why there is no manifest of a pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untranslated {
    /// Never, as it is written.
    #[error(transparent)]
    Refused(#[from] Refusals),
    /// Once what it refers to is there. What the devices have of it stays.
    #[error(transparent)]
    NotYet(#[from] NotYet),
}

/// What a pod waits for: never empty, sorted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NotYet {
    /// Claims with why they cannot be used; the first word people look for.
    pub(crate) claims: Vec<(String, String)>,
    /// Objects that nobody has looked for: kind and name.
    pub(crate) unread: Vec<(&'static str, String)>,
}

impl NotYet {
    /// For a condition.
    pub fn reason(&self) -> &'static str {
        if self.claims.is_empty() {
            "ObjectsNotRead"
        } else {
            "ClaimNotBound"
        }
    }

    pub(crate) fn or_none(self) -> Result<(), Self> {
        if self.claims.is_empty() && self.unread.is_empty() {
            Ok(())
        } else {
            Err(self)
        }
    }
}

impl fmt::Display for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claims = self
            .claims
            .iter()
            .map(|(name, why)| format!("PersistentVolumeClaim {name}: {why}"));
        let unread = self
            .unread
            .iter()
            .map(|(kind, name)| format!("{kind} {name}: not read yet"));
        f.write_str(&claims.chain(unread).collect::<Vec<_>>().join("; "))
    }
}
