//! The site is a program of its own (`tests/site`): this only builds what it starts, and starts it.

use std::path::Path;

use clap::{Subcommand, ValueEnum};

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
    Apply {
        #[arg(long, default_value_t = 200)]
        singles: u32,
    },
    /// Memory of one release agent alone, idle and with pods.
    Memory,
    /// Bytes of an idle device per day.
    Idle,
}

/// The programs of a working system.
const PROGRAMS: &[&str] = &[
    "edge-provider",
    "iot-hub",
    "edge-agent",
    "outrigger-cli",
    "lab",
    "test-images",
];

pub fn up(root: &Path, devices: u32, release: bool) -> anyhow::Result<()> {
    build(root, release)?;
    let devices = devices.to_string();
    site(root, release, &["up", "--devices", &devices])
}

pub fn down(root: &Path) -> anyhow::Result<()> {
    run::status(root, "cargo", &["build", "--quiet", "--package", "site"])?;
    site(root, false, &["down"])
}

pub fn status(root: &Path, output: Output) -> anyhow::Result<()> {
    run::status(root, "cargo", &["build", "--quiet", "--package", "site"])?;
    site(root, false, &["status", "--output", output.name()])
}

pub fn restart(root: &Path, process: &str) -> anyhow::Result<()> {
    run::status(root, "cargo", &["build", "--quiet", "--package", "site"])?;
    site(root, false, &["restart", process])
}

pub fn images(root: &Path, print: Option<&str>) -> anyhow::Result<()> {
    run::status(
        root,
        "cargo",
        &["build", "--quiet", "--package", "lab", "--package", "test-images"],
    )?;
    let mut args = vec!["images"];
    args.extend(print.iter().flat_map(|name| ["--print", name]));
    site(root, false, &args)
}

pub fn bench(root: &Path, bench: &Bench) -> anyhow::Result<()> {
    build(root, true)?;
    run::status(root, "cargo", &["build", "--release", "--package", "bench"])?;
    let singles;
    let args: &[&str] = match bench {
        Bench::Apply { singles: count } => {
            singles = count.to_string();
            &["apply", "--singles", &singles]
        }
        Bench::Memory => {
            // Memory is judged on the binary that devices get.
            run::status(
                root,
                "cargo",
                &["build", "--profile", "edge", "--package", "edge-agent"],
            )?;
            &["memory"]
        }
        Bench::Idle => &["idle"],
    };
    let program = root.join("target/release/outrigger-bench");
    run::status(root, &program.to_string_lossy(), args)
}

fn build(root: &Path, release: bool) -> anyhow::Result<()> {
    let mut args = vec!["build"];
    args.extend(release.then_some("--release"));
    args.extend(PROGRAMS.iter().flat_map(|program| ["--package", program]));
    run::status(root, "cargo", &args)
}

fn site(root: &Path, release: bool, args: &[&str]) -> anyhow::Result<()> {
    let profile = if release { "release" } else { "debug" };
    let program = root.join("target").join(profile).join("outrigger-site");
    run::status(root, &program.to_string_lossy(), args)
}
