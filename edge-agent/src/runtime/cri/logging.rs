//! Logs of containers that the runtime has: told to whoever asks, and rotated while they run.

use std::path::PathBuf;
use std::sync::Arc;

use edge_agent_cri::v1::{Container, ContainerState, PodSandboxState};
use edge_protocol::PodUid;
use edge_protocol::v1::LogQuery;
use jiff::Timestamp;
use tokio::io::AsyncWrite;
use tracing::warn;

use super::config::{InvalidName, path_part};
use super::logs::{of_workload, tidy};
use super::{CriRuntime, Inner, RuntimeError, labels};
use crate::runtime::logs::{LogFault, LogStream, Rotated, Rotation, Standing, Watcher};

/// Whose log is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTarget {
    /// The workload's. Where one of them is not known (empty), the files are found by the `uid`.
    pub namespace: String,
    pub name: String,
    pub uid: PodUid,
    pub container: String,
    /// The instance; which one is the previous is not for the runtime to know.
    pub attempt: u32,
}

/// A log of this runtime's that is there and can be told.
#[derive(Debug)]
pub struct OpenLog {
    inner: Arc<Inner>,
    target: LogTarget,
    through_restarts: bool,
    stream: LogStream,
}

impl CriRuntime {
    /// Finds a log, and where in it the query begins; nothing is told yet. `query.previous` says nothing here: the target names the instance.
    ///
    /// # Errors
    /// [`LogFault::Missing`] when there is none, or it cannot be read.
    pub async fn open_log(&self, target: LogTarget, query: &LogQuery) -> Result<OpenLog, LogFault> {
        let inner = Arc::clone(&self.0);
        let directory = inner.find_log_directory(&target)?;
        let watcher = if query.follow { inner.watcher() } else { None };
        let stream = LogStream::open(&directory, target.attempt, query, watcher, inner.logs.caps).await?;
        let stream = stream.ok_or_else(|| LogFault::Missing {
            container: target.container.clone(),
            attempt: query.after.map_or(target.attempt, |after| after.attempt),
        })?;
        Ok(OpenLog {
            inner,
            target,
            through_restarts: query.through_restarts,
            stream,
        })
    }

    /// Looks at the log of every container that runs, once, and rotates those that are too large. Also removes logs of workloads that are gone
    /// when they were kept long enough.
    ///
    /// # Errors
    /// The runtime does not answer. What goes wrong with one log is warned of, and tried again the next time.
    pub async fn tend_logs(&self) -> Result<(), RuntimeError> {
        self.0.tidy_logs().await;
        let Some(rotation) = self.0.logs.rotation else {
            return Ok(());
        };
        let ours = labels::ours(&self.0.settings.agent);
        for container in self.0.client.list_containers(ours).await? {
            if container.state() == ContainerState::ContainerRunning {
                self.0.rotate(rotation, &container).await;
            }
        }
        Ok(())
    }
}

impl OpenLog {
    /// Tells it, see [`LogStream::serve`].
    ///
    /// # Errors
    /// As there.
    pub async fn serve<W: AsyncWrite + Unpin>(self, to: &mut W) -> Result<(), LogFault> {
        let Self {
            inner,
            target,
            through_restarts,
            stream,
        } = self;
        let standing = |attempt| inner.standing(&target, attempt, through_restarts);
        stream.serve(standing, to).await
    }
}

impl Inner {
    fn find_log_directory(&self, target: &LogTarget) -> Result<PathBuf, LogFault> {
        let invalid = |error: InvalidName| LogFault::Invalid(error.to_string());
        if !target.namespace.is_empty() && !target.name.is_empty() {
            return self.log_directory(target).map_err(invalid);
        }
        let found = of_workload(&self.settings.log_root, &target.uid);
        let found = found.map_err(|error| LogFault::Invalid(error.to_string()))?;
        let workload = found.into_iter().next().ok_or_else(|| LogFault::Missing {
            container: target.container.clone(),
            attempt: target.attempt,
        })?;
        Ok(workload.join(path_part(&target.container).map_err(invalid)?))
    }

    fn log_directory(&self, target: &LogTarget) -> Result<PathBuf, InvalidName> {
        let LogTarget {
            namespace,
            name,
            uid,
            container,
            attempt: _,
        } = target;
        let workload = self.settings.log_directory_of(namespace, name, uid)?;
        Ok(workload.join(path_part(container)?))
    }

    fn watcher(&self) -> Option<&Watcher> {
        let made = self.watcher.get_or_init(|| {
            let watcher = Watcher::start();
            watcher
                .inspect_err(
                    |error| warn!(%error, "changes of logs are looked for: the kernel tells of none"),
                )
                .ok()
        });
        made.as_ref()
    }

    /// A runtime that does not answer may run it still (`isContainerRunning` of k8s.io/cri-client/pkg/logs).
    async fn standing(&self, target: &LogTarget, attempt: u32, through_restarts: bool) -> Standing {
        let of_container = labels::of_container(&self.settings.agent, &target.uid, &target.container);
        let Ok(instances) = self.client.list_containers(of_container).await else {
            return Standing::Runs;
        };
        let attempt_of = |container: &Container| container.metadata.as_ref().map(|it| it.attempt);
        let runs = instances.iter().any(|container| {
            attempt_of(container) == Some(attempt) && container.state() == ContainerState::ContainerRunning
        });
        if runs {
            return Standing::Runs;
        }
        if !through_restarts
            || instances
                .iter()
                .any(|container| attempt_of(container) > Some(attempt))
        {
            return Standing::Ended;
        }
        // Its sandbox goes when nothing in it is to be started again.
        let of_workload = labels::of_workload(&self.settings.agent, &target.uid);
        match self.client.list_pod_sandboxes(of_workload).await {
            Ok(sandboxes)
                if !sandboxes
                    .iter()
                    .any(|it| it.state() == PodSandboxState::SandboxReady) =>
            {
                Standing::Over
            }
            _ => Standing::Ended,
        }
    }

    async fn tidy_logs(&self) {
        let (root, keep) = (self.settings.log_root.clone(), self.logs.keep);
        // Without a bound in time, the removal of each workload tidies.
        if keep.at_most.is_some()
            && let Ok(Err(error)) = tokio::task::spawn_blocking(move || tidy(&root, keep)).await
        {
            warn!(%error, "logs of workloads that are gone cannot be removed");
        }
    }

    async fn rotate(&self, rotation: Rotation, container: &Container) {
        let Some(target) = target(container) else { return };
        let Ok(directory) = self.log_directory(&target) else {
            return;
        };
        let (attempt, path) = (target.attempt, directory.clone());
        // Compressing takes a while.
        let rotated =
            tokio::task::spawn_blocking(move || rotation.rotate(&path, attempt, Timestamp::now())).await;
        let rotated = match rotated {
            Ok(Ok(rotated)) => rotated,
            Ok(Err(error)) => {
                return warn!(%error, directory = %directory.display(), "a log cannot be rotated");
            }
            Err(_ending) => return,
        };
        if rotated == Rotated::No {
            return;
        }
        let Err(error) = self.client.reopen_container_log(&container.id).await else {
            return;
        };
        warn!(%error, directory = %directory.display(), "the runtime does not open a log anew");
        if let Rotated::Moved(moved) = rotated
            && let Err(error) = moved.undo()
        {
            warn!(%error, directory = %directory.display(), "a log that was rotated cannot get its name back");
        }
    }
}

/// Whose log a container of ours writes; `None` where it lacks what we write on all of ours.
fn target(container: &Container) -> Option<LogTarget> {
    let (namespace, name) = labels::pod(&container.labels)?;
    Some(LogTarget {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: labels::uid(&container.labels)?,
        container: labels::container_name(&container.labels)?.to_owned(),
        attempt: container.metadata.as_ref()?.attempt,
    })
}
