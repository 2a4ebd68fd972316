//! A copy of the sources with all faults in it, and the programs that come of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Fault;
use crate::ConformanceError;

/// The programs that have faults in them, and the crates that they come of.
const BUILT: [(&str, &str); 2] = [
    ("outrigger-agent", "edge-agent"),
    ("outrigger-kubelet", "edge-provider"),
];
/// Those that are taken as they are.
const TAKEN: [&str; 2] = ["outrigger", "outrigger-hub"];

/// The copy, below a directory that stays, so that only what changed is built again.
#[derive(Debug)]
pub struct Tree {
    directory: PathBuf,
}

impl Tree {
    /// Copies what git knows of the project at `root`, and plants the faults.
    ///
    /// # Errors
    /// A fault that finds no place, or a file that cannot be copied.
    pub fn lay_out(root: &Path, directory: &Path, faults: &[Fault]) -> anyhow::Result<Self> {
        let tree = Self {
            directory: directory.to_owned(),
        };
        tree.take_turn("")?;
        let turn = std::path::absolute(tree.turn())?;
        let mut planted: BTreeMap<&Path, String> = BTreeMap::new();
        for fault in faults {
            let path = root.join(&fault.file);
            let before = match planted.remove(fault.file.as_path()) {
                Some(text) => text,
                None => std::fs::read_to_string(&path).map_err(ConformanceError::file(&path))?,
            };
            planted.insert(&fault.file, fault.plant(&before, &turn)?);
        }
        let listed = output(Command::new("git").arg("ls-files").current_dir(root))?;
        for file in listed.lines() {
            let from = root.join(file);
            let body = match planted.get(Path::new(file)) {
                Some(text) => text.clone().into_bytes(),
                None => std::fs::read(&from).map_err(ConformanceError::file(&from))?,
            };
            put(&tree.sources().join(file), &body)?;
        }
        Ok(tree)
    }

    /// Builds what has faults in it, and gives the directory of all programs; the others are those of `programs`.
    ///
    /// # Errors
    /// It does not compile: a fault must.
    pub fn build(&self, programs: &Path) -> anyhow::Result<PathBuf> {
        let target = std::path::absolute(self.directory.join("build"))?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--locked"])
            .args(BUILT.iter().flat_map(|(_, package)| ["--package", package]))
            .current_dir(self.sources())
            .env("CARGO_TARGET_DIR", &target);
        anyhow::ensure!(cargo.status()?.success(), "the faults do not compile");
        let all = self.directory.join("programs");
        let built = BUILT
            .iter()
            .map(|(program, _)| target.join("debug").join(program));
        for from in built.chain(TAKEN.iter().map(|program| programs.join(program))) {
            let Some(name) = from.file_name() else { continue };
            std::fs::create_dir_all(&all)?;
            let to = all.join(name);
            std::fs::copy(&from, &to).map_err(ConformanceError::file(&from))?;
        }
        Ok(all)
    }

    /// From here on this fault is the one that shows; none when it is empty.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn take_turn(&self, fault: &str) -> Result<(), ConformanceError> {
        // A whole name or the other: the programs read it at any moment.
        let (turn, next) = (self.turn(), self.directory.join("next"));
        let write = || {
            std::fs::create_dir_all(&self.directory)?;
            std::fs::write(&next, fault)?;
            std::fs::rename(&next, &turn)
        };
        write().map_err(ConformanceError::file(&turn))
    }

    fn turn(&self) -> PathBuf {
        self.directory.join("turn")
    }

    fn sources(&self) -> PathBuf {
        self.directory.join("sources")
    }
}

/// An equal file stays as it is, with its time, or cargo would build it again.
fn put(path: &Path, body: &[u8]) -> Result<(), ConformanceError> {
    if std::fs::read(path).is_ok_and(|before| before == body) {
        return Ok(());
    }
    let write = || {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, body)
    };
    write().map_err(ConformanceError::file(path))
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
