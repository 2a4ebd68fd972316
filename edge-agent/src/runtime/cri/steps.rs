//! Each step, carried to its end. All of them find what an interrupted run of the same step left.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use edge_agent_core::step::{SandboxSpec, StartContainer, Step, StepOutcome};
use edge_agent_cri::CriError;
use edge_agent_cri::v1::{
    Container, ContainerConfig, ContainerState, ContainerStatus, PodSandbox, PodSandboxConfig,
    PodSandboxState,
};
use edge_protocol::PodUid;
use edge_protocol::text::sanitise;
use edge_protocol::v1::{Manifest, Reason};

use super::addresses::addresses;
use super::config::{ConfigFault, InvalidName, log_path};
use super::files::FilesFault;
use super::images::ImageFault;
use super::logs::LogsError;
use super::security::{self, ImageUser, SecurityFault};
use super::{Inner, labels, logs};
use crate::runtime::cgroup::CgroupError;
use crate::runtime::environment;
use crate::runtime::host_address;
use crate::runtime::policy::Violation;
use crate::runtime::sources::{SourceError, Sources};
use crate::runtime::volumes::{VolumeError, VolumeFault};

/// Why a step ended without its result.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepFailure {
    #[error("{error}")]
    Cri { reason: Reason, error: CriError },
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Logs(#[from] LogsError),
    #[error(transparent)]
    Image(#[from] ImageFault),
    #[error("{id} exists, but belongs to somebody else")]
    NotOurs { id: String },
    #[error("a sandbox of this attempt still holds containers: {id}")]
    SandboxInUse { id: String },
    #[error("{id} does not exist any more")]
    Gone { id: String },
    #[error("cannot decrease memory limits: {0}")]
    MemoryInUse(String),
    #[error("the device's policy forbids it")]
    Policy(#[from] Violation),
    /// A probe could not be done at all.
    #[error("{0}")]
    Probe(String),
    #[error("{0}")]
    Hook(String),
    /// A sandbox or container cannot be described.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    #[error(transparent)]
    Files(#[from] FilesFault),
    /// It cannot be described yet.
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Removal(#[from] VolumeFault),
    #[error("the work was abandoned because the agent is ending")]
    Abandoned,
}

impl StepFailure {
    /// What Kubernetes would show; `general` is the reason of a step of this kind that failed on the device itself.
    pub(super) fn into_outcome(self, general: Reason) -> StepOutcome {
        let reason = match &self {
            Self::Cri { reason, .. } => *reason,
            Self::Config(_) if general == Reason::FailedCreatePodSandBox => general,
            Self::Name(_) | Self::Config(_) | Self::Files(_) => Reason::CreateContainerConfigError,
            Self::Volume(error) => error.reason(),
            Self::Policy(_) => Reason::DevicePolicy,
            Self::Source(error) => error.reason(Reason::CreateContainerConfigError),
            Self::Image(fault) => fault.reason(),
            Self::Cgroup(_)
            | Self::Logs(_)
            | Self::Removal(_)
            | Self::SandboxInUse { .. }
            | Self::NotOurs { .. }
            | Self::Gone { .. }
            | Self::MemoryInUse(_)
            | Self::Probe(_)
            | Self::Hook(_)
            | Self::Abandoned => general,
        };
        let message = self.message();
        StepOutcome::Failed { reason, message }
    }

    fn message(&self) -> String {
        let detail = match self {
            // It was made clean with its lines.
            Self::Hook(words) => return words.clone(),
            Self::Cri {
                reason:
                    Reason::CreateContainerConfigError | Reason::CreateContainerError | Reason::RunContainerError,
                error,
            } => return sanitise(&error.as_words()),
            Self::Cri { error, .. } => Some(error.detail()),
            other => other.source().map(ToString::to_string),
        };
        sanitise(&match detail.filter(|detail| !detail.is_empty()) {
            Some(detail) => format!("{self}: {detail}"),
            None => self.to_string(),
        })
    }
}

/// The reason of a step that failed for a cause which Kubernetes has no word of its own for.
pub(super) fn general_reason(step: &Step) -> Reason {
    match step {
        Step::FindImage { .. } => Reason::ImageInspectError,
        Step::PullImage { .. } => Reason::ErrImagePull,
        Step::RunSandbox(_) => Reason::FailedCreatePodSandBox,
        Step::SyncVolumes { .. } => Reason::FailedMount,
        Step::StartContainer(_) => Reason::CreateContainerError,
        Step::PostStart(_) => Reason::PostStartHookError,
        Step::Probe { .. } => Reason::Unhealthy,
        Step::Resize { .. } => Reason::Failed,
        Step::StopContainer { .. }
        | Step::RemoveContainer { .. }
        | Step::StopSandbox { .. }
        | Step::RemoveSandbox { .. }
        | Step::RemoveWorkload { .. } => Reason::FailedKillPod,
    }
}

/// Gives a CRI error the reason that Kubernetes shows for it.
pub(super) fn because(reason: Reason) -> impl FnOnce(CriError) -> StepFailure {
    move |error| StepFailure::Cri { reason, error }
}

impl Inner {
    pub(super) async fn run(&self, step: Step) -> Result<StepOutcome, StepFailure> {
        self.obey_policy(&step)?;
        match step {
            Step::FindImage { image } => Ok(self.find_image(&image).await?),
            Step::PullImage { image, manifest } => self.pull_image(&image, &manifest).await,
            Step::RunSandbox(spec) => self.run_sandbox(&spec).await,
            Step::StartContainer(start) => self.start_container(&start).await,
            Step::SyncVolumes { manifest, pod_ips } => self.sync_volumes(manifest, pod_ips).await,
            Step::PostStart(target) => self.post_start(&target).await,
            Step::Probe {
                kind: _,
                target,
                timeout_s,
            } => self.probe(&target, timeout_s).await,
            Step::Resize { sandbox, containers } => self.resize(&sandbox, &containers).await,
            Step::StopContainer {
                container_id,
                grace_s,
                pre_stop,
            } => {
                self.stop_container(&container_id, grace_s, pre_stop.as_deref())
                    .await
            }
            Step::RemoveContainer { container_id } => self.remove_container(&container_id).await,
            Step::StopSandbox { sandbox_id } => self.stop_sandbox(&sandbox_id).await,
            Step::RemoveSandbox { sandbox_id, uid: _ } => self.remove_sandbox(&sandbox_id).await,
            Step::RemoveWorkload { uid } => self.remove_workload(&uid).await,
        }
    }

    /// Nothing that this device forbids is even begun. What must end, ends.
    fn obey_policy(&self, step: &Step) -> Result<(), Violation> {
        match step {
            Step::FindImage { image } | Step::PullImage { image, .. } => self.policy.allows_image(image),
            Step::SyncVolumes { manifest, .. } => self.policy.allows(manifest),
            Step::RunSandbox(spec) => self.policy.allows(&spec.manifest),
            Step::StartContainer(start) => {
                let StartContainer {
                    sandbox, container, ..
                } = &**start;
                self.policy.allows_start(&sandbox.manifest, &container.name)
            }
            _ => Ok(()),
        }
    }

    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<StepOutcome, StepFailure> {
        let failed = || because(Reason::FailedCreatePodSandBox);
        let mut left_out = Vec::new();
        let sandbox_id = match self.sandbox_of_attempt(spec).await? {
            Some(ready) if ready.state() == PodSandboxState::SandboxReady => ready.id,
            leftover => {
                if let Some(leftover) = leftover {
                    self.remove_empty_sandbox(&leftover.id).await?;
                }
                left_out = self.settings.resolv_conf(spec)?.left_out;
                let config = self.settings.sandbox(spec)?;
                self.settings.cgroups.ensure_pod(spec)?;
                logs::ensure_directory(&self.settings.log_directory(spec)?)?;
                self.client.run_pod_sandbox(config).await.map_err(failed())?
            }
        };
        let status = self
            .client
            .pod_sandbox_status(&sandbox_id)
            .await
            .map_err(failed())?;
        Ok(StepOutcome::Sandbox {
            sandbox_id,
            ips: addresses(&status),
            left_out,
        })
    }

    async fn sandbox_of_attempt(&self, spec: &SandboxSpec) -> Result<Option<PodSandbox>, StepFailure> {
        let selector = labels::of_workload(&self.settings.agent, &spec.uid);
        let found = self.client.list_pod_sandboxes(selector).await;
        let found = found.map_err(because(Reason::FailedCreatePodSandBox))?;
        Ok(found.into_iter().find(|sandbox| {
            sandbox
                .metadata
                .as_ref()
                .is_some_and(|m| m.attempt == spec.attempt)
        }))
    }

    /// Clears a sandbox that a failed or interrupted run left; it holds the name of the attempt.
    async fn remove_empty_sandbox(&self, id: &str) -> Result<(), StepFailure> {
        let failed = || because(Reason::FailedCreatePodSandBox);
        let ours = labels::ours(&self.settings.agent);
        let containers = self.client.list_containers(ours).await.map_err(failed())?;
        if containers.iter().any(|container| container.pod_sandbox_id == id) {
            return Err(StepFailure::SandboxInUse { id: id.to_owned() });
        }
        self.client.stop_pod_sandbox(id).await.map_err(failed())?;
        self.client.remove_pod_sandbox(id).await.map_err(failed())
    }

    async fn start_container(&self, start: &StartContainer) -> Result<StepOutcome, StepFailure> {
        let failed = || because(Reason::CreateContainerError);
        let container_id = match self.container_of_attempt(start).await? {
            Some(found) if found.state() != ContainerState::ContainerCreated => {
                return Ok(StepOutcome::Started {
                    container_id: found.id,
                });
            }
            Some(found)
                if labels::restart_digest(&found.annotations) == Some(start.container.restart_digest) =>
            {
                found.id
            }
            leftover => {
                if let Some(stale) = leftover {
                    self.client.remove_container(&stale.id).await.map_err(failed())?;
                }
                let directory = self.settings.log_directory(&start.sandbox)?;
                let log = directory.join(log_path(&start.container.name, start.attempt)?);
                let directory = log.parent().unwrap_or(&directory);
                logs::ensure_directory(directory)?;
                logs::prune(directory, start.attempt)?;
                let (config, pod) = self.describe(start).await?;
                self.client
                    .create_container(&start.sandbox_id, config, pod)
                    .await
                    .map_err(failed())?
            }
        };
        self.client
            .start_container(&container_id)
            .await
            .map_err(because(Reason::RunContainerError))?;
        Ok(StepOutcome::Started { container_id })
    }

    /// Everything that the runtime is told about a container, with the files that it will see.
    async fn describe(
        &self,
        start: &StartContainer,
    ) -> Result<(ContainerConfig, PodSandboxConfig), StepFailure> {
        let StartContainer {
            sandbox, container, ..
        } = start;
        let host_ips = host_address::addresses();
        let sources = Sources {
            manifest: &sandbox.manifest,
            objects: &self.objects,
            pod_ips: &start.pod_ips,
            host_ips: &host_ips,
            capacity: self.settings.capacity,
        };
        let environment = environment::resolve(container, &sources)?;
        let image = self.client.image_status(&container.image).await;
        let image = image.map_err(because(Reason::CreateContainerConfigError))?;
        let user = ImageUser::of(image.as_ref());
        let features = self.features().await;
        let features = features.map_err(because(Reason::CreateContainerError))?;
        if sandbox.manifest.workload.security.strict_supplemental_groups && !features.strict_groups {
            return Err(ConfigFault::from(SecurityFault::StrictGroups).into());
        }
        let dir = &self.settings.seccomp_dir;
        let mut security =
            security::container(&sandbox.manifest, container, &user, dir).map_err(ConfigFault::from)?;
        if let Some(target) = &start.target {
            security::among(target, &mut security);
        }
        let mounts = self
            .settings
            .mounts(start, &environment, features.recursive_read_only)?;
        let config = self.settings.container(start, &environment, security, mounts)?;
        Ok((config, self.settings.sandbox(sandbox)?))
    }

    async fn sync_volumes(
        &self,
        manifest: Arc<Manifest>,
        pod_ips: Vec<IpAddr>,
    ) -> Result<StepOutcome, StepFailure> {
        let (volumes, objects) = (self.settings.volumes.clone(), self.objects.clone());
        let capacity = self.settings.capacity;
        blocking(move || {
            volumes.sync(&Sources {
                manifest: &manifest,
                objects: &objects,
                pod_ips: &pod_ips,
                host_ips: &host_address::addresses(),
                capacity,
            })?;
            Ok(StepOutcome::Done)
        })
        .await
    }

    async fn container_of_attempt(&self, start: &StartContainer) -> Result<Option<Container>, StepFailure> {
        let selector = labels::of_container(&self.settings.agent, &start.sandbox.uid, &start.container.name);
        let found = self.client.list_containers(selector).await;
        let found = found.map_err(because(Reason::CreateContainerError))?;
        Ok(found.into_iter().find(|container| {
            container.pod_sandbox_id == start.sandbox_id
                && container
                    .metadata
                    .as_ref()
                    .is_some_and(|m| m.attempt == start.attempt)
        }))
    }

    async fn remove_container(&self, id: &str) -> Result<StepOutcome, StepFailure> {
        if self.own_container(id).await?.is_some() {
            self.client
                .remove_container(id)
                .await
                .map_err(because(Reason::FailedKillPod))?;
        }
        Ok(StepOutcome::Done)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<StepOutcome, StepFailure> {
        if let Some(labels) = self.own_sandbox(id).await? {
            self.client
                .stop_pod_sandbox(id)
                .await
                .map_err(because(Reason::FailedKillPod))?;
            if let Some(uid) = labels::uid(&labels) {
                self.settings.cgroups.end_pod(&uid);
            }
        }
        Ok(StepOutcome::Done)
    }

    async fn remove_sandbox(&self, id: &str) -> Result<StepOutcome, StepFailure> {
        if self.own_sandbox(id).await?.is_some() {
            self.client
                .remove_pod_sandbox(id)
                .await
                .map_err(because(Reason::FailedKillPod))?;
        }
        Ok(StepOutcome::Done)
    }

    async fn remove_workload(&self, uid: &PodUid) -> Result<StepOutcome, StepFailure> {
        let (cgroups, volumes) = (self.settings.cgroups.clone(), self.settings.volumes.clone());
        let (uid, log_root) = (uid.clone(), self.settings.log_root.clone());
        let keep = self.logs.keep;
        blocking(move || {
            cgroups.remove_pod(&uid)?;
            volumes.remove(&uid)?;
            logs::remove_all(&log_root, &uid, keep)?;
            Ok(StepOutcome::Done)
        })
        .await
    }

    /// The container, if it exists; it must be ours then.
    pub(super) async fn own_container(&self, id: &str) -> Result<Option<ContainerStatus>, StepFailure> {
        match self.client.container_status(id).await {
            Ok(status) if labels::is_ours(&status.labels, &self.settings.agent) => Ok(Some(status)),
            Ok(_) => Err(StepFailure::NotOurs { id: id.to_owned() }),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(because(Reason::FailedKillPod)(error)),
        }
    }

    /// The sandbox's labels, if it exists; it must be ours then.
    async fn own_sandbox(&self, id: &str) -> Result<Option<labels::Map>, StepFailure> {
        match self.client.pod_sandbox_status(id).await {
            Ok(status) if labels::is_ours(&status.labels, &self.settings.agent) => Ok(Some(status.labels)),
            Ok(_) => Err(StepFailure::NotOurs { id: id.to_owned() }),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(because(Reason::FailedKillPod)(error)),
        }
    }
}

/// Runs what may block for a while elsewhere: the agent has one thread.
async fn blocking(
    work: impl FnOnce() -> Result<StepOutcome, StepFailure> + Send + 'static,
) -> Result<StepOutcome, StepFailure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| StepFailure::Abandoned)?
}
