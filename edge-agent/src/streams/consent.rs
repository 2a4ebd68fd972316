//! Whether the device's owner lets a stream be: the switch, then the policy, then whoever is asked.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use edge_agent_core::StreamWork;
use edge_protocol::v1::StreamRefusal;

use super::desk::Place;
use super::opening::Refusal;
use crate::options::StreamOptions;
use crate::runtime::policy::Policy;
use crate::runtime::policy::streams::Consent;

/// What the owner has said, as it is in files now.
#[derive(Debug)]
pub(super) struct Consents {
    policy_file: PathBuf,
    off_file: PathBuf,
}

impl Consents {
    pub(super) fn new(options: &StreamOptions) -> Self {
        Self {
            policy_file: options.policy_file.clone(),
            off_file: options.off_file.clone(),
        }
    }

    /// Whether streams are switched off. What cannot be looked at counts as off.
    pub(super) fn is_off(&self) -> bool {
        match fs::symlink_metadata(&self.off_file) {
            Err(error) => error.kind() != io::ErrorKind::NotFound,
            Ok(_) => true,
        }
    }

    /// The owner's word on one stream; somebody who is asked has this long.
    ///
    /// # Errors
    /// Always [`StreamRefusal::Forbidden`].
    pub(super) async fn allow(
        &self,
        work: &StreamWork,
        place: &Place,
        patience: Duration,
    ) -> Result<(), Refusal> {
        if self.is_off() {
            return Err(forbidden("streams are switched off at the device"));
        }
        let policy = Policy::load(&self.policy_file).map_err(|error| {
            tracing::warn!(%error, "no stream is opened while the policy cannot be obeyed");
            forbidden("the device's policy cannot be obeyed")
        })?;
        match policy.streams.judge(work) {
            Err(denied) => Err(forbidden(denied.to_string())),
            Ok(Consent::Given) => Ok(()),
            Ok(Consent::Ask) if place.ask(patience).await => Ok(()),
            Ok(Consent::Ask) => Err(forbidden("nobody at the device has allowed it")),
        }
    }
}

fn forbidden(message: impl Into<String>) -> Refusal {
    Refusal::new(StreamRefusal::Forbidden, message)
}
