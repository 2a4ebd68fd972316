//! Fuzz targets, by libFuzzer on stable Rust: coverage without an address sanitizer, which code without `unsafe` does not need.

use std::path::Path;

use clap::ValueEnum;

use crate::run::{output, status};

/// What is fuzzed of edge-streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// A SPDY connection of either role.
    Spdy,
    /// A WebSocket and all that it carries.
    Websocket,
    /// A command's pipe of either role.
    Pipe,
}

const ALL: [Target; 3] = [Target::Spdy, Target::Websocket, Target::Pipe];
const CRATE: &str = "edge-protocol/streams/fuzz";

/// What `cargo fuzz` gives rustc, less the sanitizer.
const COVERAGE: &str = "build.rustflags=['-Cpasses=sancov-module', '-Cllvm-args=-sanitizer-coverage-level=4', \
    '-Cllvm-args=-sanitizer-coverage-inline-8bit-counters', '-Cllvm-args=-sanitizer-coverage-pc-table', \
    '-Cllvm-args=-sanitizer-coverage-trace-compares', '-Ccodegen-units=1', '--cfg=fuzzing']";

/// Searches each target, or one, for that many seconds. What it learns is kept under `target/fuzz/corpus`, an input that fails under
/// `target/fuzz/`.
///
/// # Errors
/// The first target that panics, hangs or cannot be built.
pub fn run(root: &Path, target: Option<Target>, seconds: u64) -> anyhow::Result<()> {
    let host = output(root, "rustc", &["--print", "host-tuple"])?;
    let targets = target.as_ref().map_or(ALL.as_slice(), std::slice::from_ref);
    targets
        .iter()
        .try_for_each(|target| search(root, *target, host.trim(), seconds))
}

fn search(root: &Path, target: Target, host: &str, seconds: u64) -> anyhow::Result<()> {
    let value = target.to_possible_value().expect("no target is skipped");
    let name = value.get_name();
    let learned = format!("target/fuzz/corpus/{name}");
    std::fs::create_dir_all(root.join(&learned))?;
    let manifest = format!("{CRATE}/Cargo.toml");
    let known = format!("{CRATE}/corpus/{name}");
    let time = format!("-max_total_time={seconds}");
    let failed = format!("-artifact_prefix=target/fuzz/{name}-");
    // Build scripts are built for the host without coverage because a target is named.
    let build = [
        "run",
        "--release",
        "--locked",
        "--config",
        COVERAGE,
        "--target",
        host,
    ];
    let which = [
        "--target-dir",
        "target/fuzz",
        "--manifest-path",
        &manifest,
        "--bin",
        name,
    ];
    let limits = [
        "--",
        &time,
        &failed,
        "-max_len=2048",
        "-timeout=20",
        "-rss_limit_mb=1024",
    ];
    let corpus = ["-print_final_stats=1", &learned, &known];
    status(root, "cargo", &[&build[..], &which, &limits, &corpus].concat())
}
