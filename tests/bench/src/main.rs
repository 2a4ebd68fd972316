//! `outrigger-bench`: measures, prints, writes JSON and leaves nothing running. `cargo xtask bench` builds and calls it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bench::BenchError;
use bench::apply::{self, ApplyPlan};
use bench::baseline::Baseline;
use bench::memory::{self, MemoryReport, Subject};
use bench::nodes::{self, NodesPlan};
use bench::ours::{On, Ours};
use bench::pods::Cluster;
use bench::report::{self, ApplyReport, Machine, SeriesReport};
use bench::side::{Side, Token};
use bench::stage::{Stage, blocking};
use bench::step::StepReport;
use bench::streams::{self, StreamsPlan, StreamsReport};
use bench::{idle, programs};
use clap::{Args, Parser, Subcommand, ValueEnum};
use lab::{ControlPlaneOptions, Lab, LabOptions};
use site::Programs;

const WORKER: &str = "worker";

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
    /// Memory of one agent of the edge profile alone, idle and with pods, beside the kubelet's.
    Memory {
        #[arg(long, default_value_t = 20)]
        pods: u32,
    },
    /// Bytes of an idle device per day in the cellular link class.
    Idle {
        /// Keep-alive intervals of 240 s to count for.
        #[arg(long, default_value_t = 4)]
        beats: u32,
    },
    /// Time of one step of the device's machine alone, by how many workloads the device has.
    Step {
        #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
        counts: Vec<usize>,
    },
    /// CPU, memory and API calls of one process with more and more device nodes, at rest.
    Nodes {
        /// How many there are, rising.
        #[arg(long, value_delimiter = ',', default_value = "1,50,200")]
        counts: Vec<usize>,
        /// How long each number is watched.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// exec, logs and port-forward of a device's own Node.
    Streams {
        /// Commands and logs per side.
        #[arg(long, default_value_t = 100)]
        rounds: u32,
        /// How long 20,000 lines a second are written.
        #[arg(long, default_value_t = 15)]
        seconds: u64,
        /// Logs that are followed at once.
        #[arg(long, default_value_t = 200)]
        followers: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    Kubelet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Node {
    /// That of the fleet.
    Fleet,
    /// The device's own.
    Device,
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
    /// Measure the real kubelet alone, without anything of Outrigger.
    #[arg(long)]
    only: Option<Only>,
    /// The Node that our pods go to.
    #[arg(long, default_value = "fleet")]
    node: Node,
}

impl ApplyArguments {
    fn token(&self) -> Token {
        if self.with_token {
            Token::Mounted
        } else {
            Token::Withheld
        }
    }

    fn on(&self) -> On {
        match self.node {
            Node::Fleet => On::Fleet,
            Node::Device => On::Device,
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
        Command::Memory { pods } => stage.perform(measure_memory(&stage, pods)),
        Command::Idle { beats } => stage.perform(measure_idle(&stage, beats)),
        Command::Step { counts } => measure_step(&stage, &counts),
        Command::Nodes { counts, seconds } => {
            let window = Duration::from_secs(seconds);
            stage.perform(measure_nodes(&stage, NodesPlan { counts, window }))
        }
        Command::Streams {
            rounds,
            seconds,
            followers,
        } => {
            let plan = StreamsPlan {
                rounds,
                seconds,
                followers,
            };
            stage.perform(measure_streams(&stage, plan))
        }
    }
}

async fn measure_apply(stage: &Stage, arguments: ApplyArguments) -> anyhow::Result<()> {
    let machine = Machine::now()?;
    let begun = Instant::now();
    let (cluster, sides) = match arguments.only {
        Some(Only::Kubelet) => raise_kubelet(stage, arguments.token()).await?,
        None => raise_both(stage, arguments.token(), arguments.on()).await?,
    };
    let plan = ApplyPlan {
        singles: arguments.singles,
        bursts: arguments.bursts,
        repeat: arguments.repeat,
        limit: Duration::from_mins(arguments.limit_minutes),
    };
    let mut series = Vec::new();
    let outcome = apply::measure(&cluster, &sides, &plan, &mut series).await;
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
    Ok(outcome?)
}

async fn measure_memory(stage: &Stage, pods: u32) -> anyhow::Result<()> {
    let machine = Machine::now()?;
    let programs = programs::with_edge_agent(stage.results())?;
    let (ours, baseline) = start_both(stage, programs, On::Fleet).await?;
    let cluster = Cluster::connect(&ours.kubeconfig()).await?;
    let subjects = [
        Subject {
            process: ours.agent(),
            side: ours.side(Token::Withheld),
        },
        Subject {
            process: baseline.kubelet().clone(),
            side: baseline.side(Token::Withheld),
        },
    ];
    let subjects = memory::measure(&cluster, &subjects, pods).await?;
    let report = MemoryReport {
        machine,
        pods,
        subjects,
    };
    report.print();
    println!("{}", report::write(stage.results(), "memory", &report)?.display());
    Ok(())
}

async fn measure_idle(stage: &Stage, beats: u32) -> anyhow::Result<()> {
    anyhow::ensure!(beats > 0, "a window of no keep-alive interval counts nothing");
    let directory = stage.lab();
    eprintln!("starting Outrigger with one device");
    let ours = blocking(move || Ours::start(directory, Programs::default(), On::Fleet)).await?;
    let report = idle::measure(ours, beats).await?;
    report.print();
    println!("{}", report::write(stage.results(), "idle", &report)?.display());
    Ok(())
}

fn measure_step(stage: &Stage, counts: &[usize]) -> anyhow::Result<()> {
    let report = StepReport::measure(counts)?;
    report.print();
    println!("{}", report::write(stage.results(), "step", &report)?.display());
    Ok(())
}

async fn measure_nodes(stage: &Stage, plan: NodesPlan) -> anyhow::Result<()> {
    anyhow::ensure!(
        plan.counts.is_sorted() && plan.counts.first().is_some_and(|first| *first > 0),
        "the numbers of nodes must rise"
    );
    let report = nodes::measure(stage.lab(), &plan).await?;
    report.print();
    println!("{}", report::write(stage.results(), "nodes", &report)?.display());
    Ok(())
}

async fn measure_streams(stage: &Stage, plan: StreamsPlan) -> anyhow::Result<()> {
    let machine = Machine::now()?;
    let (ours, baseline) = start_both(stage, Programs::default(), On::Device).await?;
    let cluster = Cluster::connect(&ours.kubeconfig()).await?;
    let image = ours.lab().registry()?.reference("busybox", "v1");
    let sides = [ours.side(Token::Withheld), baseline.side(Token::Withheld)];
    let sides = streams::measure(&cluster, &sides, &image, &plan).await?;
    let report = StreamsReport { machine, sides };
    report.print();
    println!(
        "{}",
        report::write(stage.results(), "streams", &report)?.display()
    );
    Ok(())
}

async fn raise_both(stage: &Stage, token: Token, on: On) -> anyhow::Result<(Cluster, Vec<Side>)> {
    let (ours, baseline) = start_both(stage, Programs::default(), on).await?;
    let cluster = Cluster::connect(&ours.kubeconfig()).await?;
    Ok((cluster, vec![ours.side(token), baseline.side(token)]))
}

async fn start_both(stage: &Stage, programs: Programs, on: On) -> anyhow::Result<(Ours, Baseline)> {
    let directory = stage.lab();
    eprintln!("starting Outrigger with one device, and a kubelet beside it");
    blocking(move || {
        let ours = Ours::start(directory, programs, on)?;
        let baseline = Baseline::start(ours.lab(), WORKER)?;
        Ok::<_, BenchError>((ours, baseline))
    })
    .await
    .context("not everything came up")
}

async fn raise_kubelet(stage: &Stage, token: Token) -> anyhow::Result<(Cluster, Vec<Side>)> {
    let directory = stage.lab();
    eprintln!("starting a control plane and a kubelet");
    let (kubeconfig, side) = blocking(move || {
        let lab = Lab::start(LabOptions {
            control_plane: Some(ControlPlaneOptions::default()),
            ..LabOptions::in_directory(directory)
        })?;
        let baseline = Baseline::start(&lab, WORKER)?;
        Ok::<_, BenchError>((lab.control_plane()?.kubeconfig(), baseline.side(token)))
    })
    .await?;
    Ok((Cluster::connect(&kubeconfig).await?, vec![side]))
}
