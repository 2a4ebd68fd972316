//! Compiles the CRI subset to client stubs, without protoc.

use std::error::Error;

const PROTO: &str = "proto/v1.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let files = protox::compile([PROTO], ["proto"])?;
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
