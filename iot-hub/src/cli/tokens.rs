//! `token create` and `enrolment-token create`: local administration, straight against the store.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use daemon::config::Config as _;
use edge_protocol::DeviceId;
use edge_protocol::v1::LinkClass;
use iot_hub_api::CreateEnrolmentToken;
use iot_hub_store::{AuditRecord, HubStore as _};

use crate::ca::{Authority, CaFiles};
use crate::grant::{Grant, Principal, Role, SourceRule};
use crate::rest::validate;
use crate::{Options, Store, clock, token};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    Admin,
    Provider,
    Viewer,
}

#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    #[arg(long)]
    config: PathBuf,
    /// Whose token it is; shown in the audit.
    #[arg(long)]
    principal: String,
    #[arg(long, value_enum)]
    role: RoleArg,
    /// Only for this cluster: the UID of its kube-system namespace.
    #[arg(long)]
    cluster_uid: Option<String>,
    /// Only for these virtual nodes; may be repeated.
    #[arg(long)]
    node: Vec<String>,
    /// A target condition that is ANDed to everything the principal deploys.
    #[arg(long, default_value = "*")]
    devices: String,
    /// It may open streams to these devices: commands, logs, ports. An administrator may without.
    #[arg(long)]
    streams: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LinkArg {
    Lan,
    Cellular,
    Satellite,
}

#[derive(Debug, Args)]
pub(super) struct EnrolmentArgs {
    #[arg(long)]
    config: PathBuf,
    /// Tags of the devices that enrol with it.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = tag)]
    tags: Vec<(String, String)>,
    #[arg(long, default_value = "")]
    group: String,
    /// How many devices may use it.
    #[arg(long, default_value_t = 1)]
    uses: u32,
    /// Seconds until it expires.
    #[arg(long, default_value_t = 86_400)]
    ttl: u64,
    #[arg(long, value_enum, default_value = "lan")]
    link: LinkArg,
    /// The id of the one device that may use it. Only such a token can enrol a known device anew.
    #[arg(long)]
    device: Option<DeviceId>,
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Opens the store beside a hub that may be running; SQLite takes turns.
async fn open(options: &Options) -> anyhow::Result<Store> {
    std::fs::create_dir_all(&options.state_dir).context("cannot make the state directory")?;
    Ok(Store::open(&options.state_dir.join("hub.db")).await?)
}

fn cause(action: &str, subject: &str) -> AuditRecord {
    AuditRecord {
        id: 0,
        at_ms: clock::wall_ms(),
        principal: "local-administrator".to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
    }
}

pub(super) async fn create_api(args: ApiArgs) -> anyhow::Result<()> {
    let ApiArgs {
        config,
        principal,
        role,
        cluster_uid,
        node,
        devices,
        streams,
    } = args;
    let options = Options::read(&config)?;
    let sources = match (cluster_uid, node.is_empty()) {
        (None, true) => Vec::new(),
        (cluster_uid, true) => vec![SourceRule {
            cluster_uid,
            node: None,
        }],
        (cluster_uid, false) => {
            let rule = |node| SourceRule {
                cluster_uid: cluster_uid.clone(),
                node: Some(node),
            };
            node.into_iter().map(rule).collect()
        }
    };
    let role = match role {
        RoleArg::Admin => Role::Admin,
        RoleArg::Provider => Role::Provider,
        RoleArg::Viewer => Role::Viewer,
    };
    let grant = Grant {
        role,
        sources,
        devices,
        streams,
    };
    Principal::new(principal.clone(), grant.clone()).context("--devices is not a target condition")?;
    let (record, token) = token::api(&principal, &grant);
    let store = open(&options).await?;
    store.put_api_token(&record).await?;
    store
        .put_audit(&cause(
            "create-api-token",
            &format!("{} for {principal}", record.id),
        ))
        .await?;
    store.close().await;
    println!("{token}");
    Ok(())
}

pub(super) async fn create_enrolment(args: EnrolmentArgs) -> anyhow::Result<()> {
    let EnrolmentArgs {
        config,
        tags,
        group,
        uses,
        ttl,
        link,
        device,
    } = args;
    let options = Options::read(&config)?;
    let authority = Authority::new(&CaFiles::load(&options.ca_dir)?)?;
    let link = match link {
        LinkArg::Lan => LinkClass::Lan,
        LinkArg::Cellular => LinkClass::Cellular,
        LinkArg::Satellite => LinkClass::Satellite,
    };
    let ask = CreateEnrolmentToken {
        group,
        tags: BTreeMap::from_iter(tags),
        link,
        uses,
        ttl_s: ttl,
        device,
    };
    validate::enrolment_token(&ask)
        .map_err(|problem| anyhow::anyhow!("{}: {}", problem.field.unwrap_or_default(), problem.detail))?;
    let (record, created) = token::enrolment(ask, authority.anchor());
    let store = open(&options).await?;
    store.put_enrolment_token(&record).await?;
    store
        .put_audit(&cause("create-enrolment-token", &record.id))
        .await?;
    store.close().await;
    println!("{}", created.token);
    Ok(())
}
