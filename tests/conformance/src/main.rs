//! `outrigger-conformance`: plays the cases, prints what differs, and leaves nothing running.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use bench::stage::Stage;
use clap::Parser;
use conformance::case::Case;
use conformance::cluster::Cluster;
use conformance::run::{self, Arena, Outcome};
use conformance::stage::Parts;
use conformance::{ConformanceError, difference, table};

/// The same pods on a real kubelet and on a device node, and what can be seen of both compared. Needs root.
#[derive(Debug, Parser)]
#[command(name = "outrigger-conformance")]
struct Cli {
    /// Where the lab lives meanwhile.
    #[arg(long, default_value = "target/outrigger/conformance")]
    directory: PathBuf,
    /// Only cases whose name begins with one of these; all when none is named.
    cases: Vec<String>,
    /// Cases at a time.
    #[arg(long, default_value_t = 6)]
    at_once: usize,
    /// Play on the real kubelet alone and print what can be seen there.
    #[arg(long)]
    kubelet_only: bool,
}

fn main() -> ExitCode {
    match perform(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("outrigger-conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(cli: &Cli) -> anyhow::Result<bool> {
    let home = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut cases = Case::all(&home.join("cases"))?;
    for wanted in &cli.cases {
        if !cases.iter().any(|case| case.name.starts_with(wanted)) {
            return Err(ConformanceError::NoCase(wanted.clone()).into());
        }
    }
    cases.retain(|case| cli.cases.is_empty() || cli.cases.iter().any(|wanted| case.name.starts_with(wanted)));
    let listed = difference::listed(&home.join("differences.yaml"))?;
    let stage = Stage::set(&cli.directory)?;
    stage.perform(play(&stage, cli, cases, listed))
}

async fn play(
    stage: &Stage,
    cli: &Cli,
    cases: Vec<Case>,
    listed: Vec<difference::Listed>,
) -> anyhow::Result<bool> {
    let directory = stage.lab();
    let start = if cli.kubelet_only {
        Parts::kubelet_alone
    } else {
        Parts::both
    };
    let parts = tokio::task::spawn_blocking(move || start(&directory)).await??;
    let arena = Arena {
        cluster: Cluster::connect(&parts.kubeconfig).await.context("the cluster")?,
        kubelet: parts.kubelet,
        device: parts.device,
        listed: Arc::new(listed),
    };
    let verdicts = run::all(&arena, cases, cli.at_once).await;
    table::print(&verdicts);
    Ok(verdicts.iter().all(|verdict| verdict.outcome == Outcome::Equal))
}
