//! Which lines of a log: the query of `/containerLogs`, read and checked as `v1.PodLogOptions`. Pure.

use jiff::Timestamp;

use crate::query::Query;

/// Which lines of a container's log. What is absent bounds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Of the instance before the present one.
    pub previous: bool,
    /// Each line begins with its time (RFC 3339, nanoseconds).
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    /// At least 1; never beside `since_time`.
    pub since_seconds: Option<u64>,
    pub since_time: Option<Timestamp>,
    /// At least 1.
    pub limit_bytes: Option<u64>,
    pub source: LogSource,
}

/// Which of a container's outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogSource {
    #[default]
    All,
    Stdout,
    Stderr,
}

/// A query that asks for no log. The kubelet says no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogOptionsError {
    /// 400.
    #[error(r#"{{"message": "Unable to decode query."}}"#)]
    Undecodable,
    /// 422: by `ValidatePodLogOptions`.
    #[error(r#"{{"message": "Invalid request."}}"#)]
    Invalid,
}

impl LogOptions {
    /// As `getContainerLogs` of `pkg/kubelet/server/server.go` reads it, with the old name `tail` of `tailLines`.
    ///
    /// # Errors
    /// [`LogOptionsError`].
    pub fn read(query: &Query) -> Result<Self, LogOptionsError> {
        let tail_lines = match query.first("tail") {
            Some("all") => None,
            Some(tail) if !tail.is_empty() => Some(number(tail)?),
            _ => query.first("tailLines").map(number).transpose()?,
        };
        let since_seconds = query.first("sinceSeconds").map(number).transpose()?;
        let since_time = query.first("sinceTime").map(time).transpose()?;
        let limit_bytes = query.first("limitBytes").map(number).transpose()?;
        let source = match query.first("stream") {
            None | Some("All") => LogSource::All,
            Some("Stdout") => LogSource::Stdout,
            Some("Stderr") => LogSource::Stderr,
            Some(_) => return Err(LogOptionsError::Invalid),
        };
        if since_seconds.is_some() && since_time.is_some() || source != LogSource::All && tail_lines.is_some()
        {
            return Err(LogOptionsError::Invalid);
        }
        Ok(Self {
            follow: query.switch("follow"),
            previous: query.switch("previous"),
            timestamps: query.switch("timestamps"),
            tail_lines: at_least(0, tail_lines)?,
            since_seconds: at_least(1, since_seconds)?,
            // The zero time bounds nothing.
            since_time: since_time.flatten(),
            limit_bytes: at_least(1, limit_bytes)?,
            source,
        })
    }
}

fn number(text: &str) -> Result<i64, LogOptionsError> {
    text.parse().map_err(|_| LogOptionsError::Undecodable)
}

fn at_least(least: u64, number: Option<i64>) -> Result<Option<u64>, LogOptionsError> {
    let natural = |number| u64::try_from(number).ok().filter(|number| *number >= least);
    number
        .map(|number| natural(number).ok_or(LogOptionsError::Invalid))
        .transpose()
}

/// As `metav1.Time.UnmarshalQueryParameter`: nothing and `null` are the zero time.
fn time(text: &str) -> Result<Option<Timestamp>, LogOptionsError> {
    match text {
        "" | "null" => Ok(None),
        text => text.parse().map(Some).map_err(|_| LogOptionsError::Undecodable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: &Result<LogOptions, LogOptionsError>) {
        assert_eq!(&LogOptions::read(&Query::read(Some(query))), expected, "{query}");
    }

    #[test]
    fn queries_ask_for_this() {
        let none = LogOptions::default;
        check("", &Ok(none()));
        check("container=main&insecureSkipTLSVerifyBackend=true", &Ok(none()));
        let all = LogOptions {
            follow: true,
            previous: true,
            timestamps: true,
            tail_lines: Some(0),
            since_seconds: Some(60),
            limit_bytes: Some(1),
            ..none()
        };
        let query = "follow=true&previous=1&timestamps=&tailLines=0&sinceSeconds=60&limitBytes=1&stream=All";
        check(query, &Ok(all));
        check("follow=0&previous=False&timestamps=false", &Ok(none()));
        let since = LogOptions {
            since_time: Some("2026-11-22T18:00:00Z".parse().unwrap()),
            ..none()
        };
        check("sinceTime=2026-11-22T19:00:00%2B01:00", &Ok(since));
        check("sinceTime=null", &Ok(none()));
        let tail = |lines| LogOptions {
            tail_lines: lines,
            ..none()
        };
        check("tail=5&tailLines=9", &Ok(tail(Some(5))));
        check("tail=all&tailLines=9", &Ok(tail(None)));
        check("tail=&tailLines=9", &Ok(tail(Some(9))));
        for (name, source) in [("Stdout", LogSource::Stdout), ("Stderr", LogSource::Stderr)] {
            check(&format!("stream={name}"), &Ok(LogOptions { source, ..none() }));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_as_by_the_kubelet() {
        let undecodable = [
            "tailLines=x",
            "tailLines=",
            "limitBytes=1.5",
            "sinceSeconds=9e9",
            "sinceTime=yesterday",
        ];
        for query in undecodable {
            check(query, &Err(LogOptionsError::Undecodable));
        }
        let invalid = [
            "tailLines=-1",
            "limitBytes=0",
            "limitBytes=-5",
            "sinceSeconds=0",
            "sinceSeconds=1&sinceTime=2026-11-22T18:00:00Z",
            "stream=both",
            "stream=stdout",
            "stream=",
            "stream=Stdout&tailLines=1",
        ];
        for query in invalid {
            check(query, &Err(LogOptionsError::Invalid));
        }
    }
}
