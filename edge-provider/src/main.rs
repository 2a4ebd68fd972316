//! `outrigger-kubelet`: wires the command line to the library.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    match edge_provider::cli::run(edge_provider::cli::Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-kubelet: {error:#}");
            ExitCode::FAILURE
        }
    }
}
