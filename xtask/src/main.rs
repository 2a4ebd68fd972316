//! `cargo xtask`: everything a developer or CI does with this repository, by typed subcommands.

mod arrows;
mod ci;
mod fuzz;
mod run;
mod site;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  Leave a working system running, then use it:
    cargo xtask up --devices 3
    source target/outrigger/env && kubectl get nodes

  Stop and remove all of it, also after a crash:
    cargo xtask down

  Replay one failing seed of the simulation:
    cargo xtask sim --seed 1234";

/// Builds, checks and runs Outrigger.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start control plane, hub, kubelet and devices, and leave them running. State lives under target/outrigger/.
    Up {
        #[arg(long, default_value_t = 3)]
        devices: u32,
        /// Start the release builds.
        #[arg(long)]
        release: bool,
    },
    /// Stop and remove everything that `up` started.
    Down,
    /// Show what runs.
    Status {
        #[arg(short, long, value_enum, default_value_t = site::Output::Table)]
        output: site::Output,
    },
    /// Start a process again that was killed, such as `device-1.agent` or `hub`; `status` lists them.
    Restart { process: String },
    /// Build the test images and serve them to the devices.
    Images {
        /// Print the reference under which devices can pull this image.
        #[arg(long, value_name = "NAME")]
        print: Option<String>,
    },
    /// Measure, beside something to compare with.
    Bench {
        #[command(subcommand)]
        bench: site::Bench,
    },
    /// Play the same pods on a real kubelet and on a device node, and show what differs.
    Conformance(site::Handed),
    /// Check that crates depend on what they may, and on nothing else.
    Arrows,
    /// Run the simulation over many seeds, or replay one.
    Sim {
        #[arg(long, default_value_t = 500)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Replay this one and show its trace.
        #[arg(long, conflicts_with_all = ["seeds", "from"])]
        seed: Option<u64>,
    },
    /// Search what reads bytes of peers for inputs that make it panic or hang.
    Fuzz {
        /// All, one after the other, if none is named.
        #[arg(value_enum)]
        target: Option<fuzz::Target>,
        /// For each target.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// What CI runs.
    Ci {
        #[arg(value_enum, default_value_t = ci::Scope::Test)]
        scope: ci::Scope,
    },
}

fn main() -> ExitCode {
    let root = root();
    let outcome = match Cli::parse().command {
        Command::Up { devices, release } => site::up(&root, devices, release),
        Command::Down => site::down(&root),
        Command::Status { output } => site::status(&root, output),
        Command::Restart { process } => site::restart(&root, &process),
        Command::Images { print } => site::images(&root, print.as_deref()),
        Command::Bench { bench } => site::bench(&root, &bench),
        Command::Conformance(handed) => site::conformance(&root, &handed.all().collect::<Vec<_>>()),
        Command::Arrows => arrows::check(&root),
        Command::Sim { seed: Some(seed), .. } => ci::replay(&root, seed),
        Command::Sim {
            seeds,
            from,
            seed: None,
        } => ci::sim(&root, from, seeds),
        Command::Fuzz { target, seconds } => fuzz::run(&root, target, seconds),
        Command::Ci { scope } => ci::run(&root, scope),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root: the parent of this crate.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a directory of the workspace")
        .to_owned()
}
