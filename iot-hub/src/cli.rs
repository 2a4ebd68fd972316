//! The command line of `outrigger-hub`.

mod tokens;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use daemon::config::Config as _;
use daemon::signals;
use tokio_util::sync::CancellationToken;

use crate::Options;
use crate::ca::{Authority, CaFiles};

const EXAMPLES: &str = "\
Examples:
  outrigger-hub ca init --dir /etc/outrigger/ca
  outrigger-hub check-config --config /etc/outrigger/hub.toml
  outrigger-hub run --config /etc/outrigger/hub.toml
  outrigger-hub token create --config /etc/outrigger/hub.toml --principal ops --role admin
  outrigger-hub token create --config hub.toml --principal graz --role provider \\
      --cluster-uid 6f1c… --node outrigger --devices \"tags.site = 'graz'\" --streams
  outrigger-hub enrolment-token create --config hub.toml --tags site=graz,line=1 --group press --uses 3 --ttl 3600

A configuration:
  state_dir = \"/var/lib/outrigger-hub\"
  ca_dir = \"/etc/outrigger/ca\"
  [device]
  listen = \"0.0.0.0:443\"
  [rest]
  listen = \"127.0.0.1:8443\"
  names = [\"hub.example.com\", \"127.0.0.1\"]
  [health]
  listen = \"127.0.0.1:9080\"";

/// The hub of an Outrigger fleet: devices, deployments, desired sets.
#[derive(Debug, Parser)]
#[command(name = "outrigger-hub", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keys and certificates.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Serve until SIGTERM.
    Run(ConfigArgs),
    /// Say whether a configuration can be used, and why not.
    CheckConfig(ConfigArgs),
    /// Tokens of the REST API.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Tokens that let devices enrol.
    #[command(subcommand)]
    EnrolmentToken(EnrolmentTokenCommand),
    /// Print the version.
    Version,
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Make root, intermediate and signing key. Move root.key to a safe place afterwards.
    Init {
        /// A directory without earlier keys.
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct ConfigArgs {
    #[arg(long)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it, this once. Also while the hub runs.
    Create(tokens::ApiArgs),
}

#[derive(Debug, Subcommand)]
enum EnrolmentTokenCommand {
    /// Make a token and print it, this once. Also while the hub runs.
    Create(tokens::EnrolmentArgs),
}

/// Runs one command.
///
/// # Errors
/// Whatever went wrong, with its whole chain; the process then exits with 1.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Ca(CaCommand::Init { dir }) => init(&dir),
        Command::Run(args) => serve(&args.config).await,
        Command::CheckConfig(args) => check(&args.config),
        Command::Token(TokenCommand::Create(args)) => tokens::create_api(args).await,
        Command::EnrolmentToken(EnrolmentTokenCommand::Create(args)) => tokens::create_enrolment(args).await,
        Command::Version => {
            println!("outrigger-hub {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

fn init(directory: &Path) -> anyhow::Result<()> {
    let hub = CaFiles::init(directory)?;
    println!("hub {hub}");
    println!(
        "{} is needed only to make another intermediate: keep it offline",
        directory.join("root.key").display()
    );
    Ok(())
}

fn check(config: &Path) -> anyhow::Result<()> {
    let options = Options::read(config)?;
    Authority::new(&CaFiles::load(&options.ca_dir)?)?;
    println!("{} is good", config.display());
    Ok(())
}

async fn serve(config: &Path) -> anyhow::Result<()> {
    let options = Options::read(config)?;
    options.log.init();
    let stop = CancellationToken::new();
    let signals = signals::listen(stop.clone()).context("cannot listen for signals")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?options, "starting");
    let bound = crate::build(options).await?;
    tokio::select! {
        ended = bound.run(stop) => Ok(ended?),
        never = signals => match never {},
    }
}
