//! The simulation is judged by what it finds: each patch in `plants/` breaks one rule of a core, and some seed must show it.
//!
//! The crates the simulation is made of are copied into a workspace of their own under `target/`, with a target directory that stays, so
//! that only what a patch touches is built again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Seeds in which a fault must show: as many as CI runs.
const SEEDS: &str = "500";
/// What the simulation is made of.
const CRATES: [&str; 5] = [
    "edge-protocol",
    "edge-agent/core",
    "iot-hub/core",
    "edge-provider/core",
    "tests/simulation",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&from, &to);
        } else {
            copy_file(&from, &to);
        }
    }
}

/// An equal file stays as it is, with its time, or cargo would build it again.
fn copy_file(from: &Path, to: &Path) {
    let body = fs::read(from).unwrap();
    if fs::read(to).ok().as_deref() != Some(&body) {
        fs::write(to, body).unwrap();
    }
}

/// The workspace's manifest with only these members, which is all of it that differs.
fn manifest(whole: &str) -> String {
    let begin = whole.find("members = [").expect("a list of members");
    let end = begin + whole[begin..].find(']').expect("its end") + 1;
    let members: Vec<String> = CRATES.iter().map(|name| format!("{name:?}")).collect();
    let lines = whole[..begin].to_owned() + "members = [" + &members.join(", ") + "]" + &whole[end..];
    // Paths of crates that are not here must not be named.
    let ours = |line: &&str| match line.split_once("path = \"") {
        Some((_, rest)) => CRATES.iter().any(|name| rest.starts_with(&format!("{name}\""))),
        None => true,
    };
    lines
        .lines()
        .filter(ours)
        .fold(String::new(), |text, line| text + line + "\n")
}

/// A copy of the sources, without any patch.
fn lay_out(workspace: &Path) {
    let root = root();
    fs::create_dir_all(workspace).unwrap();
    let whole = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    fs::write(workspace.join("Cargo.toml"), manifest(&whole)).unwrap();
    copy_file(&root.join("Cargo.lock"), &workspace.join("Cargo.lock"));
    for name in CRATES {
        let (from, to) = (root.join(name), workspace.join(name));
        copy_dir(&from.join("src"), &to.join("src"));
        copy_file(&from.join("Cargo.toml"), &to.join("Cargo.toml"));
    }
}

fn apply(workspace: &Path, patch: &Path) {
    let output = Command::new("git")
        .args(["apply", "--unsafe-paths", "--directory"])
        .arg(workspace)
        .arg(patch)
        // Outside of any repository `git apply` is a plain patch.
        .env("GIT_CEILING_DIRECTORIES", "/")
        .current_dir("/")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{} no longer applies: {}",
        patch.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The seeds that failed, in the simulation's words.
fn simulate(workspace: &Path) -> Result<(), String> {
    let cargo = |args: &[&str]| {
        Command::new(env!("CARGO"))
            .args(args)
            .current_dir(workspace)
            .env("CARGO_TARGET_DIR", workspace.join("target"))
            // Building costs more than running here.
            .env("CARGO_INCREMENTAL", "1")
            .env("CARGO_PROFILE_SIM_OPT_LEVEL", "1")
            // A plant has to break a law: that, and no assertion of the core's, is what shows it.
            .env("CARGO_PROFILE_SIM_DEBUG_ASSERTIONS", "false")
            .output()
            .unwrap()
    };
    let built = cargo(&["build", "--offline", "--profile", "sim", "-p", "simulation"]);
    let errors = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(built.status.success(), "a plant must compile: {errors}");
    let run = Command::new(workspace.join("target/sim/simulation"))
        .args(["--seeds", SEEDS])
        .output()
        .unwrap();
    if run.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&run.stdout).into_owned())
    }
}

/// One test, for the plants share one workspace and one target directory.
#[test]
fn planted_faults_are_found() {
    let workspace = root().join("target/plants");
    let mut patches: Vec<PathBuf> = fs::read_dir(root().join("tests/simulation/plants"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    patches.sort();
    assert!(patches.len() >= 5, "{patches:?}");
    let mut missed = Vec::new();
    for patch in &patches {
        lay_out(&workspace);
        apply(&workspace, patch);
        let found = simulate(&workspace);
        match found {
            Ok(()) => missed.push(patch.file_name().unwrap().to_owned()),
            Err(words) => println!(
                "{}: {}",
                patch.file_name().unwrap().display(),
                words.lines().next().unwrap_or_default()
            ),
        }
    }
    lay_out(&workspace);
    assert!(missed.is_empty(), "no seed shows {missed:?}");
}
