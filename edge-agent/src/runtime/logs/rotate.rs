//! Keeps the log of a container that runs from growing for ever: rotation by size and count, as `pkg/kubelet/logs/container_log_manager.go` does it.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::civil::DateTime;
use jiff::{Span, Timestamp};

use super::files::{self, Age, COMPRESSED, LogName, TEMPORARY, list_attempt};

const STAMP: &str = "%Y%m%d-%H%M%S";

/// When a log is rotated, and what stays of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file is rotated once it has so many bytes.
    pub max_bytes: NonZeroU64,
    /// The files of one attempt, the one that is written included; at least 2.
    pub max_files: u32,
}

/// What the runtime has to be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rotated {
    /// Nothing.
    No,
    /// To open its file: it is not there, because an earlier rotation was interrupted.
    Missing,
    /// The same, because the file has another name now. If it cannot, this is to be [undone](Moved::undo).
    Moved(Moved),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    current: PathBuf,
    rotated: PathBuf,
}

impl Rotation {
    /// Rotates the log of one attempt if it is due: removes the oldest files, compresses those that were rotated before, and moves the present one
    /// away, under a stamp that is above all others whatever the clock says. The runtime goes on writing to that until it opens another.
    ///
    /// # Errors
    /// A file cannot be moved, compressed or removed. What an interrupted rotation left is cleared by the next.
    pub(crate) fn rotate(&self, directory: &Path, attempt: u32, now: Timestamp) -> io::Result<Rotated> {
        let current = LogName::current(attempt).path(directory);
        match fs::metadata(&current) {
            Ok(metadata) if metadata.len() >= self.max_bytes.get() => {}
            Ok(_) => return Ok(Rotated::No),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Rotated::Missing),
            Err(error) => return Err(error),
        }
        clean(directory, attempt)?;
        let mut older = list_attempt(directory, attempt)?;
        older.retain(|name| name.age != Age::Current);
        let stamp = stamp(now, older.last());
        // Besides the file that is moved now and the one that the runtime opens.
        let kept = usize::try_from(self.max_files)
            .unwrap_or(usize::MAX)
            .saturating_sub(2);
        for name in older.drain(..older.len().saturating_sub(kept)) {
            gone(fs::remove_file(name.path(directory)))?;
        }
        for name in older.iter().filter(|name| !name.compressed) {
            compress(&name.path(directory))?;
        }
        let rotated = LogName {
            attempt,
            age: Age::Rotated(stamp),
            compressed: false,
        };
        let rotated = rotated.path(directory);
        fs::rename(&current, &rotated)?;
        Ok(Rotated::Moved(Moved { current, rotated }))
    }
}

impl Moved {
    /// The runtime did not open its file anew: what it writes to gets its name back, unless there is another by now.
    ///
    /// # Errors
    /// The file stays where it is, and the next rotation asks the runtime again.
    pub(crate) fn undo(&self) -> io::Result<()> {
        match fs::hard_link(&self.rotated, &self.current) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.and_then(|()| fs::remove_file(&self.rotated)),
        }
    }
}

/// The time, or a second after the youngest there is: a clock that was set back changes no order, and no file takes another's place.
fn stamp(now: Timestamp, youngest: Option<&LogName>) -> String {
    let now = now.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    let Some(Age::Rotated(last)) = youngest.map(|name| &name.age) else {
        return now.strftime(STAMP).to_string();
    };
    let after = DateTime::strptime(STAMP, last)
        .and_then(|last| last.checked_add(Span::new().seconds(1)))
        .unwrap_or(now);
    now.max(after).strftime(STAMP).to_string()
}

/// Removes what was not finished, and the originals of what was compressed.
fn clean(directory: &Path, attempt: u32) -> io::Result<()> {
    let names = files::names(directory)?;
    for name in names.iter().filter(|name| files::attempt(name) == Some(attempt)) {
        let is_double = names
            .iter()
            .any(|other| other.strip_suffix(COMPRESSED) == Some(name.as_str()));
        if name.ends_with(TEMPORARY) || is_double {
            gone(fs::remove_file(directory.join(name)))?;
        }
    }
    Ok(())
}

/// Either the original or the whole result is there at any time, also after a power cut.
fn compress(path: &Path) -> io::Result<()> {
    let named = |suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (temporary, compressed) = (named(TEMPORARY), named(COMPRESSED));
    let mut original = File::open(path)?;
    let result = File::create(&temporary)?;
    result.set_permissions(original.metadata()?.permissions())?;
    let mut encoder = GzEncoder::new(result, Compression::default());
    io::copy(&mut original, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(&temporary, &compressed)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    gone(fs::remove_file(path))
}

/// What is gone already is removed.
fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn rotation(max_files: u32) -> Rotation {
        Rotation {
            max_bytes: NonZeroU64::new(10).unwrap(),
            max_files,
        }
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names = files::names(directory).unwrap();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_goes_and_all_but_the_last_are_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let current = dir.path().join("3.log");
        for round in 0..6 {
            fs::write(&current, format!("round {round}, ten bytes and more")).unwrap();
            let now = at(&format!("2026-11-22T18:0{round}:00Z"));
            let Rotated::Moved(moved) = rotation(4).rotate(dir.path(), 3, now).unwrap() else {
                panic!("it is due")
            };
            assert!(
                fs::read_to_string(&moved.rotated)
                    .unwrap()
                    .starts_with(&format!("round {round}"))
            );
        }
        let expect = [
            "3.log.20261122-180300.gz",
            "3.log.20261122-180400.gz",
            "3.log.20261122-180500",
        ];
        assert_eq!(names(dir.path()), expect);
        let mut text = String::new();
        let compressed = File::open(dir.path().join(expect[0])).unwrap();
        GzDecoder::new(compressed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "round 3, ten bytes and more");
        // What is too small stays, and other attempts are no business of this one.
        fs::write(&current, "small").unwrap();
        fs::write(dir.path().join("13.log.20261122-180300"), "other").unwrap();
        assert_eq!(
            rotation(4)
                .rotate(dir.path(), 3, at("2026-11-22T19:00:00Z"))
                .unwrap(),
            Rotated::No
        );
        assert_eq!(
            rotation(4)
                .rotate(dir.path(), 4, at("2026-11-22T19:00:00Z"))
                .unwrap(),
            Rotated::Missing
        );
        assert_eq!(names(dir.path()).len(), 5);
    }

    #[test]
    fn a_clock_that_was_set_back_leaves_the_order_right() {
        let dir = tempfile::tempdir().unwrap();
        for (time, stamp) in [
            ("2026-11-22T23:59:59Z", "20261122-235959"),
            ("1970-01-01T00:00:05Z", "20261123-000000"),
            ("1970-01-01T00:00:15Z", "20261123-000001"),
            ("2026-12-24T18:00:00Z", "20261224-180000"),
        ] {
            fs::write(dir.path().join("0.log"), "more than ten bytes").unwrap();
            let Rotated::Moved(moved) = rotation(9).rotate(dir.path(), 0, at(time)).unwrap() else {
                panic!("it is due")
            };
            assert_eq!(moved.rotated, dir.path().join(format!("0.log.{stamp}")));
        }
    }

    #[test]
    fn an_interrupted_rotation_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "0.log.20261122-180000",
            "0.log.20261122-180000.gz",
            "0.log.20261122-190000.tmp",
        ] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        fs::write(dir.path().join("0.log"), "more than ten bytes").unwrap();
        let Rotated::Moved(moved) = rotation(5)
            .rotate(dir.path(), 0, at("2026-11-22T20:00:00Z"))
            .unwrap()
        else {
            panic!("it is due")
        };
        assert_eq!(
            names(dir.path()),
            ["0.log.20261122-180000.gz", "0.log.20261122-200000"]
        );
        // The runtime did not open another.
        moved.undo().unwrap();
        assert_eq!(names(dir.path()), ["0.log", "0.log.20261122-180000.gz"]);
        // It did, and could not say so.
        let Rotated::Moved(moved) = rotation(5)
            .rotate(dir.path(), 0, at("2026-11-22T20:00:00Z"))
            .unwrap()
        else {
            panic!("it is due")
        };
        fs::write(dir.path().join("0.log"), "new").unwrap();
        moved.undo().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("0.log")).unwrap(), "new");
        assert_eq!(names(dir.path()).len(), 3);
    }
}
