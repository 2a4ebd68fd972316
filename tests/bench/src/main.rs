//! `outrigger-bench`: measures, prints, writes JSON and leaves nothing running. `cargo xtask bench` builds and calls it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench::apply::{self, ApplyPlan};
use bench::baseline::Baseline;
use bench::pods::Cluster;
use bench::report::{self, ApplyReport, Machine, SeriesReport};
use bench::side::{Side, Token};
use bench::stage::{Stage, blocking};
use clap::{Args, Parser, Subcommand};
use lab::{ControlPlaneOptions, Lab, LabOptions};

/// Measurements beside a real kubelet on the same machine. Needs root, and an otherwise idle machine.
#[derive(Debug, Parser)]
#[command(name = "outrigger-bench")]
struct Cli {
    /// Where results go, and where the lab lives meanwhile.
    #[arg(long, global = true, default_value = "target/outrigger/bench")]
    directory: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply → Ready of single pods and bursts, and CPU time per pod.
    Apply(ApplyArguments),
}

#[derive(Debug, Args)]
struct ApplyArguments {
    /// Single pods per side.
    #[arg(long, default_value_t = 200)]
    singles: u32,
    /// Sizes of bursts.
    #[arg(long, value_delimiter = ',', default_value = "60,120")]
    bursts: Vec<u32>,
    /// Rounds of each burst per side.
    #[arg(long, default_value_t = 2)]
    repeat: u32,
    /// No further round begins after this many minutes.
    #[arg(long, default_value_t = 45)]
    limit_minutes: u64,
    /// Let pods have their service account's token, as a kubelet's pods do by default and fleet pods never; without it the work is the same.
    #[arg(long)]
    with_token: bool,
}

impl ApplyArguments {
    fn token(&self) -> Token {
        if self.with_token {
            Token::Mounted
        } else {
            Token::Withheld
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let stage = Stage::set(cli.directory)?;
    match cli.command {
        Command::Apply(arguments) => stage.perform(measure_apply(&stage, arguments)),
    }
}

async fn measure_apply(stage: &Stage, arguments: ApplyArguments) -> anyhow::Result<()> {
    let machine = Machine::now()?;
    let begun = Instant::now();
    let (cluster, sides) = raise_baseline(stage, arguments.token()).await?;
    let plan = ApplyPlan {
        singles: arguments.singles,
        bursts: arguments.bursts,
        repeat: arguments.repeat,
        limit: Duration::from_mins(arguments.limit_minutes),
    };
    let series = apply::measure(&cluster, &sides, &plan).await?;
    let report = ApplyReport {
        machine,
        seconds: begun.elapsed().as_secs_f64(),
        series: series
            .iter()
            .map(|each| SeriesReport::new(each, "outrigger", "kubelet"))
            .collect(),
    };
    report.print();
    println!("{}", report::write(stage.results(), "apply", &report)?.display());
    Ok(())
}

async fn raise_baseline(stage: &Stage, token: Token) -> anyhow::Result<(Cluster, Vec<Side>)> {
    let directory = stage.lab();
    eprintln!("starting a control plane and a kubelet");
    let (kubeconfig, side) = blocking(move || {
        let lab = Lab::start(LabOptions {
            control_plane: Some(ControlPlaneOptions::default()),
            ..LabOptions::in_directory(directory)
        })?;
        let baseline = Baseline::start(&lab, "worker")?;
        Ok::<_, bench::BenchError>((lab.control_plane()?.kubeconfig(), baseline.side(token)))
    })
    .await?;
    Ok((Cluster::connect(&kubeconfig).await?, vec![side]))
}
