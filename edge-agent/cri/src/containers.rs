//! Calls about containers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::{CriClient, absent_is_done, within};
use crate::error::{CriError, Operation};
use crate::sandboxes::selector;
use crate::v1::{
    Container, ContainerConfig, ContainerFilter, ContainerStatus, ContainerStatusRequest,
    ContainerStatusResponse, CreateContainerRequest, ExecSyncRequest, ExecSyncResponse,
    LinuxContainerResources, ListContainersRequest, PodSandboxConfig, RemoveContainerRequest,
    ReopenContainerLogRequest, StartContainerRequest, StopContainerRequest, UpdateContainerResourcesRequest,
};

impl CriClient {
    /// Creates a container in a sandbox and gives its id; it does not run yet. `pod` must be the configuration that
    /// the sandbox was run with. Not idempotent: name and attempt are unique inside a sandbox.
    ///
    /// # Errors
    /// containerd reports an absent image as `NotFound`, and a taken name as `Failed` with the name in its detail.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        pod: PodSandboxConfig,
    ) -> Result<String, CriError> {
        let operation = Operation::CreateContainer;
        let name = config
            .metadata
            .as_ref()
            .map_or("", |container| container.name.as_str());
        let id = format!("{sandbox}/{name}");
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod),
        };
        let mut runtime = self.runtime();
        // Boxed: two configurations make this future nearly 30 KB large.
        let call = Box::pin(runtime.create_container(request));
        let answer = self.change(operation, &id, call).await?;
        if answer.container_id.is_empty() {
            return Err(CriError::malformed(operation, &id, "container_id"));
        }
        Ok(answer.container_id)
    }

    /// Starts a created container. Not idempotent: one that runs or ended cannot be started.
    pub async fn start_container(&self, id: &str) -> Result<(), CriError> {
        let request = StartContainerRequest {
            container_id: id.to_owned(),
        };
        self.change(
            Operation::StartContainer,
            id,
            self.runtime().start_container(request),
        )
        .await?;
        Ok(())
    }

    /// Sends the image's stop signal (SIGTERM by default) and, `grace` later, SIGKILL; returns when the container has
    /// ended. `grace` counts in whole seconds, rounded up; zero kills at once. Idempotent: a container that ended, or
    /// is absent, is success.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CriError> {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout: whole_seconds(grace),
        };
        let limit = self.deadlines().change.saturating_add(grace);
        absent_is_done(
            within(
                limit,
                Operation::StopContainer,
                id,
                self.runtime().stop_container(request),
            )
            .await,
        )
    }

    /// Removes a container, killing it first if it runs. Idempotent: an absent one is success. Its log stays.
    pub async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        let request = RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        absent_is_done(
            self.change(
                Operation::RemoveContainer,
                id,
                self.runtime().remove_container(request),
            )
            .await,
        )
    }

    /// All containers that carry every one of `labels`; all there are, if it is empty.
    pub async fn list_containers(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<Vec<Container>, CriError> {
        let id = selector(&labels);
        let filter = ContainerFilter {
            label_selector: labels,
            ..Default::default()
        };
        let request = ListContainersRequest { filter: Some(filter) };
        let answer = self
            .query(
                Operation::ListContainers,
                &id,
                self.runtime().list_containers(request),
            )
            .await?;
        Ok(answer.containers)
    }

    /// State, exit code and times of one container.
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    pub async fn container_status(&self, id: &str) -> Result<ContainerStatus, CriError> {
        let answer = self.ask_status(id, false).await?;
        answer
            .status
            .ok_or_else(|| CriError::malformed(Operation::ContainerStatus, id, "status"))
    }

    /// The process id of a container's first process in the runtime's own pid namespace; `None` when it does not run
    /// or the runtime does not say. CRI has no field for it: it stands in the verbose information of containerd and
    /// CRI-O, as `pid` in the JSON document `info`, so this costs more than a plain status.
    ///
    /// # Errors
    /// `NotFound` when the container does not exist.
    pub async fn container_pid(&self, id: &str) -> Result<Option<u32>, CriError> {
        let answer = self.ask_status(id, true).await?;
        Ok(answer
            .info
            .get("info")
            .and_then(|document| top_level_pid(document)))
    }

    async fn ask_status(&self, id: &str, verbose: bool) -> Result<ContainerStatusResponse, CriError> {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose,
        };
        self.query(
            Operation::ContainerStatus,
            id,
            self.runtime().container_status(request),
        )
        .await
    }

    /// Changes the limits of a created or running container at once. Zero fields are left as they are.
    pub async fn update_container_resources(
        &self,
        id: &str,
        linux: LinuxContainerResources,
    ) -> Result<(), CriError> {
        let request = UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
        };
        let mut runtime = self.runtime();
        let call = runtime.update_container_resources(request);
        self.change(Operation::UpdateContainerResources, id, call).await?;
        Ok(())
    }

    /// Makes the runtime open the container's log file anew, after the file was moved away.
    ///
    /// # Errors
    /// The container must be running.
    pub async fn reopen_container_log(&self, id: &str) -> Result<(), CriError> {
        let request = ReopenContainerLogRequest {
            container_id: id.to_owned(),
        };
        self.change(
            Operation::ReopenContainerLog,
            id,
            self.runtime().reopen_container_log(request),
        )
        .await?;
        Ok(())
    }

    /// Runs a command in a running container to its end. The runtime kills it after `limit`, in whole seconds
    /// rounded up, at least one. Its exit code is in the answer, not an error.
    ///
    /// # Errors
    /// Output beyond the client's message limit fails the call.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        limit: Duration,
    ) -> Result<ExecSyncResponse, CriError> {
        // On the wire 0 would mean «no limit».
        let timeout = whole_seconds(limit).max(1);
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command,
            timeout,
        };
        let limit = self.deadlines().change.saturating_add(limit);
        within(limit, Operation::ExecSync, id, self.runtime().exec_sync(request)).await
    }
}

fn whole_seconds(duration: Duration) -> i64 {
    let seconds = duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0));
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// The number under the key `pid` of the outermost object of a JSON document.
///
/// The document is some 10 KB (it holds the whole OCI spec, which has nested `pid` keys too); scanning it for one
/// number saves a JSON parser in this crate and the memory of the parsed tree.
fn top_level_pid(document: &str) -> Option<u32> {
    let mut depth = 0_u32;
    let mut rest = document;
    loop {
        let at = rest.find(['{', '}', '[', ']', '"'])?;
        let (found, after) = rest.get(at..)?.split_at_checked(1)?;
        rest = after;
        match found {
            "{" | "[" => depth = depth.checked_add(1)?,
            "}" | "]" => depth = depth.checked_sub(1)?,
            _ => {
                let (text, after) = split_string(rest)?;
                rest = after;
                if depth == 1
                    && text == "pid"
                    && let Some(value) = rest.trim_start().strip_prefix(':')
                {
                    let value = value.trim_start();
                    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
                    return value.get(..end)?.parse().ok().filter(|pid| *pid > 0);
                }
            }
        }
    }
}

/// Splits what follows an opening quote into the string, still escaped, and what follows its closing quote.
fn split_string(rest: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = rest.find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    Some((rest.get(..end)?, rest.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_up_to_whole_seconds() {
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(30)), 30);
        assert_eq!(whole_seconds(Duration::MAX), i64::MAX);
    }

    #[test]
    fn pid_is_the_outermost_one() {
        #[track_caller]
        fn check(document: &str, expect: Option<u32>) {
            assert_eq!(top_level_pid(document), expect, "{document}");
        }
        check(r#"{"sandboxID":"s","pid":417,"removing":false}"#, Some(417));
        check(r#"{"config":{"pid":3,"a":["pid",{"pid":4}]},"pid": 5}"#, Some(5));
        check(r#"{"text":"\"pid\":6 {[","pid":7}"#, Some(7));
        check(r#"{"name":"pid","pid":8}"#, Some(8));
        check(r#"{"pid":0}"#, None);
        check(r#"{"config":{"pid":3}}"#, None);
        check(r#"{"pid":"9"}"#, None);
        check("}}", None);
        check(r#"{"pid"#, None);
        check("", None);
    }
}
