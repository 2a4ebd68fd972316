//! The stages of CI, with their times.

use std::path::Path;

use anyhow::bail;
use clap::ValueEnum;

use crate::run::{Stage, stages, status};
use crate::{arrows, fuzz, run, site};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// The pure crates and the simulation.
    Core,
    /// Formatting, arrows, clippy.
    Check,
    /// What CI runs.
    Test,
    /// Everything.
    All,
}

/// The pure crates.
const CORES: &[&str] = &[
    "edge-protocol",
    "edge-agent-core",
    "iot-hub-core",
    "edge-provider-core",
    "edge-provider-translate",
    "virtual-kubelet-core",
];

/// Seeds in CI, and in the long run.
const SEEDS: u64 = 500;
const MANY_SEEDS: u64 = 6_000;

/// For each fuzz target, in the long run.
const FUZZ_SECONDS: u64 = 60;

/// Runs the stages of a scope in order.
///
/// # Errors
/// The first stage that fails, or no root for a scope that ends with whole machines.
pub fn run(root: &Path, scope: Scope) -> anyhow::Result<()> {
    if scope == Scope::All {
        require_root(root)?;
    }
    stages(match scope {
        Scope::Core => core(root),
        Scope::Check => check(root),
        Scope::Test => check(root).into_iter().chain(tests(root, SEEDS)).collect(),
        Scope::All => check(root)
            .into_iter()
            .chain(tests(root, MANY_SEEDS))
            .chain(faults(root))
            .chain([fuzzing(root)])
            .chain(fresh_machine(root))
            .collect(),
    })
}

/// Runs that many seeds from the first on.
pub fn sim(root: &Path, first: u64, seeds: u64) -> anyhow::Result<()> {
    simulation(
        root,
        &["--from", &first.to_string(), "--seeds", &seeds.to_string()],
    )
}

/// Replays one seed and shows its trace.
pub fn replay(root: &Path, seed: u64) -> anyhow::Result<()> {
    simulation(root, &["--seed", &seed.to_string()])
}

fn simulation(root: &Path, args: &[&str]) -> anyhow::Result<()> {
    let run = [
        "run",
        "--quiet",
        "--profile",
        "sim",
        "--package",
        "simulation",
        "--",
    ];
    status(root, "cargo", &[&run, args].concat())
}

fn core(root: &Path) -> Vec<(&'static str, Stage<'_>)> {
    let mut args = vec!["nextest", "run", "--package", "simulation"];
    args.extend(CORES.iter().flat_map(|name| ["--package", name]));
    vec![(
        "tests of the cores",
        Box::new(move || status(root, "cargo", &args)),
    )]
}

fn check(root: &Path) -> Vec<(&'static str, Stage<'_>)> {
    vec![
        (
            "formatting",
            Box::new(move || status(root, "cargo", &["fmt", "--all", "--check"])),
        ),
        ("arrows", Box::new(move || arrows::check(root))),
        (
            "licences, bans, sources",
            Box::new(move || status(root, "cargo", &["deny", "check", "licenses", "bans", "sources"])),
        ),
        (
            "clippy",
            Box::new(move || {
                status(
                    root,
                    "cargo",
                    &[
                        "clippy",
                        "--workspace",
                        "--all-targets",
                        "--locked",
                        "--",
                        "-D",
                        "warnings",
                    ],
                )
            }),
        ),
    ]
}

fn tests(root: &Path, seeds: u64) -> Vec<(&'static str, Stage<'_>)> {
    vec![
        ("control plane and test images", Box::new(move || prepare(root))),
        (
            "build of all programs and tests",
            Box::new(move || {
                // The tests of whole sites start the programs, which cargo builds only for tests of their own crate.
                status(root, "cargo", &["build", "--workspace", "--bins", "--locked"])?;
                status(
                    root,
                    "cargo",
                    &["nextest", "run", "--workspace", "--locked", "--no-run"],
                )
            }),
        ),
        (
            "tests",
            Box::new(move || {
                status(
                    root,
                    "cargo",
                    &["nextest", "run", "--workspace", "--locked", "--profile", "ci"],
                )
            }),
        ),
        (
            "comparison with a real kubelet",
            Box::new(move || site::conformance(root, &[])),
        ),
        (
            "virtual-kubelet's own end-to-end suite",
            Box::new(move || site::conformance(root, &["virtual-kubelet"])),
        ),
        ("simulation", Box::new(move || sim(root, 0, seeds))),
    ]
}

/// The comparison judged by faults that it must show.
fn faults(root: &Path) -> Vec<(&'static str, Stage<'_>)> {
    vec![
        (
            "faults that the comparison must show",
            Box::new(move || site::conformance(root, &["--faults"])),
        ),
        (
            "paths that the comparison must observe",
            Box::new(move || site::conformance(root, &["--forget"])),
        ),
    ]
}

/// Longer than in a test's few hundred cases.
fn fuzzing(root: &Path) -> (&'static str, Stage<'_>) {
    (
        "fuzz targets",
        Box::new(move || fuzz::run(root, None, FUZZ_SECONDS)),
    )
}

/// The README's two commands, each on a machine that has nothing but Rust and Go.
fn fresh_machine(root: &Path) -> Vec<(&'static str, Stage<'_>)> {
    let script = root.join("scripts/fresh-machine");
    let prove = move |target| status(root, &script.to_string_lossy(), &[target]);
    let again = prove.clone();
    vec![
        ("a fresh machine: make demo", Box::new(move || prove("demo"))),
        ("a fresh machine: make test", Box::new(move || again("test"))),
    ]
}

/// Before an hour of stages rather than after it.
fn require_root(root: &Path) -> anyhow::Result<()> {
    if run::output(root, "id", &["-u"])?.trim() != "0" {
        bail!(
            "the last stages make a fresh machine, which takes root: `sudo make test-all`; `make test` is all but these"
        );
    }
    Ok(())
}

/// What the tests on a real cluster start: built once, cached under `target/outrigger/cache`.
fn prepare(root: &Path) -> anyhow::Result<()> {
    site::build_site(root)?;
    let program = root.join("target/debug/outrigger-site");
    run::status(root, &program.to_string_lossy(), &["build"])
}
