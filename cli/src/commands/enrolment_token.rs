//! `outrigger enrolment-token`.

use clap::Subcommand;
use edge_protocol::DeviceId;
use edge_protocol::v1::LinkClass;
use iot_hub_api::v1::{CreateEnrolmentToken, EnrolmentTokenInfo};
use iot_hub_client::HubClient;
use jiff::Timestamp;

use super::device::Class;
use super::pairs;
use crate::output::{self, OutputArgs, Row, age, word};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a token and print it, once.
    Create {
        /// A tag of every device that enrols with it; may be repeated.
        #[arg(long = "tag", value_name = "KEY=VALUE")]
        tags: Vec<String>,
        #[arg(long, default_value = "")]
        group: String,
        /// How many devices may use it.
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// Seconds until it expires.
        #[arg(long, default_value_t = 86_400)]
        ttl: u64,
        #[arg(long, value_enum, default_value_t = Class::Lan)]
        link: Class,
        /// Fix the id of the one device that may use it.
        #[arg(long)]
        device: Option<DeviceId>,
    },
    /// List tokens; their secrets are not known to the hub.
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Revoke a token. Devices that used it stay enrolled.
    Revoke { id: String },
}

impl Row for EnrolmentTokenInfo {
    const COLUMNS: (&'static [&'static str], &'static [&'static str]) =
        (&["ID", "USED", "EXPIRED", "GROUP", "TAGS"], &["LINK", "DEVICE"]);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let expired = self.expires_ms <= now.as_millisecond();
        let tags: Vec<String> = self
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        vec![
            self.id.clone(),
            format!("{}/{}", self.used, self.uses),
            if expired {
                format!("{} ago", age(Some(self.expires_ms), now))
            } else {
                "no".to_owned()
            },
            self.group.clone(),
            tags.join(","),
            word(&self.link),
            self.device
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
        ]
    }
}

pub async fn run(hub: &HubClient, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create {
            tags,
            group,
            uses,
            ttl,
            link,
            device,
        } => {
            let tags = pairs(&tags)?;
            let link = LinkClass::from(link);
            let request = CreateEnrolmentToken {
                group,
                tags,
                link,
                uses,
                ttl_s: ttl,
                device,
            };
            println!("{}", hub.create_enrolment_token(&request).await?.token);
            Ok(())
        }
        Command::Ls { output } => output::print(
            output.output,
            "enrolment tokens",
            &hub.enrolment_tokens().await?.items,
        ),
        Command::Revoke { id } => {
            hub.revoke_enrolment_token(&id).await?;
            println!("enrolment token {id} revoked");
            Ok(())
        }
    }
}
