//! The command line of `outrigger-kubelet`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use daemon::config::Config as _;
use daemon::signals;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Options, brake, rbac};

const EXAMPLES: &str = "\
Exit codes:
  0   stopped by SIGTERM
  75  the leader lease was lost: another process may lead; started again, this one stands by
  1   anything else; the message says what

Examples:
  outrigger-kubelet check-config --config /etc/outrigger/kubelet.toml
  outrigger-kubelet rbac --config /etc/outrigger/kubelet.toml | kubectl apply -f -
  outrigger-kubelet run --config /etc/outrigger/kubelet.toml
  kill -USR1 <pid>     let removals that the brake holds back pass

A configuration:
  [node]
  name = \"outrigger\"
  ip = \"192.0.2.10\"
  [hub]
  url = \"https://hub.example.com:8443\"
  ca_file = \"/etc/outrigger/hub-ca.pem\"
  token_file = \"/etc/outrigger/hub-token\"
  [health]
  listen = \"127.0.0.1:9081\"
  [kubernetes]
  kubeconfig = \"/etc/outrigger/kubeconfig\"
  [[namespaces]]
  selector = { match_labels = { \"kubernetes.io/metadata.name\" = \"shop\" } }
  scope = \"tags.site = 'graz'\"
  default_condition = \"*\"";

/// A virtual node whose pods run on a fleet of devices.
#[derive(Debug, Parser)]
#[command(name = "outrigger-kubelet", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM. A second process for the same node stands by.
    Run(ConfigArgs),
    /// Say whether a configuration can be used, and why not.
    CheckConfig(ConfigArgs),
    /// Print the rights that a configuration needs, as Kubernetes objects.
    Rbac(ConfigArgs),
    /// Print the version.
    Version,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    #[arg(long)]
    config: PathBuf,
}

/// Runs one command.
///
/// # Errors
/// Whatever went wrong, with its whole chain; the process then exits with another code than 0.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Run(args) => serve(Options::read(&args.config)?).await,
        Command::CheckConfig(args) => {
            let options = Options::read(&args.config)?;
            crate::hub::client(&options.hub)?;
            let (node, leader) = (&options.node.name, &options.kubernetes.leader.namespace);
            println!(
                "{} is good: node {node}, leader lease {leader}/{}",
                args.config.display(),
                options.lease_name()
            );
            Ok(())
        }
        Command::Rbac(args) => {
            print!("{}", rbac::manifests(&Options::read(&args.config)?));
            Ok(())
        }
        Command::Version => {
            println!("outrigger-kubelet {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

async fn serve(options: Options) -> anyhow::Result<()> {
    options.log.init();
    // Both kube and the hub client name their provider; this covers whatever asks for the process's default.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stop = CancellationToken::new();
    let (release, released) = watch::channel(0);
    let signals = signals::listen(stop.clone()).context("cannot listen for signals")?;
    let releases = brake::listen(release).context("cannot listen for SIGUSR1")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?options, "starting");
    let bound = crate::build(options).await?;
    tokio::select! {
        ended = bound.run(released, stop) => Ok(ended?),
        never = signals => match never {},
        never = releases => match never {},
    }
}
