//! `outrigger-tap`: one tap before one port of a lab's hub.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use fault_proxy::tap::{Tap, TapOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Keeps what passes between a hub and one who speaks to it, in clear. For labs: it needs the keys of both.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The hub's port.
    #[arg(long)]
    upstream: SocketAddr,
    /// What the hub's certificate says.
    #[arg(long)]
    name: String,
    /// The directory of the hub's authority.
    #[arg(long)]
    ca_dir: PathBuf,
    /// The private key of the client, should it show a certificate (PEM).
    #[arg(long)]
    client_key: Option<PathBuf>,
    /// Gets what passes, and `address` when the tap listens.
    #[arg(long)]
    directory: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let Cli {
        listen,
        upstream,
        name,
        ca_dir,
        client_key,
        directory,
    } = Cli::parse();
    let tap = Tap::bind(TapOptions {
        listen,
        upstream,
        name,
        ca_dir,
        client_key,
        directory: directory.clone(),
    })
    .await?;
    // By rename, so that nobody reads a half.
    let (path, part) = (directory.join("address"), directory.join("address.part"));
    std::fs::write(&part, tap.address().to_string())
        .and_then(|()| std::fs::rename(&part, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let stop = CancellationToken::new();
    let mut terminated = signal(SignalKind::terminate())?;
    let running = tap.run(stop.clone());
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => return Ok(()),
        _ = terminated.recv() => stop.cancel(),
    }
    running.await;
    Ok(())
}
