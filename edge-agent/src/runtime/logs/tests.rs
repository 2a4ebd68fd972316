//! What is told of logs, on files as containerd writes them.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use edge_protocol::v1::{LogFrame, LogFrames, LogPosition, LogQuery, LogSource};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::reader::{Reader, Sizes, Turn};

mod model;
mod streams;

/// 2026-11-22T18:00:00Z in seconds.
const EPOCH: i64 = 1_795_370_400;

const OUT: LogSource = LogSource::Stdout;
const ERR: LogSource = LogSource::Stderr;

/// The directory of a container's logs.
struct Logs(tempfile::TempDir);

impl Logs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Files by their names.
    fn with(files: &[(&str, &str)]) -> Self {
        let this = Self::new();
        for (name, text) in files {
            this.append(name, text);
        }
        this
    }

    fn directory(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn compress(&self, name: &str) {
        let file = File::create(self.path(&format!("{name}.gz"))).unwrap();
        let mut encoder = GzEncoder::new(file, Compression::fast());
        encoder.write_all(&fs::read(self.path(name)).unwrap()).unwrap();
        encoder.finish().unwrap();
        fs::remove_file(self.path(name)).unwrap();
    }

    fn reader(&self, query: &LogQuery, sizes: Sizes) -> Option<Reader> {
        let now_ns = (EPOCH + 100) * 1_000_000_000;
        let directory = self.directory().to_owned();
        Reader::open(directory, 0, query, now_ns, Duration::ZERO, sizes).unwrap()
    }

    /// All that a query is told.
    fn told(&self, query: &LogQuery) -> String {
        let mut reader = self.reader(query, Sizes::default()).expect("there is a log");
        let mut client = Client::default();
        while client.turn(&mut reader) == Turn::More {}
        client.text()
    }
}

/// Lines of both sources: the number is the second, `.` ends a line and `,` a part of one.
fn lines(script: &[(u32, LogSource, &str)]) -> String {
    let line = |(second, source, text): &(u32, LogSource, &str)| {
        let source = match source {
            LogSource::Stdout => "stdout",
            LogSource::Stderr => "stderr",
        };
        let (tag, text) = match text.strip_suffix(',') {
            Some(text) => ("P", text),
            None => ("F", *text),
        };
        format!("2026-11-22T18:00:{second:02}.5Z {source} {tag} {text}\n")
    };
    script.iter().map(line).collect()
}

/// Whoever asked.
#[derive(Default)]
struct Client {
    frames: LogFrames,
    text: Vec<u8>,
    position: Option<LogPosition>,
    end: Option<LogFrame>,
}

impl Client {
    fn turn(&mut self, reader: &mut Reader) -> Turn {
        let mut wire = Vec::new();
        let turn = reader.turn(&mut wire).unwrap();
        self.receive(&wire);
        turn
    }

    fn receive(&mut self, wire: &[u8]) {
        self.frames.push(wire);
        while let Some(frame) = self.frames.take().unwrap() {
            match frame {
                LogFrame::Data { position, text } => {
                    assert!(self.end.is_none(), "nothing follows an end");
                    self.text.extend_from_slice(&text);
                    self.position = Some(position);
                }
                end => self.end = Some(end),
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.text.clone()).unwrap()
    }
}

#[track_caller]
fn check(logs: &Logs, query: &LogQuery, expect: &str) {
    assert_eq!(logs.told(query), expect, "{query:?}");
}

fn tail(lines: u64) -> LogQuery {
    LogQuery {
        tail_lines: Some(lines),
        ..LogQuery::default()
    }
}

#[test]
fn lines_are_told_as_a_kubelet_tells_them() {
    let text = lines(&[
        (1, OUT, "one"),
        (2, OUT, "two,"),
        (3, OUT, " halves"),
        (4, ERR, ""),
        (5, OUT, "cut,"),
        (6, ERR, "across"),
        (7, OUT, "later"),
    ]);
    let logs = Logs::with(&[("0.log", &text)]);
    let all = LogQuery::default;
    check(&logs, &all(), "one\ntwo halves\n\ncutacross\nlater\n");
    let source = |source| LogQuery {
        source: Some(source),
        ..all()
    };
    check(&logs, &source(OUT), "one\ntwo halves\ncutlater\n");
    check(&logs, &source(ERR), "\nacross\n");
    let since_ms = |second: i64| LogQuery {
        since_ms: Some((EPOCH + second) * 1000 + 500),
        ..all()
    };
    check(&logs, &since_ms(3), " halves\n\ncutacross\nlater\n");
    check(&logs, &since_ms(8), "");
    let since_seconds = |seconds| LogQuery {
        since_seconds: Some(seconds),
        ..all()
    };
    check(&logs, &since_seconds(94), "across\nlater\n");
    check(
        &logs,
        &since_seconds(u64::MAX),
        "one\ntwo halves\n\ncutacross\nlater\n",
    );
    let limit = |bytes| LogQuery {
        limit_bytes: Some(bytes),
        ..all()
    };
    check(&logs, &limit(6), "one\ntw");
    check(&logs, &limit(0), "");
    check(&logs, &limit(1000), "one\ntwo halves\n\ncutacross\nlater\n");
    // Parts count as lines.
    check(&logs, &tail(2), "across\nlater\n");
    check(&logs, &tail(3), "cutacross\nlater\n");
    check(&logs, &tail(0), "");
    check(&logs, &tail(99), "one\ntwo halves\n\ncutacross\nlater\n");
    let both = LogQuery {
        limit_bytes: Some(4),
        ..tail(2)
    };
    check(&logs, &both, "acro");
}

#[test]
fn times_stand_where_lines_begin() {
    let text = lines(&[
        (1, OUT, "one"),
        (2, OUT, "two,"),
        (3, OUT, " halves"),
        (4, OUT, ","),
        (5, ERR, "x"),
    ]);
    let logs = Logs::with(&[("0.log", &text)]);
    let query = LogQuery {
        timestamps: true,
        ..LogQuery::default()
    };
    let time = |second: u32| format!("2026-11-22T18:00:{second:02}.500000000Z ");
    let (one, two, four, five) = (time(1), time(2), time(4), time(5));
    check(
        &logs,
        &query,
        &format!("{one}one\n{two}two halves\n{four}{five}x\n"),
    );
    let limited = LogQuery {
        limit_bytes: Some(33),
        ..query
    };
    check(&logs, &limited, &format!("{one}on"));
}

#[test]
fn what_is_no_line_is_passed_over() {
    let good = lines(&[(1, OUT, "good")]);
    let long = "x".repeat(200_000);
    let text = format!(
        "\0\0\0\ngarbage\n{good}{long}\n\n2026-11-22T18:00:09Z stdin F no\n{good}2026-11-22T18:00:09Z stdout F half"
    );
    let logs = Logs::with(&[("0.log", &text)]);
    check(&logs, &LogQuery::default(), "good\ngood\nhalf");
    check(&logs, &tail(1), "good\n");
    check(&Logs::with(&[("0.log", "")]), &LogQuery::default(), "");
    assert!(
        Logs::new()
            .reader(&LogQuery::default(), Sizes::default())
            .is_none()
    );
    assert!(
        Logs::with(&[("1.log", &good)])
            .reader(&LogQuery::default(), Sizes::default())
            .is_none()
    );
}

#[test]
fn older_files_are_read_where_the_query_reaches_them() {
    let part = |from: u32| {
        lines(&[
            (from, OUT, &from.to_string()),
            (from + 1, OUT, &(from + 1).to_string()),
        ])
    };
    let logs = Logs::with(&[
        ("0.log.20261122-180000", &part(1)),
        ("0.log.20261122-180010", &part(3)),
        ("0.log.20261122-180020", "2026-11-22T18:00:05Z stdout F cut"),
        ("0.log", &part(6)),
        ("1.log", &part(8)),
    ]);
    logs.compress("0.log.20261122-180000");
    check(&logs, &LogQuery::default(), "1\n2\n3\n4\ncut6\n7\n");
    check(&logs, &tail(2), "6\n7\n");
    check(&logs, &tail(3), "cut6\n7\n");
    check(&logs, &tail(4), "4\ncut6\n7\n");
    check(&logs, &tail(6), "2\n3\n4\ncut6\n7\n");
    check(&logs, &tail(60), "1\n2\n3\n4\ncut6\n7\n");
    let since = |second: i64| LogQuery {
        since_ms: Some((EPOCH + second) * 1000),
        ..LogQuery::default()
    };
    check(&logs, &since(4), "4\ncut6\n7\n");
    check(&logs, &since(0), "1\n2\n3\n4\ncut6\n7\n");
    // The newest file is there, and empty yet.
    logs.rename("0.log", "0.log.20261122-180030");
    logs.append("0.log", "");
    check(&logs, &tail(2), "6\n7\n");
    check(&logs, &LogQuery::default(), "1\n2\n3\n4\ncut6\n7\n");
    fs::write(logs.path("0.log.20261122-180000.gz"), "no gzip").unwrap();
    check(&logs, &LogQuery::default(), "3\n4\ncut6\n7\n");
}

#[test]
fn one_that_does_not_follow_ends_where_the_log_ended_when_it_began() {
    let logs = Logs::with(&[("0.log", &lines(&[(1, OUT, "one")]))]);
    let mut reader = logs.reader(&LogQuery::default(), Sizes::default()).unwrap();
    logs.append("0.log", &lines(&[(2, OUT, "two")]));
    logs.rename("0.log", "0.log.20261122-180000");
    logs.append("0.log", &lines(&[(3, OUT, "three")]));
    let mut client = Client::default();
    assert_eq!(client.turn(&mut reader), Turn::Ended);
    assert_eq!(client.text(), "one\n");
}

#[test]
fn one_that_follows_waits_for_whole_lines_and_goes_from_file_to_file() {
    let logs = Logs::with(&[("0.log", &lines(&[(1, OUT, "one"), (2, OUT, "two")]))]);
    let query = LogQuery {
        follow: true,
        ..tail(1)
    };
    let mut reader = logs.reader(&query, Sizes::default()).unwrap();
    let mut client = Client::default();
    let caught_up = Turn::CaughtUp { again: None };
    assert_eq!(client.turn(&mut reader), caught_up);
    assert_eq!(client.text(), "two\n");
    logs.append("0.log", "2026-11-22T18:00:03Z stdout F ha");
    assert_eq!(client.turn(&mut reader), caught_up);
    assert_eq!(client.text(), "two\n");
    logs.append("0.log", "lf\n");
    // Moved away, and written to all the same until the runtime opens another.
    logs.rename("0.log", "0.log.20261122-180000");
    assert_eq!(client.turn(&mut reader), caught_up);
    logs.append("0.log.20261122-180000", &lines(&[(4, OUT, "four")]));
    assert_eq!(client.turn(&mut reader), caught_up);
    assert_eq!(client.text(), "two\nhalf\nfour\n");
    logs.append("0.log.20261122-180000", &lines(&[(5, OUT, "five")]));
    logs.append("0.log", &lines(&[(6, OUT, "six")]));
    logs.compress("0.log.20261122-180000");
    logs.rename("0.log", "0.log.20261122-180010");
    logs.append("0.log", &lines(&[(7, OUT, "seven")]));
    assert_eq!(client.turn(&mut reader), caught_up);
    assert_eq!(client.text(), "two\nhalf\nfour\nfive\nsix\nseven\n");
    // A rotation that is undone has two names for one file.
    logs.rename("0.log", "0.log.20261122-180020");
    assert_eq!(client.turn(&mut reader), caught_up);
    fs::hard_link(logs.path("0.log.20261122-180020"), logs.path("0.log")).unwrap();
    assert_eq!(client.turn(&mut reader), caught_up);
    // Where its own file is gone, the others are younger.
    fs::remove_file(logs.path("0.log.20261122-180020")).unwrap();
    fs::remove_file(logs.path("0.log")).unwrap();
    logs.append("0.log", &lines(&[(8, OUT, "eight")]));
    logs.append("0.log", "2026-11-22T18:00:09Z stdout F end");
    assert_eq!(client.turn(&mut reader), caught_up);
    reader.finish();
    assert_eq!(client.turn(&mut reader), Turn::Ended);
    assert_eq!(client.text(), "two\nhalf\nfour\nfive\nsix\nseven\neight\nend");
    assert!(!reader.advance().unwrap());
    logs.append("2.log", &lines(&[(10, OUT, "anew")]));
    assert!(reader.advance().unwrap());
    assert_eq!(client.turn(&mut reader), caught_up);
    assert!(client.text().ends_with("eight\nendanew\n"));
    assert_eq!(client.position.map(|position| position.attempt), Some(2));
}

#[test]
fn a_file_that_was_rotated_is_left_once_it_is_quiet() {
    let logs = Logs::with(&[("0.log", &lines(&[(1, OUT, "one")]))]);
    let query = LogQuery {
        follow: true,
        ..LogQuery::default()
    };
    let hour = Duration::from_hours(1);
    let directory = logs.directory().to_owned();
    let mut reader = Reader::open(directory, 0, &query, 0, hour, Sizes::default())
        .unwrap()
        .unwrap();
    let mut client = Client::default();
    logs.rename("0.log", "0.log.20261122-180000");
    logs.append("0.log", &lines(&[(4, OUT, "four")]));
    let soon = Turn::CaughtUp { again: Some(hour) };
    assert_eq!(client.turn(&mut reader), soon);
    // What the runtime had in hand when it opened the next.
    logs.append("0.log.20261122-180000", &lines(&[(2, OUT, "two")]));
    assert_eq!(client.turn(&mut reader), soon);
    assert_eq!(client.text(), "one\ntwo\n");
    logs.append("0.log.20261122-180000", &lines(&[(3, OUT, "three")]));
    let rotated = File::open(logs.path("0.log.20261122-180000")).unwrap();
    rotated.set_modified(SystemTime::now() - 2 * hour).unwrap();
    assert_eq!(client.turn(&mut reader), Turn::CaughtUp { again: None });
    assert_eq!(client.text(), "one\ntwo\nthree\nfour\n");
}

#[test]
fn a_reader_that_comes_again_is_told_what_it_lacks() {
    let text = lines(&[
        (1, OUT, "one"),
        (2, OUT, "two,"),
        (3, OUT, " halves"),
        (4, ERR, "four"),
    ]);
    let logs = Logs::with(&[
        ("0.log.20261122-180000", &text),
        ("0.log", &lines(&[(5, OUT, "five")])),
    ]);
    let whole = "one\ntwo halves\nfour\nfive\n";
    let position = |told: &str| {
        let mut reader = logs
            .reader(
                &LogQuery::default(),
                Sizes {
                    frame: 1,
                    ..Sizes::default()
                },
            )
            .unwrap();
        let mut wire = Vec::new();
        while reader.turn(&mut wire).unwrap() == Turn::More {}
        let mut frames = LogFrames::default();
        frames.push(&wire);
        let mut text = Vec::new();
        while let Some(LogFrame::Data { position, text: more }) = frames.take().unwrap() {
            text.extend(more);
            if text == told.as_bytes() {
                return position;
            }
        }
        panic!("{told:?} is not the beginning of what is told");
    };
    let mut after: Vec<_> = (1..whole.len())
        .map(|end| (position(&whole[..end]), &whole[end..]))
        .collect();
    let again = |after| LogQuery {
        after: Some(after),
        // Where the log begins otherwise counts for nothing.
        since_seconds: Some(0),
        tail_lines: Some(0),
        ..LogQuery::default()
    };
    for (after, rest) in &after {
        check(&logs, &again(*after), rest);
    }
    logs.compress("0.log.20261122-180000");
    for (after, rest) in &after {
        check(&logs, &again(*after), rest);
    }
    fs::remove_file(logs.path("0.log.20261122-180000.gz")).unwrap();
    let (gone, _) = after.swap_remove(3);
    check(&logs, &again(gone), "five\n");
    let beyond = LogPosition {
        file: (EPOCH + 5) * 1_000_000_000 + 500_000_000,
        offset: 10_000,
        ..gone
    };
    check(&logs, &again(beyond), "");
    // An instance whose log is gone has ended.
    assert!(
        logs.reader(&again(LogPosition { attempt: 7, ..gone }), Sizes::default())
            .is_none()
    );
}
