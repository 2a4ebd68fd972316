//! Who asks.

use std::collections::BTreeMap;

/// A user as Kubernetes knows it (`user.Info` of k8s.io/apiserver): what authentication found out and authorisation is asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Empty where nobody gave one.
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The group of everyone who is somebody.
const AUTHENTICATED: &str = "system:authenticated";
/// The groups of which one is always given already to whom the API server knows (`NewAuthenticatedGroupAdder`).
const GIVEN: [&str; 2] = [AUTHENTICATED, "system:unauthenticated"];

impl User {
    /// The same user, in the group of all authenticated ones.
    #[must_use]
    pub(crate) fn authenticated(mut self) -> Self {
        if !self.groups.iter().any(|group| GIVEN.contains(&group.as_str())) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}
