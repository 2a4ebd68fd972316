//! `outrigger-site`: a whole system by hand. `cargo xtask up` and its siblings call it.

mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use lab::{ControlPlaneOptions, Lab, Paths};
use site::options::ClusterChoice;
use site::{DeviceNodes, DeviceSpec, Programs, Site, SiteOptions};

/// A whole Outrigger on this machine: control plane, hub, kubelet and devices. Needs root.
#[derive(Debug, Parser)]
struct Cli {
    /// Directory that holds the site.
    #[arg(long, global = true, default_value = "target/outrigger/site")]
    directory: PathBuf,
    /// File to write the environment to.
    #[arg(long, global = true, default_value = "target/outrigger/env")]
    environment: PathBuf,
    /// Serve the cluster of this kubeconfig instead of starting one.
    #[arg(long, env = "KUBECONFIG", global = true)]
    kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a site and leave it running.
    Up {
        #[arg(long, default_value_t = 3)]
        devices: u32,
        /// How many of them, from the first, are Nodes of their own.
        #[arg(long, default_value_t = 0)]
        device_nodes: u32,
    },
    /// End and remove all of it, also after a crash.
    Down,
    /// Show processes and devices.
    Status {
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Start a process again that was killed, such as `device-1.agent` or `hub`.
    Restart { process: String },
    /// List the test images, or print the reference of one.
    Images {
        #[arg(long)]
        print: Option<String>,
    },
    /// Build what is built once: the control plane.
    Build,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-site: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Up {
            devices,
            device_nodes,
        } => up(cli, devices, device_nodes),
        Command::Down => {
            lab::down(&cli.directory).context("the site is not removed")?;
            match std::fs::remove_file(&cli.environment) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            }
        }
        Command::Status {
            output: Format::Table,
        } => show::table(&Lab::open(&cli.directory)?),
        Command::Status { output: Format::Json } => show::json(&Lab::open(&cli.directory)?),
        Command::Restart { process } => Ok(Lab::open(&cli.directory)?.process(&process).start()?),
        Command::Images { print } => show::images(&Lab::open(&cli.directory)?, print.as_deref()),
        Command::Build => {
            let path = lab::ensure_binaries(&Paths::default())?;
            println!("{}", path.display());
            Ok(())
        }
    }
}

fn up(cli: Cli, devices: u32, device_nodes: u32) -> anyhow::Result<()> {
    let begun = Instant::now();
    // The file that `up` itself wrote must not turn the next `up` into one on a cluster that is gone.
    let own = cli
        .directory
        .canonicalize()
        .unwrap_or_else(|_| cli.directory.clone());
    let control_plane = if let Some(kubeconfig) = cli.kubeconfig.filter(|path| !path.starts_with(&own)) {
        eprintln!("using the cluster of {}", kubeconfig.display());
        ClusterChoice::Existing { kubeconfig }
    } else {
        eprintln!("building the control plane, if it is not cached; the first time takes about five minutes");
        ClusterChoice::Own(ControlPlaneOptions::default())
    };
    let mut devices = DeviceSpec::numbered(devices);
    for device in devices.iter_mut().take(device_nodes as usize) {
        device.tags.insert("node".to_owned(), "true".to_owned());
    }
    let site = Site::start(SiteOptions {
        control_plane,
        devices,
        device_nodes: if device_nodes == 0 {
            DeviceNodes::None
        } else {
            DeviceNodes::Tagged
        },
        kubelet_api: true,
        programs: Programs::default(),
        ..SiteOptions::in_directory(cli.directory)
    })
    .context("the site did not come up; its logs are kept, `cargo xtask down` removes it")?;
    std::fs::write(&cli.environment, site.environment()?)
        .with_context(|| format!("cannot write {}", cli.environment.display()))?;
    eprintln!("ready after {:.1} s", begun.elapsed().as_secs_f64());
    println!("source {}", cli.environment.display());
    Ok(())
}
