//! The log files of workloads: where they are made, which of them stay, and that they go with their workload, or some time later.
//!
//! As with a kubelet (`MaxPerPodContainer` is 1 in pkg/kubelet/kubelet.go, and a removed container takes its log along), a container has the
//! log of the attempt that runs and that of the last one before it, of both with what was rotated.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use edge_protocol::PodUid;

use super::config::Settings;
use crate::options::KeepLogs;
use crate::runtime::logs::attempt;

/// In the directory of a workload that is gone; its time is when that went.
const REMOVED: &str = ".removed";

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
        let entry = entry.map_err(failed(directory))?;
        let name = entry.file_name();
        let attempt = name.to_str().and_then(attempt);
        if let Some(attempt) = attempt.filter(|attempt| *attempt < next) {
            earlier.push((attempt, entry.path()));
        }
    }
    let last = earlier.iter().map(|(attempt, _)| *attempt).max();
    for (_, path) in earlier.iter().filter(|(attempt, _)| Some(*attempt) != last) {
        remove(fs::remove_file(path), path)?;
    }
    Ok(())
}

/// Removes all logs of a workload, whatever it was named, or marks them to be [kept](tidy).
pub(super) fn remove_all(root: &Path, uid: &PodUid, keep: KeepLogs) -> Result<(), LogsError> {
    for path in of_workload(root, uid)? {
        if keep.pods == 0 {
            remove(fs::remove_dir_all(&path), &path)?;
        } else {
            let mark = path.join(REMOVED);
            match File::create_new(&mark) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => drop(other.map_err(failed(&mark))?),
            }
        }
    }
    tidy(root, keep)
}

/// Removes logs of workloads that are gone: the oldest of them beyond the number that is kept, and those that were kept long enough. A clock that was set
/// back keeps them longer.
pub(super) fn tidy(root: &Path, keep: KeepLogs) -> Result<(), LogsError> {
    let mut kept = Vec::new();
    for path in directories(root)? {
        match fs::metadata(path.join(REMOVED)).and_then(|mark| mark.modified()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => kept.push((removed.map_err(failed(&path))?, path)),
        }
    }
    kept.sort();
    let too_many = kept.len().saturating_sub(keep.pods);
    let is_due = |since: SystemTime| {
        let age = since.elapsed().unwrap_or_default();
        keep.at_most.is_some_and(|at_most| age >= at_most)
    };
    for (number, (since, path)) in kept.iter().enumerate() {
        if number < too_many || is_due(*since) {
            remove(fs::remove_dir_all(path), path)?;
        }
    }
    Ok(())
}

/// The directories of a workload's logs, whatever it was named: normally one.
pub(super) fn of_workload(root: &Path, uid: &PodUid) -> Result<Vec<PathBuf>, LogsError> {
    let suffix = Settings::log_directory_suffix(uid);
    let mut found = directories(root)?;
    found.retain(|path| path.to_string_lossy().ends_with(&suffix));
    Ok(found)
}

fn directories(root: &Path) -> Result<Vec<PathBuf>, LogsError> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed(root))?,
    };
    let paths = entries.map(|entry| Ok(entry.map_err(failed(root))?.path()));
    paths.collect()
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
        let rotated = [
            "0.log",
            "0.log.20261122-180000.gz",
            "1.log",
            "1.log.20261122-180000",
        ];
        check(&rotated, 1, &rotated);
        check(&rotated, 2, &["1.log", "1.log.20261122-180000"]);
    }

    #[test]
    fn logs_of_workloads_that_are_gone_stay_as_long_as_is_wanted() {
        let root = tempfile::tempdir().unwrap();
        let left = || {
            let mut names: Vec<_> = directories(root.path()).unwrap();
            names.sort();
            names
                .iter()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let uid = |name: &str| -> PodUid { name.parse().unwrap() };
        for name in ["a", "b", "c", "d", "e"] {
            fs::create_dir_all(root.path().join(format!("default_web_{name}/main"))).unwrap();
        }
        let keep = |pods| KeepLogs { pods, at_most: None };
        let go = |name: &str, minutes: u64, keep| {
            remove_all(root.path(), &uid(name), keep).unwrap();
            if let Ok(mark) = File::open(root.path().join(format!("default_web_{name}/{REMOVED}"))) {
                let ago = SystemTime::now() - std::time::Duration::from_mins(minutes);
                mark.set_modified(ago).unwrap();
            }
        };
        go("a", 30, keep(2));
        go("b", 20, keep(2));
        go("a", 30, keep(2));
        assert_eq!(left().len(), 5, "two are kept, and asking again changes nothing");
        go("c", 10, keep(2));
        assert_eq!(
            left(),
            ["default_web_b", "default_web_c", "default_web_d", "default_web_e"]
        );
        let short = KeepLogs {
            pods: 2,
            at_most: Some(std::time::Duration::from_mins(15)),
        };
        tidy(root.path(), short).unwrap();
        assert_eq!(left(), ["default_web_c", "default_web_d", "default_web_e"]);
        go("d", 0, keep(0));
        assert_eq!(left(), ["default_web_e"], "none are kept any more");
        tidy(&root.path().join("gone"), short).unwrap();
    }
}
