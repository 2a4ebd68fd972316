//! The device's own record of streams: who opened what, and how it ended. Lines of JSON, only ever appended; the file is root's alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tracing::warn;

use super::desk::About;
use super::opening::Refusal;

/// Cheap to keep; each line is written to the disk by itself.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    max_bytes: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    /// By the device's wall clock.
    at: jiff::Timestamp,
    #[serde(flatten)]
    entry: Entry<'a>,
    stream: &'a About,
}

/// What happened to a stream.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Entry<'a> {
    Opened,
    Closed {
        outcome: &'a str,
        #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
        duration: Duration,
        /// Bytes from whoever asked, and to them, with what frames them.
        received: u64,
        sent: u64,
    },
    Refused {
        why: edge_protocol::v1::StreamRefusal,
        message: &'a str,
    },
    /// The hub could not be told.
    Failed {
        error: &'a str,
    },
}

impl<'a> From<&'a Refusal> for Entry<'a> {
    fn from(refusal: &'a Refusal) -> Self {
        Self::Refused {
            why: refusal.why,
            message: &refusal.message,
        }
    }
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl Journal {
    pub(super) fn new(path: &Path, max_bytes: u64) -> Self {
        let path = path.to_owned();
        Self { path, max_bytes }
    }

    /// Appends a line. A disk that takes none keeps no stream from being opened: the agent's log says so.
    pub(super) fn write(&self, stream: &About, entry: Entry<'_>) {
        let line = Line {
            at: jiff::Timestamp::now(),
            entry,
            stream,
        };
        if let Err(error) = self.append(&line) {
            warn!(%error, path = %self.path.display(), "a stream is not in the device's record of them");
        }
    }

    fn append(&self, line: &Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let there = fs::metadata(&self.path).map_or(0, |meta| meta.len());
        if there > 0 && there + text.len() as u64 > self.max_bytes {
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            fs::rename(&self.path, before)?;
        }
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).mode(0o600).open(&self.path)?;
        // One write per line, so that a crash leaves whole ones.
        file.write_all(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn lines_are_appended_for_root_alone_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("streams.log");
        let journal = Journal::new(&path, 1_000);
        let about = About::example("exec");
        for _ in 0..20 {
            let entry = Entry::Closed {
                outcome: "it ended",
                duration: Duration::from_millis(1_500),
                received: 1,
                sent: 2,
            };
            journal.write(&about, entry);
            assert!(fs::metadata(&path).unwrap().len() <= 1_000);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(line["event"], "closed");
        assert_eq!(line["duration_ms"], 1_500);
        assert_eq!(line["stream"]["user"], "ada");
        assert!(dir.path().join("streams.log.1").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
