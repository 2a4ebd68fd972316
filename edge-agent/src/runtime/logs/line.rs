//! The form of a line that a runtime logs: `<time> <stream> <tags> <text>` (`parseCRILog` of k8s.io/cri-client/pkg/logs).

use edge_protocol::v1::LogSource;
use jiff::Timestamp;

/// A line whose text has not begun after so many bytes is none.
pub(super) const MAX_HEAD: usize = 256;
/// `2026-11-22T18:00:00`.
const SECONDS: usize = 19;

/// What stands before a line's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head<'a> {
    /// As it stands there.
    pub(super) time: &'a str,
    /// Nanoseconds since the Unix epoch.
    pub(super) time_ns: i64,
    pub(super) source: LogSource,
    /// The runtime cut the line here: it goes on in the next one.
    pub(super) partial: bool,
    /// Where the text begins.
    pub(super) length: usize,
}

/// The head of a line, given as much of it as there is; `None` where there is none, or not all of it.
pub(super) fn read_head(line: &[u8]) -> Option<Head<'_>> {
    let start = line.get(..line.len().min(MAX_HEAD))?;
    let mut fields = start.splitn(4, |byte| *byte == b' ');
    let (time, source, tags) = (fields.next()?, fields.next()?, fields.next()?);
    let text = fields.next()?;
    let time = str::from_utf8(time).ok()?;
    Some(Head {
        time,
        time_ns: time_ns(time)?,
        source: match source {
            b"stdout" => LogSource::Stdout,
            b"stderr" => LogSource::Stderr,
            _ => return None,
        },
        partial: tags.split(|byte| *byte == b':').next()? == b"P",
        length: start.len() - text.len(),
    })
}

fn time_ns(text: &str) -> Option<i64> {
    let time: Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// Appends a line's time as clients get it: of fixed width, in its own zone (`RFC3339NanoFixed`), and a space.
pub(super) fn push_time(head: &Head<'_>, out: &mut Vec<u8>) {
    let (seconds, rest) = head.time.split_at_checked(SECONDS).unwrap_or_default();
    let fraction = rest.strip_prefix('.').unwrap_or_default();
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let zone = if rest.starts_with('.') {
        fraction.get(digits..).unwrap_or_default()
    } else {
        rest
    };
    let is_usual =
        zone == "Z" || (zone.len() == 6 && zone.starts_with(['+', '-']) && !zone.ends_with("00:00"));
    if is_usual && seconds.as_bytes().get(10) == Some(&b'T') {
        let nanoseconds = fraction.get(..digits.min(9)).unwrap_or_default();
        out.extend_from_slice(format!("{seconds}.{nanoseconds:0<9}{zone} ").as_bytes());
    } else {
        let time = Timestamp::from_nanosecond(head.time_ns.into()).unwrap_or_default();
        out.extend_from_slice(format!("{time:.9} ").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_a_kubelet_reads_them() {
        let check = |line: &str, expect: Option<(LogSource, bool, &str)>| {
            let found = read_head(line.as_bytes());
            let found = found.map(|head| (head.source, head.partial, &line[head.length..]));
            assert_eq!(found, expect, "{line:?}");
        };
        let (out, err) = (LogSource::Stdout, LogSource::Stderr);
        check(
            "2026-11-22T18:00:00.5Z stdout F a b  c",
            Some((out, false, "a b  c")),
        );
        check(
            "2026-11-22T18:00:00+01:00 stderr P half",
            Some((err, true, "half")),
        );
        check(
            "2026-11-22T18:00:00Z stdout P:later:tags x",
            Some((out, true, "x")),
        );
        check("2026-11-22T18:00:00Z stdout F ", Some((out, false, "")));
        check("2026-11-22T18:00:00Z stdout ", None);
        check("2026-11-22T18:00:00Z stdout F", None);
        check("2026-11-22T18:00:00Z stdin F x", None);
        check("yesterday stdout F x", None);
        check("", None);
        check(
            &format!("2026-11-22T18:00:00Z stdout {} x", "F".repeat(MAX_HEAD)),
            None,
        );
        let long = "x".repeat(2 * MAX_HEAD);
        check(
            &format!("2026-11-22T18:00:00Z stdout F {long}"),
            Some((out, false, long.as_str())),
        );
    }

    #[test]
    fn times_are_shown_with_a_fixed_width() {
        let check = |time: &str, expect: &str| {
            let line = format!("{time} stdout F x");
            let mut out = Vec::new();
            push_time(&read_head(line.as_bytes()).unwrap(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{expect} "), "{time}");
        };
        check("2026-11-22T18:00:00.5Z", "2026-11-22T18:00:00.500000000Z");
        check("2026-11-22T18:00:00Z", "2026-11-22T18:00:00.000000000Z");
        check(
            "2026-11-22T18:00:00.123456789+01:00",
            "2026-11-22T18:00:00.123456789+01:00",
        );
        check("2026-11-22T18:00:00.25+00:00", "2026-11-22T18:00:00.250000000Z");
        check(
            "2026-11-22T18:00:00.25-05:30",
            "2026-11-22T18:00:00.250000000-05:30",
        );
    }
}
