//! `outrigger-kubelet`: wires the command line to the library.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    edge_provider::cli::run(edge_provider::cli::Cli::parse()).await
}
