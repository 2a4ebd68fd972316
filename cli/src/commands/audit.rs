//! `outrigger audit`.

use clap::Args;
use iot_hub_api::v1::AuditEntry;
use iot_hub_client::HubClient;
use jiff::Timestamp;

use crate::output::{self, OutputArgs, Row, age};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    output: OutputArgs,
}

impl Row for AuditEntry {
    const COLUMNS: (&'static [&'static str], &'static [&'static str]) =
        (&["ID", "AGE", "PRINCIPAL", "ACTION", "SUBJECT"], &[]);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            age(Some(self.at_ms), now),
            self.principal.clone(),
            self.action.clone(),
            self.subject.clone(),
        ]
    }
}

pub async fn run(hub: &HubClient, arguments: Arguments) -> anyhow::Result<()> {
    output::print(
        arguments.output.output,
        "audit entries",
        &hub.audit().await?.items,
    )
}
