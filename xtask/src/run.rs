//! Child processes: typed arguments, never a shell string.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Runs to the end with our own output.
///
/// # Errors
/// It cannot be started, or did not end with success.
pub fn status(root: &Path, program: &str, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program)
        .args(args)
        .current_dir(root)
        .status()
        .with_context(|| format!("cannot start {program}; is it installed?"))?;
    if status.success() {
        Ok(())
    } else {
        bail!("`{program} {}` ended with {status}", args.join(" "))
    }
}

/// Runs to the end and returns what it printed.
///
/// # Errors
/// It cannot be started, did not end with success, or printed no text.
pub fn output(root: &Path, program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {program}; is it installed?"))?;
    if !output.status.success() {
        bail!("`{program} {}` ended with {}", args.join(" "), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} printed no text"))
}

/// Runs named stages in order, shows each as it begins, and prints how long each took, also when one fails.
///
/// # Errors
/// The first stage that fails ends the run.
pub fn stages(list: Vec<(&'static str, Stage<'_>)>) -> anyhow::Result<()> {
    let all = list.len();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let mut outcome = Ok(());
    for (number, (name, stage)) in (1..).zip(list) {
        eprintln!("==> [{number}/{all}] {name}");
        let begun = Instant::now();
        outcome = stage().with_context(|| format!("stage {name:?} failed"));
        times.push((name, begun.elapsed()));
        if outcome.is_err() {
            break;
        }
    }
    eprintln!("==> times per stage");
    for (name, time) in times {
        eprintln!("    {:>7.1} s  {name}", time.as_secs_f64());
    }
    outcome
}

/// One stage of a run.
pub type Stage<'a> = Box<dyn FnOnce() -> anyhow::Result<()> + 'a>;
