//! The log files of workloads: where they are made, which of them stay, and that they go with their workload.
//!
//! As with a kubelet (`MaxPerPodContainer` is 1 in pkg/kubelet/kubelet.go, and a removed container takes its log along), a container has the
//! log of the attempt that runs and that of the last one before it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use edge_protocol::PodUid;

use super::config::Settings;

#[derive(Debug, thiserror::Error)]
#[error("{path}")]
pub(super) struct LogsError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> LogsError {
    let path = path.to_owned();
    move |source| LogsError { path, source }
}

pub(super) fn ensure_directory(path: &Path) -> Result<(), LogsError> {
    fs::create_dir_all(path).map_err(failed(path))
}

/// Removes what earlier attempts of a container logged into its directory, but for the last of them before `next`. Done before each start,
/// it keeps two logs per container however often that crashes, and makes good what a power cut interrupted.
pub(super) fn prune(directory: &Path, next: u32) -> Result<(), LogsError> {
    let mut earlier = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        if let Some(attempt) = attempt(&path).filter(|attempt| *attempt < next) {
            earlier.push((attempt, path));
        }
    }
    let last = earlier.iter().map(|(attempt, _)| *attempt).max();
    for (_, path) in earlier.iter().filter(|(attempt, _)| Some(*attempt) != last) {
        remove(fs::remove_file(path), path)?;
    }
    Ok(())
}

/// The attempt that a file `<attempt>.log` is of.
fn attempt(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()
}

/// Removes all logs of a workload, whatever it was named.
pub(super) fn remove_all(root: &Path, uid: &PodUid) -> Result<(), LogsError> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed(root))?,
    };
    let suffix = Settings::log_directory_suffix(uid);
    for entry in entries {
        let entry = entry.map_err(failed(root))?;
        if entry.file_name().to_string_lossy().ends_with(&suffix) {
            let path = entry.path();
            remove(fs::remove_dir_all(&path), &path)?;
        }
    }
    Ok(())
}

/// What is gone already is removed.
fn remove(outcome: io::Result<()>, path: &Path) -> Result<(), LogsError> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(there: &[&str], next: u32, left: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        for name in there {
            fs::write(dir.path().join(name), "").unwrap();
        }
        prune(dir.path(), next).unwrap();
        let entries = fs::read_dir(dir.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, left);
    }

    #[test]
    fn the_last_log_before_the_next_attempt_stays() {
        check(&[], 0, &[]);
        check(&["0.log"], 1, &["0.log"]);
        check(&["0.log", "1.log"], 2, &["1.log"]);
        check(&["0.log", "1.log", "2.log"], 2, &["1.log", "2.log"]);
        check(&["8.log", "9.log", "10.log"], 11, &["10.log"]);
        check(&["3.log", "5.log"], 9, &["5.log"]);
        check(&["0.log", "1.log", "notes.txt"], 2, &["1.log", "notes.txt"]);
    }
}
