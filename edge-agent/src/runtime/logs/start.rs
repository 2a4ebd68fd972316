//! Where in an attempt's files a reader begins, and how far one goes that does not follow.
//!
//! A kubelet reads the newest file alone (k8s.io/cri-client/pkg/logs). Here a query that asks further back than that reaches gets older files too.

use std::io;
use std::path::Path;

use edge_protocol::v1::{LogPosition, LogQuery};

use super::files::LogName;
use super::reader::Until;
use super::source::{NO_TIME, Source};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) name: LogName,
    pub(super) offset: u64,
    /// Another reader told what is before it.
    pub(super) resumes: bool,
}

impl Start {
    fn at(name: &LogName, offset: u64) -> Self {
        Self {
            name: name.clone(),
            offset,
            resumes: false,
        }
    }
}

/// The time before which nothing is told, in nanoseconds since the Unix epoch.
pub(super) fn since(query: &LogQuery, now_ns: i64) -> Option<i64> {
    if query.after.is_some() {
        return None;
    }
    let seconds = query.since_seconds.map(|seconds| {
        let ns = i64::try_from(seconds)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000_000);
        now_ns.saturating_sub(ns)
    });
    seconds.or(query.since_ms.map(|ms| ms.saturating_mul(1_000_000)))
}

/// The place to begin at; `None` without files, which are given from the oldest on.
pub(super) fn start(
    directory: &Path,
    files: &[LogName],
    query: &LogQuery,
    now_ns: i64,
) -> io::Result<Option<Start>> {
    let Some(oldest) = files.first() else {
        return Ok(None);
    };
    if let Some(after) = query.after {
        return resume(directory, files, after).map(Some);
    }
    if let Some(lines) = query.tail_lines {
        return tail(directory, files, lines);
    }
    if let Some(since) = since(query, now_ns) {
        for name in files.iter().rev() {
            let first = Source::open(directory, name)?.first_time()?;
            if first != NO_TIME && first <= since {
                return Ok(Some(Start::at(name, 0)));
            }
        }
    }
    Ok(Some(Start::at(oldest, 0)))
}

/// Where the file is gone, all that is left is younger: the oldest go first.
fn resume(directory: &Path, files: &[LogName], after: LogPosition) -> io::Result<Start> {
    for name in files {
        if Source::open(directory, name)?.first_time()? == after.file {
            return Ok(Start {
                name: name.clone(),
                offset: after.offset,
                resumes: true,
            });
        }
    }
    let oldest = files.first().ok_or(io::ErrorKind::NotFound)?;
    Ok(Start::at(oldest, 0))
}

/// Backwards until there are enough lines. As for a kubelet, one that the newest file ends in without an end of line is not counted.
fn tail(directory: &Path, files: &[LogName], lines: u64) -> io::Result<Option<Start>> {
    let mut wanted = lines;
    let mut start = None;
    for (number, name) in files.iter().rev().enumerate() {
        let mut source = Source::open(directory, name)?;
        let end = source.length()?.unwrap_or(u64::MAX);
        let is_cut = number == 0 && end > 0 && end < u64::MAX && source.read_from(end - 1, 1)? != b"\n";
        let uncounted = u64::from(is_cut);
        let found = source.last_lines(end, wanted.saturating_add(uncounted))?;
        wanted = wanted.saturating_sub(found.count.saturating_sub(uncounted));
        start = Some(Start::at(name, found.start));
        if wanted == 0 {
            break;
        }
    }
    Ok(start)
}

/// The end of what has been written by now; `None` where nothing has.
pub(super) fn end(directory: &Path, files: &[LogName]) -> io::Result<Option<Until>> {
    for name in files.iter().rev() {
        let mut source = Source::open(directory, name)?;
        let length = source.length()?.unwrap_or(u64::MAX);
        if length > 0 {
            let file = source.first_time()?;
            return Ok(Some(Until { file, length }));
        }
    }
    Ok(None)
}
