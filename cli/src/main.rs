//! `outrigger`: reads the command line, connects to the hub, and leaves the rest to one module per noun.

mod commands;
mod output;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use iot_hub_client::{ApiToken, ClientOptions, HubClient};

use commands::{attach, audit, deployment, device, enrolment_token, event, exec, logs, orphan, port_forward};

const EXAMPLES: &str = "\
Examples:
  Say where the hub is, once (`cargo xtask up` writes these lines to target/outrigger/env):
    export OUTRIGGER_HUB=https://hub.example:8443 OUTRIGGER_CA=./ca.pem OUTRIGGER_TOKEN=...

  List the fleet, and move a device into another hall:
    outrigger device ls -o wide
    outrigger device tag press-7 hall=2

  See one deployment on each of its devices:
    outrigger deployment ls
    outrigger deployment assignments default/web-6d4cf56db6-x2v7p

  Look into a container, with or without Kubernetes:
    outrigger logs --device press-7 default/web-6d4cf56db6-x2v7p --follow
    outrigger exec --device press-7 default/web-6d4cf56db6-x2v7p -it -- sh
    outrigger attach --device press-7 default/shell -it

  Let a new device in:
    outrigger enrolment-token create --tag hall=1 --uses 1";

/// Manages a fleet of devices through its hub.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    hub: HubArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct HubArgs {
    /// The hub's REST API, `https://host:port`.
    #[arg(long, env = "OUTRIGGER_HUB", global = true)]
    hub: Option<String>,
    /// A file with the certificate (PEM) that the hub's own must lead to.
    #[arg(long, env = "OUTRIGGER_CA", global = true)]
    ca: Option<PathBuf>,
    /// A file with an API token. Without it the environment variable `OUTRIGGER_TOKEN` is used; a token on the command line would
    /// be readable by every process of the machine.
    #[arg(long, global = true)]
    token_file: Option<PathBuf>,
    #[arg(
        env = "OUTRIGGER_TOKEN",
        long = "token-from-environment",
        hide = true,
        hide_env_values = true,
        global = true
    )]
    token: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Devices: list, tag, disable, decommission.
    #[command(subcommand, visible_alias = "devices")]
    Device(device::Command),
    /// Deployments, and what became of them on each device.
    #[command(subcommand, visible_alias = "deployments")]
    Deployment(deployment::Command),
    /// Workloads whose pod is gone by no one's intent.
    #[command(subcommand, visible_alias = "orphans")]
    Orphan(orphan::Command),
    /// One-time tokens that let devices in.
    #[command(subcommand, visible_alias = "enrolment-tokens")]
    EnrolmentToken(enrolment_token::Command),
    /// What happened on devices.
    #[command(visible_alias = "events")]
    Event(event::Arguments),
    /// Run a command in a container on a device.
    Exec(exec::Arguments),
    /// See what a container on a device writes, and type into it.
    Attach(attach::Arguments),
    /// Print what a container on a device has written.
    #[command(visible_alias = "log")]
    Logs(logs::Arguments),
    /// Listen here, and connect to ports of a pod on a device.
    PortForward(port_forward::Arguments),
    /// Who changed what.
    Audit(audit::Arguments),
    /// Print a completion script, for example `source <(outrigger completion bash)`.
    Completion { shell: Shell },
    /// Print the version.
    Version,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { hub, command } = cli;
    match command {
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "outrigger", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Version => {
            println!("outrigger {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        command => {
            rustls::crypto::ring::default_provider()
                .install_default()
                .map_err(|_| anyhow::anyhow!("a TLS provider was installed before main"))?;
            let client = hub.connect()?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot start the async runtime")?;
            let outcome = runtime.block_on(dispatch(&client, command));
            // A reader of standard input would wait for its next line.
            runtime.shutdown_background();
            outcome
        }
    }
}

async fn dispatch(hub: &HubClient, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Exec(arguments) => return exec::run(hub, arguments).await,
        Command::Attach(arguments) => return attach::run(hub, arguments).await,
        Command::Device(command) => device::run(hub, command).await,
        Command::Deployment(command) => deployment::run(hub, command).await,
        Command::Orphan(command) => orphan::run(hub, command).await,
        Command::EnrolmentToken(command) => enrolment_token::run(hub, command).await,
        Command::Event(arguments) => event::run(hub, arguments).await,
        Command::Logs(arguments) => logs::run(hub, arguments).await,
        Command::PortForward(arguments) => port_forward::run(hub, arguments).await,
        Command::Audit(arguments) => audit::run(hub, arguments).await,
        Command::Completion { .. } | Command::Version => Ok(()),
    }?;
    Ok(ExitCode::SUCCESS)
}

impl HubArgs {
    fn connect(self) -> anyhow::Result<HubClient> {
        let Self {
            hub,
            ca,
            token_file,
            token,
        } = self;
        let url = hub.context("no hub: set OUTRIGGER_HUB or --hub to https://host:port")?;
        let ca = ca.context("no certificate authority: set OUTRIGGER_CA or --ca to the hub's ca.pem")?;
        let ca_pem = std::fs::read_to_string(&ca)
            .with_context(|| format!("cannot read the certificate {}", ca.display()))?;
        let token = match token_file {
            Some(path) => std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read the token {}", path.display()))?
                .trim()
                .to_owned(),
            None => token.context("no API token: set OUTRIGGER_TOKEN or --token-file")?,
        };
        HubClient::new(ClientOptions::new(url, ca_pem, ApiToken::new(token)))
            .context("cannot set up the hub's client")
    }
}
