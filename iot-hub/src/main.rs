//! `outrigger-hub`: wires the command line to the library.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    iot_hub::cli::run(iot_hub::cli::Cli::parse()).await
}
