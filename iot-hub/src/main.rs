//! `outrigger-hub`: wires the command line to the library.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    match iot_hub::cli::run(iot_hub::cli::Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}
