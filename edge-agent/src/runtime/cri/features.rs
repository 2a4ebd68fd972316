//! What this runtime can beyond what every CRI v1 runtime can, by its own word: CRI drops unknown fields without one.

use std::sync::{MutexGuard, PoisonError};

use edge_agent_cri::CriError;
use edge_agent_cri::v1::StatusResponse;
use edge_protocol::v1::ability;

use super::Inner;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// What is mounted below a read-only mount can be read-only too.
    pub(super) recursive_read_only: bool,
    /// Groups of the image can be left out.
    pub(super) strict_groups: bool,
}

/// Where the kernel says whether `AppArmor` rules here.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";

/// What a CRI v1 runtime can by our own making or since its first day, and what only the device can tell. Image volumes and stop signals
/// are not among them: no runtime says of itself that it would not drop them. Nor is what the agent does not do yet.
pub(super) fn abilities() -> Vec<&'static str> {
    let mut words = vec![
        ability::ENV_SOURCES,
        ability::PROBES,
        ability::LIFECYCLE,
        ability::TERMINAL,
        ability::TERMINATION_MESSAGE,
        ability::SECURITY,
        ability::NAMESPACES,
        ability::NAMES,
        ability::POD_RESOURCES,
        ability::EMPTY_DIR,
        ability::HOST_PATH,
        ability::PROJECTED,
        ability::LOCAL,
        ability::PULL_CREDENTIALS,
        ability::EPHEMERAL_CONTAINERS,
    ];
    if std::fs::read_to_string(APPARMOR).is_ok_and(|enabled| enabled.trim() == "Y") {
        words.push(ability::APPARMOR);
    }
    words
}

impl Features {
    /// As the runtime's default handler has them. A runtime before CRI 0.30 says nothing, and can nothing of this.
    fn of(status: &StatusResponse) -> Self {
        let mut handlers = status.runtime_handlers.iter();
        let default = handlers.find(|handler| handler.name.is_empty());
        let of_handler = default.and_then(|handler| handler.features.as_ref());
        Self {
            recursive_read_only: of_handler.is_some_and(|features| features.recursive_read_only_mounts),
            strict_groups: status
                .features
                .as_ref()
                .is_some_and(|features| features.supplemental_groups_policy),
        }
    }
}

impl Inner {
    /// As last asked.
    pub(super) async fn features(&self) -> Result<Features, CriError> {
        let known = *self.known_features();
        match known {
            Some(features) => Ok(features),
            None => self.ask_features().await,
        }
    }

    /// Asks anew: a runtime may be upgraded below its agent. A kubelet asks with each look at the runtime's status.
    pub(super) async fn ask_features(&self) -> Result<Features, CriError> {
        let features = Features::of(&self.client.status().await?);
        *self.known_features() = Some(features);
        Ok(features)
    }

    fn known_features(&self) -> MutexGuard<'_, Option<Features>> {
        self.features.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use edge_agent_cri::v1::{RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures};

    use super::*;

    #[test]
    fn only_the_runtimes_own_word_counts() {
        assert_eq!(Features::of(&StatusResponse::default()), Features::default());
        let handler = |name: &str| RuntimeHandler {
            name: name.into(),
            features: Some(RuntimeHandlerFeatures {
                recursive_read_only_mounts: true,
                user_namespaces: false,
            }),
        };
        let status = |name| StatusResponse {
            runtime_handlers: vec![handler(name)],
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        assert!(Features::of(&status("")).recursive_read_only && Features::of(&status("")).strict_groups);
        assert!(!Features::of(&status("other")).recursive_read_only);
    }
}
