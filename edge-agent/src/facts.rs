//! Tells the machine what the device is: at once what the kernel knows, the runtime's name when it answers, and later what changed.

use std::path::PathBuf;
use std::time::Duration;

use edge_agent_core::Input;
use edge_protocol::BootId;
use edge_protocol::v1::Facts;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::host;
use crate::runtime::CriRuntime;

/// How often they are read. A kubelet reads them every 10 s (`nodeStatusUpdateFrequency`), and has a link to spare.
const EVERY: Duration = Duration::from_secs(30);
/// The pause before a runtime that never answered is asked again for its name.
const RUNTIME_AGAIN: Duration = Duration::from_secs(2);

/// Sole owner of the rhythm.
pub(crate) struct FactsTask {
    pub(crate) boot_id: BootId,
    pub(crate) runtime: CriRuntime,
    pub(crate) inputs: mpsc::Sender<Input>,
    /// On the file system that workloads share.
    pub(crate) state_dir: PathBuf,
    pub(crate) max_pods: u32,
}

impl FactsTask {
    pub(crate) async fn run(self, token: CancellationToken) {
        let mut version = None;
        let mut told = None;
        loop {
            if let Some(facts) = news(&mut told, self.read(version.clone()))
                && self.inputs.send(Input::Facts(Box::new(facts))).await.is_err()
            {
                return;
            }
            version = tokio::select! {
                () = token.cancelled() => return,
                version = self.next(version) => Some(version),
            };
        }
    }

    fn read(&self, version: Option<(String, String)>) -> Facts {
        Facts {
            boot_id: self.boot_id.0.to_string(),
            ..host::facts(version.unwrap_or_default(), &self.state_dir, self.max_pods)
        }
    }

    /// What the runtime is when the facts are to be read again; one that is away is still what it was.
    async fn next(&self, known: Option<(String, String)>) -> (String, String) {
        if known.is_some() {
            tokio::time::sleep(EVERY).await;
        }
        loop {
            match (self.runtime.version().await, known.clone()) {
                (Ok(version), _) => return version,
                (Err(error), Some(known)) => {
                    debug!(%error, "the container runtime does not say what it is");
                    return known;
                }
                (Err(error), None) => warn!(%error, "the container runtime does not say what it is yet"),
            }
            tokio::time::sleep(RUNTIME_AGAIN).await;
        }
    }
}

/// The facts, if they are not those that were told last.
fn news(told: &mut Option<Facts>, facts: Facts) -> Option<Facts> {
    if told.as_ref() == Some(&facts) {
        return None;
    }
    *told = Some(facts.clone());
    Some(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_told() {
        let facts = |address: &str| Facts {
            addresses: vec![address.to_owned()],
            ..Facts::default()
        };
        let mut told = None;
        assert_eq!(news(&mut told, facts("a")), Some(facts("a")));
        assert_eq!(news(&mut told, facts("a")), None);
        assert_eq!(news(&mut told, facts("b")), Some(facts("b")));
        assert_eq!(news(&mut told, facts("a")), Some(facts("a")));
    }
}
