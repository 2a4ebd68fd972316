//! As whom objects are read.
//!
//! A node may read what its pods refer to, and nothing else: that is decided by the API server's own node authorizer
//! (`plugin/pkg/auth/authorizer/node` of Kubernetes 1.37) for `system:node:<node>`. Constrained impersonation (KEP-5284, on by default
//! from 1.36) lets us be our nodes for that and for nothing more: the verbs are `impersonate:arbitrary-node` on the node and
//! `impersonate-on:arbitrary-node:<verb>` on what is read (`k8s.io/apiserver/pkg/endpoints/filters/impersonation/mode.go`). Only the user's name
//! may be sent; the group `system:nodes` comes from the API server.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::error::Error;

/// The first version whose API servers impersonate nodes.
const CONSTRAINED_IMPERSONATION: ServerVersion = ServerVersion { major: 1, minor: 36 };

/// As whom objects are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// As the node of a pod that refers to them: what no pod of ours refers to is out of reach.
    Node,
    /// As this process' own service account, which then needs the rights of its own, namespace by namespace.
    Account,
}

/// The version of an API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    pub major: u32,
    pub minor: u32,
}

impl ServerVersion {
    /// What the API server says of itself.
    ///
    /// # Errors
    /// When it does not say its version.
    pub async fn of(cluster: &Cluster) -> Result<Self, Error> {
        let path = "/version";
        let version = cluster.get(path).await?;
        let known = version.as_ref().and_then(Self::read);
        known.ok_or(Error::Malformed {
            path: path.to_owned(),
            what: "major and minor",
        })
    }

    /// Distributions write their minor version with a sign after it (`36+`).
    fn read(version: &Value) -> Option<Self> {
        let number = |key: &str| {
            let text = version.get(key)?.as_str()?;
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            text.get(..digits)?.parse::<u32>().ok()
        };
        Some(Self {
            major: number("major")?,
            minor: number("minor")?,
        })
    }
}

impl Identity {
    /// What an API server of this version can do.
    pub fn at(version: ServerVersion) -> Self {
        if version >= CONSTRAINED_IMPERSONATION {
            Self::Node
        } else {
            Self::Account
        }
    }

    pub(super) fn cluster(self, cluster: &Cluster, node: &str) -> Cluster {
        match self {
            Self::Node => cluster.as_node(node),
            Self::Account => cluster.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(major: &str, minor: &str, expected: Option<Identity>) {
        let version = json!({"major": major, "minor": minor});
        let found = ServerVersion::read(&version).map(Identity::at);
        assert_eq!(found, expected, "{major}.{minor}");
    }

    #[test]
    fn nodes_are_impersonated_from_1_36_on() {
        check("1", "36", Some(Identity::Node));
        check("1", "36+", Some(Identity::Node));
        check("1", "100", Some(Identity::Node));
        check("2", "0", Some(Identity::Node));
        check("1", "35", Some(Identity::Account));
        check("1", "33+", Some(Identity::Account));
        check("1", "", None);
        check("", "36", None);
    }
}
