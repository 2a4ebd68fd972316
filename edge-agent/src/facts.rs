//! Tells the machine what the device is: at once what the kernel knows, the runtime's name and images when it answers, and later what
//! changed.

use std::path::PathBuf;
use std::time::Duration;

use edge_agent_core::Input;
use edge_protocol::BootId;
use edge_protocol::v1::{Facts, HeldImage, bounded_images};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::host;
use crate::runtime::{CriRuntime, RuntimeError};

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
        let mut known = Runtime::default();
        let mut told = None;
        loop {
            if let Some(facts) = news(&mut told, self.read(&known))
                && self.inputs.send(Input::Facts(Box::new(facts))).await.is_err()
            {
                return;
            }
            known = tokio::select! {
                () = token.cancelled() => return,
                known = self.next(known) => known,
            };
        }
    }

    fn read(&self, known: &Runtime) -> Facts {
        let version = known.version.clone().unwrap_or_default();
        Facts {
            boot_id: self.boot_id.0.to_string(),
            strict_groups: known.strict_groups,
            images: known.images.clone(),
            ..host::facts(version, &self.state_dir, self.max_pods)
        }
    }

    /// What the runtime is and has when the facts are to be read again; one that is away still is and has what it had.
    async fn next(&self, known: Runtime) -> Runtime {
        if known.version.is_some() {
            tokio::time::sleep(EVERY).await;
        }
        loop {
            match self.ask().await {
                Ok(runtime) => return runtime,
                Err(error) if known.version.is_some() => {
                    debug!(%error, "the container runtime does not say what it is");
                    return known;
                }
                Err(error) => warn!(%error, "the container runtime does not say what it is yet"),
            }
            tokio::time::sleep(RUNTIME_AGAIN).await;
        }
    }

    async fn ask(&self) -> Result<Runtime, RuntimeError> {
        Ok(Runtime {
            version: Some(self.runtime.version().await?),
            strict_groups: self.runtime.keeps_to_groups().await?,
            images: bounded_images(self.runtime.held_images().await?),
        })
    }
}

/// What the runtime last said of itself.
#[derive(Debug, Clone, Default)]
struct Runtime {
    version: Option<(String, String)>,
    strict_groups: bool,
    images: Vec<HeldImage>,
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
