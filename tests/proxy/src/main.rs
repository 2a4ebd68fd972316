//! `outrigger-fault-proxy`: one proxy before one server, for tests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use fault_proxy::{Bound, Dialect, ProxyOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const EXAMPLES: &str = "Example:
  outrigger-fault-proxy --upstream https://10.0.0.1:6443 --upstream-ca ca.crt --dialect kubernetes --directory target/proxy";

/// Stands before a real server and lies about it, as told.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where lies are told; loopback only.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// The real server, `https://host:port`.
    #[arg(long)]
    upstream: String,
    /// The certificates that the real server is verified against (PEM).
    #[arg(long)]
    upstream_ca: PathBuf,
    #[arg(long, value_enum)]
    dialect: DialectChoice,
    /// Gets `ca.pem`, which clients must trust, and then `addresses.json`: when that file is there, the proxy listens.
    #[arg(long)]
    directory: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DialectChoice {
    Kubernetes,
    Hub,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let Cli {
        listen,
        control,
        upstream,
        upstream_ca,
        dialect,
        directory,
    } = Cli::parse();
    let ca = std::fs::read(&upstream_ca).with_context(|| format!("cannot read {}", upstream_ca.display()))?;
    let dialect = match dialect {
        DialectChoice::Kubernetes => Dialect::Kubernetes,
        DialectChoice::Hub => Dialect::Hub,
    };
    let options = ProxyOptions {
        listen,
        control,
        upstream,
        upstream_ca: ca,
        dialect,
    };
    let bound = Bound::new(options).await?;
    announce(&directory, &bound)?;
    let stop = CancellationToken::new();
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let running = bound.run(stop.clone());
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return Ok(ended?),
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    stop.cancel();
    tokio::select! {
        ended = &mut running => Ok(ended?),
        _ = terminated.recv() => std::process::exit(143),
        _ = interrupted.recv() => std::process::exit(130),
    }
}

fn announce(directory: &Path, bound: &Bound) -> anyhow::Result<()> {
    let write = |name: &str, text: &str| {
        // By rename, so that nobody reads a half.
        let (path, part) = (directory.join(name), directory.join(format!("{name}.part")));
        std::fs::write(&part, text)
            .and_then(|()| std::fs::rename(&part, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    };
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    write("ca.pem", bound.ca_pem())?;
    let addresses = bound.addresses();
    write("addresses.json", &serde_json::to_string(&addresses)?)?;
    tracing::info!(proxy = %addresses.proxy, control = %addresses.control, "listening");
    Ok(())
}
