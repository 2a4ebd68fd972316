//! The site is a program of its own (`tests/site`): this only builds what it starts, and starts it.

use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};

use crate::run;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

impl Output {
    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Apply → Ready of single pods and bursts, beside a real kubelet on an equal runtime.
    Apply(Handed),
    /// Memory of one release agent alone, idle and with pods.
    Memory(Handed),
    /// Bytes of an idle device per day.
    Idle(Handed),
    /// Time of one step of the device's machine alone.
    Step(Handed),
    /// CPU, memory and API calls of one process with many device nodes.
    Nodes(Handed),
    /// exec, logs and port-forward, beside a real kubelet.
    Streams(Handed),
}

/// Handed on as they are.
#[derive(Debug, Args)]
pub struct Handed {
    /// Such as `--singles 20 --bursts 20 --repeat 1` for a measurement, or the beginning of a case; `-- --help` lists them.
    #[arg(allow_hyphen_values = true, trailing_var_arg = true, value_name = "OPTIONS")]
    arguments: Vec<String>,
}

impl Handed {
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().map(String::as_str)
    }
}

/// The programs of a working system.
const PROGRAMS: &[&str] = &[
    "outrigger",
    "outrigger-agent",
    "outrigger-hub",
    "outrigger-kubelet",
    "outrigger-site",
];

pub fn up(root: &Path, devices: u32, release: bool) -> anyhow::Result<()> {
    build(root, release, PROGRAMS)?;
    let devices = devices.to_string();
    site(root, release, &["up", "--devices", &devices])
}

pub fn down(root: &Path) -> anyhow::Result<()> {
    build_site(root)?;
    site(root, false, &["down"])
}

pub fn status(root: &Path, output: Output) -> anyhow::Result<()> {
    build_site(root)?;
    site(root, false, &["status", "--output", output.name()])
}

pub fn restart(root: &Path, process: &str) -> anyhow::Result<()> {
    build_site(root)?;
    site(root, false, &["restart", process])
}

pub fn images(root: &Path, print: Option<&str>) -> anyhow::Result<()> {
    build_site(root)?;
    let mut args = vec!["images"];
    args.extend(print.iter().flat_map(|name| ["--print", name]));
    site(root, false, &args)
}

pub fn bench(root: &Path, bench: &Bench) -> anyhow::Result<()> {
    build(root, true, &[PROGRAMS, &["outrigger-bench"]].concat())?;
    let (name, handed) = match bench {
        Bench::Apply(handed) => ("apply", handed),
        Bench::Memory(handed) => {
            // Memory is judged on the binary that devices get.
            run::status(
                root,
                "cargo",
                &["build", "--profile", "edge", "--package", "edge-agent"],
            )?;
            ("memory", handed)
        }
        Bench::Idle(handed) => ("idle", handed),
        Bench::Step(handed) => ("step", handed),
        Bench::Nodes(handed) => ("nodes", handed),
        Bench::Streams(handed) => ("streams", handed),
    };
    let program = root.join("target/release/outrigger-bench");
    let args: Vec<&str> = std::iter::once(name).chain(handed.all()).collect();
    run::status(root, &program.to_string_lossy(), &args)
}

pub fn conformance(root: &Path, args: &[&str]) -> anyhow::Result<()> {
    build(root, false, &[PROGRAMS, &["outrigger-conformance"]].concat())?;
    let program = root.join("target/debug/outrigger-conformance");
    run::status(root, &program.to_string_lossy(), args)
}

/// With all of the workspace selected: fewer packages would need fewer features of their dependencies, and build these again.
fn build(root: &Path, release: bool, programs: &[&str]) -> anyhow::Result<()> {
    let mut args = vec!["build", "--workspace"];
    args.extend(release.then_some("--release"));
    args.extend(programs.iter().flat_map(|program| ["--bin", program]));
    run::status(root, "cargo", &args)
}

/// The site alone, for what needs none of the programs that it starts.
pub fn build_site(root: &Path) -> anyhow::Result<()> {
    build(root, false, &["outrigger-site"])
}

fn site(root: &Path, release: bool, args: &[&str]) -> anyhow::Result<()> {
    let profile = if release { "release" } else { "debug" };
    let program = root.join("target").join(profile).join("outrigger-site");
    run::status(root, &program.to_string_lossy(), args)
}
