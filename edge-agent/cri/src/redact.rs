//! Debug output of the messages that carry secrets: names are shown, values never.

use std::fmt;

use crate::v1::{AuthConfig, KeyValue};

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

/// An environment variable: its value may have come from a Secret.
impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{ContainerConfig, PullImageRequest};

    #[test]
    fn no_secret_reaches_debug_output() {
        let secret = "hunter2";
        let auth = AuthConfig {
            username: "bob".into(),
            password: secret.into(),
            auth: secret.into(),
            server_address: "registry".into(),
            identity_token: secret.into(),
            registry_token: secret.into(),
        };
        let envs = vec![KeyValue {
            key: "PASSWORD".into(),
            value: secret.into(),
        }];
        let shown = format!(
            "{:?} {:?}",
            PullImageRequest {
                auth: Some(auth),
                ..Default::default()
            },
            ContainerConfig {
                envs,
                ..Default::default()
            }
        );
        assert!(shown.contains("bob") && shown.contains("PASSWORD"), "{shown}");
        assert!(
            !shown.contains(secret) && !shown.contains(&format!("{:?}", secret.as_bytes())),
            "{shown}"
        );
    }
}
