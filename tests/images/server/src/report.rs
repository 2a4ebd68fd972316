//! What a container sees of its environment and files, in an order that does not change.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Prints the environment, then each path; a path that cannot be read is an error after the others were printed.
pub fn print(paths: &[String]) -> ExitCode {
    print!("{}", environment());
    let mut failed = ExitCode::SUCCESS;
    for path in paths {
        let mut text = String::new();
        match describe(Path::new(path), &mut text) {
            Ok(()) => print!("{text}"),
            Err(error) => {
                eprintln!("{path}: {error}");
                failed = ExitCode::FAILURE;
            }
        }
    }
    failed
}

/// One `NAME=value` a line, sorted.
pub fn environment() -> String {
    let mut lines: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}\n", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    lines.sort();
    lines.concat()
}

/// Each file as `== path` and its content; directories in name order.
pub fn describe(path: &Path, text: &mut String) -> std::io::Result<()> {
    if path.is_dir() {
        let mut entries = std::fs::read_dir(path)?
            .map(|entry| entry.map(|each| each.path()))
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| describe(entry, text));
    }
    let content = std::fs::read(path)?;
    writeln!(
        text,
        "== {}\n{}",
        path.display(),
        String::from_utf8_lossy(&content)
    )
    .expect("a String takes all that is written");
    Ok(())
}
