//! Compiles the CRI subset, and gRPC's health protocol, to client stubs, without protoc.

use std::error::Error;

const PROTOS: [&str; 2] = ["proto/v1.proto", "proto/health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo:rerun-if-changed={proto}");
    }
    let files = protox::compile(PROTOS, ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .btree_map(".")
        // Both carry secrets: src/redact.rs has their Debug.
        .skip_debug(["runtime.v1.AuthConfig", "runtime.v1.KeyValue"])
        .disable_comments(["."])
        .compile_fds(files)?;
    Ok(())
}
