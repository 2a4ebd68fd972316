//! Calls about pod sandboxes.

use std::collections::BTreeMap;

use crate::client::{CriClient, absent_is_done, within};
use crate::error::{CriError, Operation};
use crate::v1::{
    ListPodSandboxRequest, PodSandbox, PodSandboxConfig, PodSandboxFilter, PodSandboxStatus,
    PodSandboxStatusRequest, RemovePodSandboxRequest, RunPodSandboxRequest, StopPodSandboxRequest,
};

impl CriClient {
    /// Creates and starts a sandbox and gives its id. Not idempotent: a second call for the same pod name, namespace,
    /// uid and attempt is an error while the first sandbox exists.
    ///
    /// # Errors
    /// A failure after a timeout may leave a sandbox behind; the list shows it.
    pub async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String, CriError> {
        let operation = Operation::RunPodSandbox;
        let id = pod_name(&config);
        let request = RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: String::new(),
        };
        let mut runtime = self.runtime();
        let answer = within(
            self.deadlines().sandbox,
            operation,
            &id,
            runtime.run_pod_sandbox(request),
        )
        .await?;
        if answer.pod_sandbox_id.is_empty() {
            return Err(CriError::malformed(operation, &id, "pod_sandbox_id"));
        }
        Ok(answer.pod_sandbox_id)
    }

    /// Kills what still runs in the sandbox, without grace, and takes its network down. Idempotent: a stopped or
    /// absent sandbox is success.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let mut runtime = self.runtime();
        let call = runtime.stop_pod_sandbox(request);
        absent_is_done(within(self.deadlines().sandbox, Operation::StopPodSandbox, id, call).await)
    }

    /// Removes the sandbox with all its containers. Idempotent: an absent sandbox is success. One that still has its
    /// network must be stopped first.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let mut runtime = self.runtime();
        let call = runtime.remove_pod_sandbox(request);
        absent_is_done(within(self.deadlines().sandbox, Operation::RemovePodSandbox, id, call).await)
    }

    /// State and addresses of one sandbox.
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    pub async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus, CriError> {
        Ok(self.ask_sandbox(id, false).await?.0)
    }

    /// The same, with the JSON document `info` that containerd and CRI-O describe a sandbox in, where the runtime gives one. CRI says nothing
    /// of what is in there; both have the OCI specification under `runtimeSpec`. It costs more than a plain status.
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    pub async fn described_pod_sandbox(
        &self,
        id: &str,
    ) -> Result<(PodSandboxStatus, Option<String>), CriError> {
        let (status, mut info) = self.ask_sandbox(id, true).await?;
        Ok((status, info.remove("info")))
    }

    async fn ask_sandbox(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<(PodSandboxStatus, BTreeMap<String, String>), CriError> {
        let operation = Operation::PodSandboxStatus;
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose,
        };
        let answer = self
            .query(operation, id, self.runtime().pod_sandbox_status(request))
            .await?;
        let status = answer
            .status
            .ok_or_else(|| CriError::malformed(operation, id, "status"))?;
        Ok((status, answer.info))
    }

    /// All sandboxes that carry every one of `labels`; all there are, if it is empty.
    pub async fn list_pod_sandboxes(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<Vec<PodSandbox>, CriError> {
        let id = selector(&labels);
        let filter = PodSandboxFilter {
            label_selector: labels,
            ..Default::default()
        };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let answer = self
            .query(
                Operation::ListPodSandbox,
                &id,
                self.runtime().list_pod_sandbox(request),
            )
            .await?;
        Ok(answer.items)
    }
}

fn pod_name(config: &PodSandboxConfig) -> String {
    config
        .metadata
        .as_ref()
        .map_or_else(String::new, |pod| format!("{}/{}", pod.namespace, pod.name))
}

/// A label selector as people write it: the id that errors of lists carry.
pub(crate) fn selector(labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}
