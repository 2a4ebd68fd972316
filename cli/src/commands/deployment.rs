//! `outrigger deployment`.

use clap::Subcommand;
use edge_protocol::v1::{ContainerState, Phase, Rung};
use iot_hub_api::v1::{Assignment, Deployment};
use iot_hub_client::HubClient;
use jiff::Timestamp;

use super::find_deployment;
use crate::output::{self, OutputArgs, Row, age, word};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List deployments with their counts.
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one deployment.
    Get {
        /// Its uid, or `namespace/name` of its pod.
        deployment: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show the deployment on each of its devices.
    #[command(visible_alias = "devices")]
    Assignments {
        /// Its uid, or `namespace/name` of its pod.
        deployment: String,
        #[command(flatten)]
        output: OutputArgs,
    },
}

impl Row for Deployment {
    const COLUMNS: (&'static [&'static str], &'static [&'static str]) = (
        &[
            "NAME", "STATE", "READY", "TARGETED", "OFFLINE", "APPLIED", "HEALTHY", "AGE",
        ],
        &["UID", "REVISION", "CONDITION", "FAILING"],
    );

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let counts = &self.status.counts;
        let failing: Vec<String> = self
            .status
            .failing
            .iter()
            .map(|failing| format!("{}:{}", failing.device, failing.reason))
            .collect();
        vec![
            format!("{}/{}", self.spec.namespace, self.spec.name),
            word(&self.state),
            format!("{}/{}", counts.healthy, counts.counted),
            counts.targeted.to_string(),
            counts.offline.to_string(),
            counts.applied.to_string(),
            counts.healthy.to_string(),
            age(Some(self.created_ms), now),
            self.spec.uid.to_string(),
            self.revision.to_string(),
            self.spec.target.condition.clone(),
            failing.join(","),
        ]
    }
}

impl Row for Assignment {
    const COLUMNS: (&'static [&'static str], &'static [&'static str]) = (
        &[
            "DEVICE",
            "RUNG",
            "PHASE",
            "RESTARTS",
            "REASON",
            "ONLINE",
            "LAST-SEEN",
            "AGE",
        ],
        &["POD-IP", "CONTAINERS", "MESSAGE"],
    );

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let status = self.status.as_ref();
        let containers = status.map_or(&[][..], |status| &status.containers);
        let restarts: u32 = containers.iter().map(|container| container.restart_count).sum();
        let reason = status
            .and_then(|status| status.reason)
            .map(|reason| reason.to_string())
            .or_else(|| self.waiting.then(|| "OutOfpods".to_owned()));
        let states: Vec<String> = containers
            .iter()
            .map(|container| format!("{}:{}", container.name, state(&container.state)))
            .collect();
        vec![
            self.device.to_string(),
            rung(self.rung).to_owned(),
            status.map_or("Pending", |status| phase(status.phase)).to_owned(),
            restarts.to_string(),
            reason
                .or_else(|| containers.iter().find_map(|container| waiting(&container.state)))
                .unwrap_or_default(),
            self.online.to_string(),
            age(self.last_seen_ms, now),
            age(Some(self.since_ms), now),
            status
                .and_then(|status| status.pod_ip.clone())
                .unwrap_or_else(|| "-".to_owned()),
            states.join(","),
            status.map(|status| status.message.clone()).unwrap_or_default(),
        ]
    }
}

fn rung(rung: Rung) -> &'static str {
    match rung {
        Rung::Targeted => "Targeted",
        Rung::Received => "Received",
        Rung::Persisted => "Persisted",
        Rung::Applied => "Applied",
        Rung::Healthy => "Healthy",
    }
}

/// As kubectl spells a pod's phase.
fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
        Phase::Refused => "Refused",
        Phase::Gone => "Gone",
    }
}

fn waiting(state: &ContainerState) -> Option<String> {
    match state {
        ContainerState::Waiting { reason, .. } => Some(reason.to_string()),
        _ => None,
    }
}

fn state(state: &ContainerState) -> String {
    match state {
        ContainerState::Waiting { reason, .. } => reason.to_string(),
        ContainerState::Running { .. } => "Running".to_owned(),
        ContainerState::Terminated {
            reason, exit_code, ..
        } => format!("{reason}({exit_code})"),
    }
}

pub async fn run(hub: &HubClient, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Ls { output } => {
            output::print(output.output, "deployments", &hub.deployments(None).await?.items)
        }
        Command::Get { deployment, output } => output::print(
            output.output,
            "deployments",
            &[find_deployment(hub, &deployment).await?],
        ),
        Command::Assignments { deployment, output } => {
            let uid = find_deployment(hub, &deployment).await?.spec.uid;
            output::print(output.output, "assignments", &hub.assignments(&uid).await?.items)
        }
    }
}
