//! The files that a container's log is in, by their names: `<attempt>.log` is being written, `<attempt>.log.<stamp>` was rotated away, and
//! `….gz` is compressed besides (`pkg/kubelet/logs/container_log_manager.go`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Of a file that is being made: it is not a log yet.
pub(super) const TEMPORARY: &str = ".tmp";
pub(super) const COMPRESSED: &str = ".gz";

/// The name of one file. They sort by age, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogName {
    pub(super) attempt: u32,
    pub(super) age: Age,
    pub(super) compressed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Age {
    /// When it was rotated, `20261122-180000`. A rotation never gives a stamp that is not above those that are there, so that a clock that was
    /// set back leaves the order right.
    Rotated(String),
    /// The runtime writes to it.
    Current,
}

impl LogName {
    pub(super) fn current(attempt: u32) -> Self {
        Self {
            attempt,
            age: Age::Current,
            compressed: false,
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let (attempt, rest) = split(name)?;
        if rest.is_empty() {
            return Some(Self::current(attempt));
        }
        let rest = rest.strip_prefix('.')?;
        let (stamp, compressed) = match rest.strip_suffix(COMPRESSED) {
            Some(stamp) => (stamp, true),
            None => (rest, false),
        };
        is_stamp(stamp).then(|| Self {
            attempt,
            age: Age::Rotated(stamp.to_owned()),
            compressed,
        })
    }

    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        let attempt = self.attempt;
        directory.join(match &self.age {
            Age::Current => format!("{attempt}.log"),
            Age::Rotated(stamp) if self.compressed => format!("{attempt}.log.{stamp}{COMPRESSED}"),
            Age::Rotated(stamp) => format!("{attempt}.log.{stamp}"),
        })
    }
}

fn is_stamp(text: &str) -> bool {
    let (day, time) = text.split_once('-').unwrap_or_default();
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(day, 8) && digits(time, 6)
}

/// The attempt that a file is of, whatever follows `<attempt>.log` in its name.
pub(crate) fn attempt(name: &str) -> Option<u32> {
    split(name).map(|(attempt, _)| attempt)
}

fn split(name: &str) -> Option<(u32, &str)> {
    let (attempt, rest) = name.split_once(".log")?;
    // `u32` would take a sign and leading zeros too: those are not ours.
    let parsed: u32 = attempt.parse().ok()?;
    (parsed.to_string() == attempt && (rest.is_empty() || rest.starts_with('.'))).then_some((parsed, rest))
}

/// The names in a directory, in no order. One that is gone has none.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    Ok(names
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// All files with logs in a container's directory, the oldest first. Of one that is being compressed it is the result, once that is whole.
pub(super) fn list(directory: &Path) -> io::Result<Vec<LogName>> {
    let mut found: Vec<_> = names(directory)?
        .iter()
        .filter_map(|name| LogName::parse(name))
        .collect();
    found.sort();
    found.dedup_by(|next, kept| {
        let same = (next.attempt, &next.age) == (kept.attempt, &kept.age);
        if same {
            kept.compressed |= next.compressed;
        }
        same
    });
    Ok(found)
}

/// Those of one attempt.
pub(super) fn list_attempt(directory: &Path, attempt: u32) -> io::Result<Vec<LogName>> {
    let mut found = list(directory)?;
    found.retain(|name| name.attempt == attempt);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_by_age() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "1.log",
            "10.log",
            "0.log.20261122-180000",
            "0.log",
            "0.log.20261122-175000.gz",
            "0.log.20261122-175000",
            "0.log.20261122-180000.tmp",
            "0.log.20261122-180000.gz.tmp",
            "0.log.1",
            "0.logs",
            "00.log",
            "+1.log",
            "-1.log",
            "notes.txt",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = list(dir.path()).unwrap();
        let names: Vec<_> = found.iter().map(|name| name.path(Path::new(""))).collect();
        let expect = [
            "0.log.20261122-175000.gz",
            "0.log.20261122-180000",
            "0.log",
            "1.log",
            "10.log",
        ];
        assert_eq!(names, expect.map(PathBuf::from));
        assert_eq!(list(&dir.path().join("gone")).unwrap(), []);
    }

    #[test]
    fn whatever_is_beside_a_log_is_of_its_attempt() {
        for (name, expect) in [
            ("3.log", Some(3)),
            ("3.log.20261122-180000.gz.tmp", Some(3)),
            ("3.log.old", Some(3)),
            ("3.logs", None),
            ("log", None),
            (".removed", None),
        ] {
            assert_eq!(attempt(name), expect, "{name}");
        }
    }
}
