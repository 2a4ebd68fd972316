//! `outrigger device`.

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use edge_protocol::DeviceId;
use edge_protocol::v1::LinkClass;
use iot_hub_api::v1::{Device, DeviceState, DeviceWorkload};
use iot_hub_client::HubClient;
use jiff::Timestamp;

use super::top;
use crate::output::{self, Format, OutputArgs, Row, age, word};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List devices.
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one device.
    Get {
        device: DeviceId,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set tags (`key=value`) or remove them (`key-`), as `kubectl label` does. Deployments follow at once.
    Tag {
        device: DeviceId,
        #[arg(required = true, value_name = "KEY=VALUE | KEY-")]
        changes: Vec<String>,
    },
    /// Assign the class of its link: keep-alive, heartbeat and deadline follow from it.
    Link { device: DeviceId, class: Class },
    /// Refuse its connections. What it runs goes on.
    Disable { device: DeviceId },
    /// Let it connect again.
    Enable { device: DeviceId },
    /// End its enrolment for good: its certificate is refused and its assignments end. A new enrolment is needed to come back.
    Decommission {
        device: DeviceId,
        /// Confirm: this cannot be undone.
        #[arg(long)]
        yes: bool,
    },
    /// List what may run on a device, by the last that it acknowledged and all that it was told since; also on one that is lost.
    Workloads {
        device: DeviceId,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show what connected devices use, or one device and its workloads.
    Top {
        device: Option<DeviceId>,
        /// Show the containers of each workload too.
        #[arg(long, requires = "device")]
        containers: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Give the id of a decommissioned device free although it never said that it stopped what it was to stop.
    Forget {
        device: DeviceId,
        /// Accept that the workloads shown may run on, on a device that nobody can tell to stop them.
        #[arg(long)]
        accept_running_workloads: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Class {
    Lan,
    Cellular,
    Satellite,
}

impl From<Class> for LinkClass {
    fn from(class: Class) -> Self {
        match class {
            Class::Lan => Self::Lan,
            Class::Cellular => Self::Cellular,
            Class::Satellite => Self::Satellite,
        }
    }
}

impl Row for Device {
    const COLUMNS: (&'static [&'static str], &'static [&'static str]) = (
        &["NAME", "STATUS", "LAST-SEEN", "LINK", "TAGS"],
        &[
            "GROUP",
            "AGENT",
            "ARCH",
            "OS",
            "RUNTIME",
            "WANTED",
            "HELD",
            "QUARANTINE",
        ],
    );

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let tags: Vec<String> = self
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        vec![
            self.id.to_string(),
            status(self).to_owned(),
            age(self.last_seen_ms, now),
            word(&self.link),
            if tags.is_empty() {
                "<none>".to_owned()
            } else {
                tags.join(",")
            },
            self.group.clone(),
            self.agent_version.clone(),
            self.facts.arch.clone(),
            self.facts.os_image.clone(),
            format!("{} {}", self.facts.runtime_name, self.facts.runtime_version),
            self.generation.n.to_string(),
            self.acknowledged
                .map_or_else(|| "-".to_owned(), |held| held.n.to_string()),
            if self.quarantine.is_empty() {
                "-".to_owned()
            } else {
                let uids = self.quarantine.iter().map(|kept| kept.uid.to_string());
                uids.collect::<Vec<_>>().join(",")
            },
        ]
    }
}

impl Row for DeviceWorkload {
    const COLUMNS: (&'static [&'static str], &'static [&'static str]) = (&["UID", "NAME", "DESIRED"], &[]);

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let name = self.namespace.as_ref().zip(self.name.as_ref());
        vec![
            self.uid.to_string(),
            name.map_or_else(
                || "-".to_owned(),
                |(namespace, name)| format!("{namespace}/{name}"),
            ),
            word(&self.desired),
        ]
    }
}

fn status(device: &Device) -> &'static str {
    match (device.state, device.connected, device.online) {
        (DeviceState::Disabled, ..) => "Disabled",
        (DeviceState::Decommissioned, ..) => "Decommissioned",
        (DeviceState::Active, true, _) => "Connected",
        (DeviceState::Active, false, true) => "Quiet",
        (DeviceState::Active, false, false) if device.last_seen_ms.is_none() => "NeverSeen",
        (DeviceState::Active, false, false) => "Offline",
    }
}

pub async fn run(hub: &HubClient, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Ls { output } => output::print(output.output, "devices", &hub.devices().await?.items),
        Command::Get { device, output } => {
            let device = hub.device(&device).await?;
            explain(output.output, &device);
            output::print(output.output, "devices", &[device])
        }
        Command::Tag { device, changes } => tag(hub, &device, &changes).await,
        Command::Link { device, class } => {
            hub.set_link(&device, class.into()).await?;
            println!(
                "device {device} linked as {}; used from its next connection",
                word(&LinkClass::from(class))
            );
            Ok(())
        }
        Command::Disable { device } => set_state(hub, &device, DeviceState::Disabled, "disabled").await,
        Command::Enable { device } => set_state(hub, &device, DeviceState::Active, "enabled").await,
        Command::Decommission { device, yes } => {
            anyhow::ensure!(
                yes,
                "decommissioning {device} cannot be undone; repeat with --yes"
            );
            set_state(hub, &device, DeviceState::Decommissioned, "decommissioned").await
        }
        Command::Workloads { device, output } => {
            let held = hub.device_workloads(&device).await?.items;
            output::print(output.output, "workloads", &held)
        }
        Command::Top {
            device,
            containers,
            output,
        } => top::run(hub, device.as_ref(), containers, output.output).await,
        Command::Forget {
            device,
            accept_running_workloads,
        } => {
            // Shown first, also to who accepts it.
            let held = hub.device_workloads(&device).await?.items;
            output::print(Format::Table, "workloads", &held)?;
            anyhow::ensure!(
                held.is_empty() || accept_running_workloads,
                "these may still run on {device}, and nothing would stop them any more; repeat with --accept-running-workloads"
            );
            hub.forget_device_with_running_workloads(&device).await?;
            println!("device {device} forgotten; its id may be enrolled again");
            Ok(())
        }
    }
}

/// Says beside the table what needs a person: what the device keeps against the hub's word, and what it would not take.
fn explain(format: Format, device: &Device) {
    if !matches!(format, Format::Table | Format::Wide) {
        return;
    }
    let now = Timestamp::now();
    for kept in &device.quarantine {
        eprintln!(
            "quarantined: {} at revision {}, for {}: {}",
            kept.uid,
            kept.revision,
            age(Some(kept.since_ms), now),
            kept.message
        );
    }
    if let Some(set) = &device.refused {
        eprintln!(
            "not taken: set {}, for {}: {}",
            set.generation,
            age(Some(set.since_ms), now),
            set.why
        );
    }
}

async fn set_state(hub: &HubClient, device: &DeviceId, state: DeviceState, done: &str) -> anyhow::Result<()> {
    hub.set_device_state(device, state).await?;
    println!("device {device} {done}");
    Ok(())
}

async fn tag(hub: &HubClient, device: &DeviceId, changes: &[String]) -> anyhow::Result<()> {
    let mut tags = hub.device(device).await?.tags;
    for change in changes {
        if let Some((key, value)) = change.split_once('=') {
            tags.insert(key.to_owned(), value.to_owned());
        } else {
            let key = change
                .strip_suffix('-')
                .with_context(|| format!("{change:?} is neither key=value nor key-"))?;
            tags.remove(key)
                .with_context(|| format!("device {device} has no tag {key:?}"))?;
        }
    }
    hub.set_tags(device, tags).await?;
    println!("device {device} tagged");
    Ok(())
}
