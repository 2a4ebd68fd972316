//! What is done to a container that runs: hooks, probes, and its stop.

use std::time::Duration;

use edge_agent_core::step::{Finding, InContainer, StepOutcome};
use edge_agent_cri::v1::{ContainerState, ContainerStatus};
use edge_protocol::text::words;
use edge_protocol::v1::{Action, Reason};
use tokio::time::Instant;

use super::Inner;
use super::labels::{self, Described};
use super::steps::{StepFailure, because};
use crate::runtime::actions::{Outcome, Purpose, Target, perform};

/// What the stop signal has at least, however long the hook took (`minimumGracePeriodInSeconds` of
/// `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// A probe that cannot be done is tried again at once (`maxProbeRetries` of `pkg/kubelet/prober/prober.go`).
const PROBE_TRIES: u32 = 3;

impl Inner {
    pub(super) async fn probe(
        &self,
        target: &InContainer,
        timeout_s: u32,
    ) -> Result<StepOutcome, StepFailure> {
        let limit = Duration::from_secs(timeout_s.max(1).into());
        let mut outcome = self.perform(target, Purpose::Probe, Some(limit)).await;
        for _ in 1..PROBE_TRIES {
            if outcome.is_ok() {
                break;
            }
            outcome = self.perform(target, Purpose::Probe, Some(limit)).await;
        }
        let Outcome { finding, output } = outcome.map_err(StepFailure::Probe)?;
        Ok(StepOutcome::Probed {
            finding,
            output: words(&output),
        })
    }

    pub(super) async fn post_start(&self, target: &InContainer) -> Result<StepOutcome, StepFailure> {
        let status = self.client.container_status(&target.container_id).await;
        let status = status.map_err(because(Reason::PostStartHookError))?;
        match self.hook(target, &status, None).await {
            Ok(()) => Ok(StepOutcome::Done),
            Err(message) => Err(StepFailure::Hook(message)),
        }
    }

    /// `killContainer` of `pkg/kubelet/kuberuntime/kuberuntime_container.go`.
    pub(super) async fn stop_container(
        &self,
        id: &str,
        grace_s: u32,
        pre_stop: Option<&InContainer>,
    ) -> Result<StepOutcome, StepFailure> {
        let Some(status) = self.own_container(id).await? else {
            return Ok(StepOutcome::Done);
        };
        let grace = Duration::from_secs(grace_s.into());
        let began = Instant::now();
        let mut outcome = StepOutcome::Done;
        let runs = status.state() == ContainerState::ContainerRunning;
        if let Some(hook) = pre_stop.filter(|_| runs && grace_s > 0) {
            // A hook that takes all of the grace is left behind, and has not failed.
            if let Ok(Err(message)) = tokio::time::timeout(grace, self.hook(hook, &status, Some(grace))).await
            {
                outcome = StepOutcome::HookFailed { message };
            }
        }
        // As the kubelet, which counts whole seconds, and leaves those that have begun to the signal.
        let spent = Duration::from_secs(began.elapsed().as_secs());
        let left = match grace_s {
            0 => Duration::ZERO,
            _ => grace.saturating_sub(spent).max(LEAST_GRACE),
        };
        self.seen().will_stop(id);
        self.client
            .stop_container(id, left)
            .await
            .map_err(because(Reason::FailedKillPod))?;
        Ok(outcome)
    }

    async fn perform(
        &self,
        target: &InContainer,
        purpose: Purpose,
        limit: Option<Duration>,
    ) -> Result<Outcome, String> {
        let InContainer {
            container_id,
            action,
            pod_ip,
        } = target;
        let at = Target {
            container_id,
            pod_ip: *pod_ip,
            purpose,
            limit,
        };
        let performed = perform(&self.client, at, action).await;
        performed.map_err(|error| error.to_string())
    }

    /// A hook's failure, in the words of `pkg/kubelet/lifecycle/handlers.go`.
    async fn hook(
        &self,
        target: &InContainer,
        status: &ContainerStatus,
        limit: Option<Duration>,
    ) -> Result<(), String> {
        let error = match self.perform(target, Purpose::Hook, limit).await {
            Ok(Outcome {
                finding: Finding::Success,
                ..
            }) => return Ok(()),
            Ok(Outcome { output, .. }) => output,
            Err(impossible) => match target.action {
                Action::Exec { .. } => format!("{impossible}, message: \"\""),
                _ => impossible,
            },
        };
        let kind = match &target.action {
            Action::Exec { command } => format!("Exec lifecycle hook ([{}])", command.join(" ")),
            Action::HttpGet { path, .. } => format!("HTTP lifecycle hook ({path})"),
            Action::Sleep { seconds } => format!("Sleep lifecycle hook ({seconds})"),
            Action::TcpSocket { .. } | Action::Grpc { .. } => "lifecycle hook".to_owned(),
        };
        let Described { pod, container } = labels::described(&status.labels);
        let whole = format!("{kind} for Container {container:?} in Pod {pod:?} failed - error: {error}");
        Err(words(&whole))
    }
}
