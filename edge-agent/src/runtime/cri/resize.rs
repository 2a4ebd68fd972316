//! Other resources for what runs (`doPodResizeAction` of `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).

use edge_agent_core::step::{ContainerResize, SandboxSpec, StepOutcome};
use edge_agent_cri::v1::LinuxContainerResources;
use edge_protocol::v1::Reason;

use super::Inner;
use super::steps::{StepFailure, because};
use crate::runtime::cgroup::{Cgroups, Memory};

/// Takes a limit off: CRI leaves zero as it is.
const NO_QUOTA: i64 = -1;

impl Inner {
    /// Nothing is begun where memory is short. The workload's cgroup is changed before its containers, so that a greater share has room, and
    /// after them, because it may not go below what they have.
    pub(super) async fn resize(
        &self,
        sandbox: &SandboxSpec,
        containers: &[ContainerResize],
    ) -> Result<StepOutcome, StepFailure> {
        let cgroups = &self.settings.cgroups;
        in_use(cgroups, sandbox, containers)?;
        let early = cgroups.ensure_pod(sandbox);
        for container in containers {
            self.resize_container(sandbox, container).await?;
        }
        if early.is_err() {
            cgroups.ensure_pod(sandbox)?;
        }
        Ok(StepOutcome::Done)
    }

    async fn resize_container(
        &self,
        sandbox: &SandboxSpec,
        wanted: &ContainerResize,
    ) -> Result<(), StepFailure> {
        let id = &wanted.container_id;
        let gone = || StepFailure::Gone { id: id.clone() };
        let known = self.own_container(id).await?;
        let workload = &sandbox.manifest.workload;
        let mut all = workload.all_containers();
        let container = all.find(|container| container.name == wanted.name);
        let mut container = known.and(container).cloned().ok_or_else(gone)?;
        container.resources.clone_from(&wanted.resources);
        let mut linux = self.settings.resources(workload, sandbox.qos, &container);
        if linux.cpu_quota == 0 {
            linux.cpu_quota = NO_QUOTA;
        }
        let linux = LinuxContainerResources {
            // Of processes that run it cannot be changed.
            oom_score_adj: 0,
            ..linux
        };
        self.client
            .update_container_resources(id, linux)
            .await
            .map_err(because(Reason::Failed))?;
        self.seen().changed(id);
        Ok(())
    }
}

/// Whether memory that is to be limited further is in use (`validateMemoryResizeAction`). A kernel would refuse that, or end processes.
fn in_use(
    cgroups: &Cgroups,
    sandbox: &SandboxSpec,
    containers: &[ContainerResize],
) -> Result<(), StepFailure> {
    let of_pod = cgroups.memory(sandbox, None);
    let limit = sandbox.memory_limit_bytes;
    let lowered = limit.filter(|limit| of_pod.limit_bytes.is_none_or(|held| *limit < held));
    let mut errors = Vec::new();
    errors.extend(lowered.and_then(|limit| shortage("pod", limit, of_pod)));
    for container in containers {
        let what = format!("container {:?}", container.name);
        let memory = cgroups.memory(sandbox, Some(&container.container_id));
        let lowered = container.lowered_memory_bytes;
        errors.extend(lowered.and_then(|limit| shortage(&what, limit, memory)));
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(StepFailure::MemoryInUse(one.clone())),
        several => Err(StepFailure::MemoryInUse(format!("[{}]", several.join(", ")))),
    }
}

fn shortage(what: &str, limit: u64, memory: Memory) -> Option<String> {
    match memory.used_bytes {
        None => Some(format!("missing {what} memory usage")),
        Some(used) if used >= limit => Some(format!(
            "attempting to set {what} memory limit ({limit}) below current usage ({used})"
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_cannot_be_taken_away() {
        let used = |used_bytes| Memory {
            used_bytes,
            limit_bytes: None,
        };
        let told = |used_bytes| shortage("pod", 100, used(used_bytes));
        assert_eq!(told(Some(99)), None);
        let words = "attempting to set pod memory limit (100) below current usage (100)";
        assert_eq!(told(Some(100)).as_deref(), Some(words));
        assert_eq!(told(None).as_deref(), Some("missing pod memory usage"));
    }
}
