//! `outrigger-conformance`: plays the cases, prints what differs, and leaves nothing running.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use bench::stage::Stage;
use clap::{Parser, Subcommand};
use conformance::case::Case;
use conformance::cluster::Cluster;
use conformance::coverage;
use conformance::faults::{self, Tree, forgetting};
use conformance::run::{self, Arena, Outcome};
use conformance::stage::{Parts, Upstream};
use conformance::{ConformanceError, difference, table, upstream};
use site::Programs;

/// The same pods on a real kubelet and on a device node, and what can be seen of both compared. Needs root.
#[derive(Debug, Parser)]
#[command(
    name = "outrigger-conformance",
    args_conflicts_with_subcommands = true,
    subcommand_precedence_over_arg = true
)]
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
    #[arg(long, conflicts_with = "faults")]
    kubelet_only: bool,
    /// Break a rule of the agent or the translation at a time, and see whether the suite shows it; the faults whose names begin with one
    /// of CASES.
    #[arg(long)]
    faults: bool,
    /// Forget a path of a pod at a time that devices honour, and see whether a case that sets it shows it; the paths that begin with one of
    /// CASES.
    #[arg(long, conflicts_with_all = ["faults", "kubelet_only"])]
    forget: bool,
    #[command(subcommand)]
    suite: Option<Suite>,
}

#[derive(Debug, Subcommand)]
enum Suite {
    /// Run the end-to-end suite that virtual-kubelet gives its providers against a device node, and print its lines.
    VirtualKubelet,
}

/// How many cases of a run may differ in one of their plays.
const CHANCES: usize = 1;

fn main() -> ExitCode {
    match perform(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(cli: &Cli) -> anyhow::Result<()> {
    let home = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    if let Some(Suite::VirtualKubelet) = cli.suite {
        return run_upstream(cli, &home);
    }
    let cases = Case::all(&home.join("cases"))?;
    if cli.faults {
        return break_rules(cli, &home, &cases);
    }
    if cli.forget {
        return forget_paths(cli, &home, cases);
    }
    let chosen = chosen(&cli.cases, cases, |case| &case.name)?;
    let listed = difference::listed(&home.join("differences.yaml"))?;
    let stage = Stage::set(&cli.directory)?;
    stage.perform(async {
        let arena = arena(&stage, cli.kubelet_only, Programs::default(), listed).await?;
        let verdicts = run::all(&arena, chosen, cli.at_once).await;
        table::print(&verdicts);
        let all_equal = verdicts.iter().all(|verdict| verdict.outcome.is_equal());
        // As an error: the logs are kept then.
        anyhow::ensure!(all_equal, "not all cases are equal");
        let rare = verdicts
            .iter()
            .filter(|verdict| verdict.outcome != Outcome::Equal)
            .count();
        anyhow::ensure!(
            rare <= CHANCES,
            "{rare} cases differed in one play each: that is more than chance, of which {CHANCES} is allowed"
        );
        Ok(())
    })
}

fn run_upstream(cli: &Cli, home: &Path) -> anyhow::Result<()> {
    let stage = Stage::set(&cli.directory)?;
    stage.perform(async {
        let directory = stage.lab();
        let parts = tokio::task::spawn_blocking(move || Upstream::start(&directory)).await??;
        upstream::run(home, &parts).await
    })
}

/// Those whose names begin with one of the texts; all when there is none.
fn chosen<T>(wanted: &[String], mut all: Vec<T>, name: impl Fn(&T) -> &String) -> anyhow::Result<Vec<T>> {
    for wanted in wanted {
        if !all.iter().any(|each| name(each).starts_with(wanted)) {
            return Err(ConformanceError::NoCase(wanted.clone()).into());
        }
    }
    all.retain(|each| wanted.is_empty() || wanted.iter().any(|wanted| name(each).starts_with(wanted)));
    Ok(all)
}

fn break_rules(cli: &Cli, home: &Path, cases: &[Case]) -> anyhow::Result<()> {
    let faults = faults::all(&home.join("faults.yaml"), cases)?;
    let root = home.join("../..").canonicalize()?;
    eprintln!("building with {} faults", faults.len());
    let tree = Tree::lay_out(&root, &root.join("target/faults"), &faults)?;
    let programs = Programs::in_directory(tree.build(Programs::default().directory())?);
    let faults = chosen(&cli.cases, faults, |fault| &fault.breaks)?;
    let listed = difference::listed(&home.join("differences.yaml"))?;
    let stage = Stage::set(&cli.directory)?;
    stage.perform(async {
        let arena = arena(&stage, false, programs, listed).await?;
        let judged = faults::judge(&arena, &tree, cases, faults).await?;
        table::print_faults(&judged);
        let all_shown = judged.iter().all(|judged| judged.shown.is_ok());
        anyhow::ensure!(all_shown, "not all faults are shown");
        Ok(())
    })
}

fn forget_paths(cli: &Cli, home: &Path, cases: Vec<Case>) -> anyhow::Result<()> {
    let listed: BTreeSet<String> = forgetting::listed(&home.join("unobserved.yaml"))?
        .into_iter()
        .flat_map(|entry| entry.paths)
        .collect();
    let mut paths: Vec<String> = coverage::honoured().map(str::to_owned).collect();
    paths.sort();
    let paths = chosen(&cli.cases, paths, |path| path)?;
    let root = home.join("../..").canonicalize()?;
    eprintln!("building what forgets {} paths", paths.len());
    let tree = Tree::lay_out(&root, &root.join("target/faults"), &forgetting::faults())?;
    let programs = Programs::in_directory(tree.build(Programs::default().directory())?);
    let differences = difference::listed(&home.join("differences.yaml"))?;
    let stage = Stage::set(&cli.directory)?;
    stage.perform(async {
        let arena = arena(&stage, false, programs, differences).await?;
        let judged = forgetting::judge(&arena, tree, cases, paths, cli.at_once).await?;
        table::print_observed(&judged);
        let wrong: Vec<&str> = judged
            .iter()
            .filter(|observed| observed.by.is_ok() == listed.contains(&observed.path))
            .map(|observed| observed.path.as_str())
            .collect();
        anyhow::ensure!(wrong.is_empty(), "unobserved.yaml is wrong about {wrong:#?}");
        Ok(())
    })
}

async fn arena(
    stage: &Stage,
    kubelet_only: bool,
    programs: Programs,
    listed: Vec<difference::Listed>,
) -> anyhow::Result<Arena> {
    let directory = stage.lab();
    let parts = tokio::task::spawn_blocking(move || {
        if kubelet_only {
            Parts::kubelet_alone(&directory)
        } else {
            Parts::both(&directory, programs)
        }
    });
    let parts = parts.await??;
    Ok(Arena {
        cluster: Cluster::connect(&parts.kubeconfig).await.context("the cluster")?,
        kubelet: parts.kubelet,
        device: parts.device,
        listed: Arc::new(listed),
    })
}
