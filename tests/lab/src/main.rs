//! `outrigger-lab`: the lab by hand.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use lab::{ControlPlaneOptions, DeviceOptions, Lab, LabOptions, Times};

/// A Kubernetes control plane, a registry and devices with a containerd each, on this machine. Needs root.
#[derive(Parser)]
#[command(version)]
struct Command {
    /// Directory that holds the lab.
    #[arg(long, global = true, default_value = "target/outrigger/lab")]
    directory: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start a lab and leave it running.
    Up(Up),
    /// List its processes and devices.
    Status,
    /// End and remove all of it; also after a crash.
    Down,
}

#[derive(Args)]
struct Up {
    /// Number of devices, called device-1 and so on.
    #[arg(long, default_value_t = 3)]
    devices: usize,
    /// How soon the cluster reacts to a silent node.
    #[arg(long, value_enum, default_value_t = TimesArgument::Normal)]
    times: TimesArgument,
}

#[derive(Clone, Copy, ValueEnum)]
enum TimesArgument {
    Normal,
    Short,
}

fn main() -> anyhow::Result<()> {
    let command = Command::parse();
    match command.action {
        Action::Up(up) => start(&command.directory, &up),
        Action::Status => status(&command.directory),
        Action::Down => lab::down(&command.directory).context("the lab is not removed"),
    }
}

fn start(directory: &Path, up: &Up) -> anyhow::Result<()> {
    let began = Instant::now();
    let times = match up.times {
        TimesArgument::Normal => Times::Normal,
        TimesArgument::Short => Times::Short,
    };
    let options = LabOptions {
        control_plane: Some(ControlPlaneOptions {
            times,
            ..ControlPlaneOptions::default()
        }),
        devices: DeviceOptions::numbered(up.devices),
        ..LabOptions::in_directory(directory)
    };
    let lab = Lab::start(options)?;
    println!("ready after {:.1} s", began.elapsed().as_secs_f32());
    println!(
        "export KUBECONFIG={}",
        lab.control_plane()?.kubeconfig().display()
    );
    Ok(())
}

fn status(directory: &Path) -> anyhow::Result<()> {
    let lab = Lab::open(directory)?;
    for process in lab.processes()? {
        let pid = process.pid()?.map_or("-".to_owned(), |pid| pid.to_string());
        println!("{:<40} {pid:>8} {}", process.name(), process.log()?.display());
    }
    for device in lab.devices()? {
        println!(
            "{:<40} {:>15} {}",
            device.name(),
            device.address(),
            device.containerd_endpoint()
        );
    }
    Ok(())
}
