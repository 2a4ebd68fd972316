//! Calls about resource usage.

use std::collections::BTreeMap;

use crate::client::CriClient;
use crate::error::{CriError, Operation};
use crate::sandboxes::selector;
use crate::v1::{
    ContainerStats, ContainerStatsFilter, ContainerStatsRequest, ListContainerStatsRequest,
    ListPodSandboxStatsRequest, PodSandboxStats, PodSandboxStatsFilter,
};

impl CriClient {
    /// CPU, memory and writable layer of one container.
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    pub async fn container_stats(&self, id: &str) -> Result<ContainerStats, CriError> {
        let operation = Operation::ContainerStats;
        let request = ContainerStatsRequest {
            container_id: id.to_owned(),
        };
        let answer = self
            .query(operation, id, self.runtime().container_stats(request))
            .await?;
        answer
            .stats
            .ok_or_else(|| CriError::malformed(operation, id, "stats"))
    }

    /// CPU, memory and writable layer of all running containers that carry every one of `labels`.
    pub async fn list_container_stats(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<Vec<ContainerStats>, CriError> {
        let id = selector(&labels);
        let filter = ContainerStatsFilter {
            label_selector: labels,
            ..Default::default()
        };
        let request = ListContainerStatsRequest { filter: Some(filter) };
        let answer = self
            .query(
                Operation::ListContainerStats,
                &id,
                self.runtime().list_container_stats(request),
            )
            .await?;
        Ok(answer.stats)
    }

    /// Usage of all running sandboxes that carry every one of `labels`, network included.
    ///
    /// # Errors
    /// `Unimplemented` by runtimes before CRI 1.23; containerd 1.6 has it.
    pub async fn list_pod_sandbox_stats(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<Vec<PodSandboxStats>, CriError> {
        let id = selector(&labels);
        let filter = PodSandboxStatsFilter {
            label_selector: labels,
            ..Default::default()
        };
        let request = ListPodSandboxStatsRequest { filter: Some(filter) };
        let answer = self
            .query(
                Operation::ListPodSandboxStats,
                &id,
                self.runtime().list_pod_sandbox_stats(request),
            )
            .await?;
        Ok(answer.stats)
    }
}
