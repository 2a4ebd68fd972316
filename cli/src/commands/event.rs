//! `outrigger event`.

use clap::Args;
use edge_protocol::DeviceId;
use iot_hub_api::v1::DeviceEventRecord;
use iot_hub_client::{EventFilter, HubClient};
use jiff::Timestamp;

use super::find_deployment;
use crate::output::{self, OutputArgs, Row, age, word};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Only those of this device.
    #[arg(long)]
    device: Option<DeviceId>,
    /// Only those of this deployment: its uid, or `namespace/name` of its pod.
    #[arg(long)]
    deployment: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Row for DeviceEventRecord {
    const COLUMNS: (&'static [&'static str], &'static [&'static str]) = (
        &["DEVICE", "AGE", "TYPE", "REASON", "CONTAINER", "MESSAGE"],
        &["SEQ", "UID"],
    );

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let event = &self.event;
        vec![
            self.device.to_string(),
            age(Some(event.at.wall_ms), now),
            word(&event.level),
            event.reason.to_string(),
            event.container.clone().unwrap_or_else(|| "-".to_owned()),
            event.message.clone(),
            event.seq.to_string(),
            event.uid.to_string(),
        ]
    }
}

/// The newest first.
pub async fn run(hub: &HubClient, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments {
        device,
        deployment,
        output,
    } = arguments;
    let deployment = match deployment {
        Some(wanted) => Some(find_deployment(hub, &wanted).await?.spec.uid),
        None => None,
    };
    let events = hub.events(&EventFilter { device, deployment }).await?;
    output::print(output.output, "events", &events.items)
}
