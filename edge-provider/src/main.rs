//! `outrigger-kubelet`: wires the command line to the library.

use std::process::ExitCode;

use clap::Parser as _;
use edge_provider::RunError;

/// `EX_TEMPFAIL` of sysexits.h: nothing is wrong with this process or its configuration, start it again.
const LEASE_LOST: u8 = 75;

#[tokio::main]
async fn main() -> ExitCode {
    match edge_provider::cli::run(edge_provider::cli::Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-kubelet: {error:#}");
            match error.downcast_ref::<RunError>() {
                Some(error) if error.is_lease_lost() => ExitCode::from(LEASE_LOST),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
