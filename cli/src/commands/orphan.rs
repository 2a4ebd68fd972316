//! `outrigger orphan`: workloads that go on because nobody meant to stop them.

use clap::Subcommand;
use edge_protocol::v1::DeploymentState;
use iot_hub_api::v1::Deployment;
use iot_hub_client::HubClient;
use jiff::Timestamp;
use serde::Serialize;

use super::find_deployment;
use crate::output::{self, OutputArgs, Row, age};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List orphans: their pod object is gone by no one's intent, their containers go on.
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Stop an orphan on all its devices.
    Rm {
        /// Its uid, or `namespace/name` of its former pod.
        orphan: String,
        /// Seconds between SIGTERM and SIGKILL; its own grace period if not given.
        #[arg(long)]
        grace_period: Option<u32>,
    },
}

#[derive(Serialize)]
#[serde(transparent)]
struct Orphan(Deployment);

impl Row for Orphan {
    const COLUMNS: (&'static [&'static str], &'static [&'static str]) = (
        &["NAME", "DEVICES", "OFFLINE", "SINCE", "OWNER"],
        &["UID", "NODE"],
    );

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let spec = &self.0.spec;
        let since = match self.0.state {
            DeploymentState::Released { since_ms } => Some(since_ms),
            _ => None,
        };
        vec![
            format!("{}/{}", spec.namespace, spec.name),
            self.0.status.counts.targeted.to_string(),
            self.0.status.counts.offline.to_string(),
            age(since, now),
            spec.owner.as_ref().map_or_else(
                || "-".to_owned(),
                |owner| format!("{}/{}", owner.kind, owner.name),
            ),
            spec.uid.to_string(),
            spec.source.node.clone(),
        ]
    }
}

fn is_orphan(deployment: &Deployment) -> bool {
    matches!(deployment.state, DeploymentState::Released { .. })
}

pub async fn run(hub: &HubClient, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Ls { output } => {
            let all = hub.deployments(None).await?.items;
            let orphans: Vec<Orphan> = all.into_iter().filter(is_orphan).map(Orphan).collect();
            output::print(output.output, "orphans", &orphans)
        }
        Command::Rm { orphan, grace_period } => {
            let deployment = find_deployment(hub, &orphan).await?;
            anyhow::ensure!(
                is_orphan(&deployment),
                "{orphan} is no orphan: its pod still exists; delete it with kubectl"
            );
            hub.remove_orphan(&deployment.spec.uid, grace_period).await?;
            println!("orphan {orphan} is being stopped");
            Ok(())
        }
    }
}
