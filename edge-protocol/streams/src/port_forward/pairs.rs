//! Which data stream belongs to which error stream, by the rules of the kubelet's `httpStreamHandler`.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::mux::Stream;
use crate::remote_command::STREAM_TYPE;
use crate::spdy::Headers;

/// Streams that wait for their other half. There are no more than streams of the session.
pub(super) struct Pairs {
    within: Duration,
    waiting: BTreeMap<String, Half>,
}

struct Half {
    since: Instant,
    purpose: Purpose,
    port: u16,
    stream: Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Data,
    Error,
}

impl Pairs {
    pub(super) fn new(within: Duration) -> Self {
        Self {
            within,
            waiting: BTreeMap::new(),
        }
    }

    /// The port, the data stream and the error stream, when `stream` completes a pair. One without the headers it needs, or of which the
    /// pair has its like, is reset.
    pub(super) fn add(&mut self, stream: Stream, now: Instant) -> Option<(u16, Stream, Stream)> {
        let Some((request, purpose, port)) = read(stream.headers(), stream.id()) else {
            tracing::debug!(
                stream = stream.id(),
                "a stream without purpose, port or request is reset"
            );
            return None;
        };
        match self.waiting.remove(&request) {
            None => {
                let since = now;
                self.waiting.insert(
                    request,
                    Half {
                        since,
                        purpose,
                        port,
                        stream,
                    },
                );
                None
            }
            Some(half) if half.purpose == purpose => {
                tracing::debug!(
                    request,
                    ?purpose,
                    "a second stream of one kind for a request is reset"
                );
                self.waiting.insert(request, half);
                None
            }
            Some(half) => match purpose {
                Purpose::Data => Some((port, stream, half.stream)),
                Purpose::Error => Some((half.port, half.stream, stream)),
            },
        }
    }

    /// When the first stream will have waited too long.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.values().map(|half| half.since + self.within).min()
    }

    /// Resets the streams that have waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        self.waiting.retain(|request, half| {
            let stays = now < half.since + self.within;
            if !stays {
                tracing::debug!(request, "a stream whose other half did not come is reset");
            }
            stays
        });
    }
}

/// Request, purpose and port. Clients before Kubernetes 1.2 name no request: they open a data stream right after its error stream.
fn read(headers: &Headers, stream: u32) -> Option<(String, Purpose, u16)> {
    let purpose = match headers.get(STREAM_TYPE)? {
        "data" => Purpose::Data,
        "error" => Purpose::Error,
        _ => return None,
    };
    let port = headers.get("port")?.parse().ok().filter(|port| *port > 0)?;
    let request = match (headers.get("requestid"), purpose) {
        (Some(request), _) if !request.is_empty() => request.to_owned(),
        (_, Purpose::Error) => stream.to_string(),
        (_, Purpose::Data) => stream.checked_sub(2)?.to_string(),
    };
    Some((request, purpose, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)], stream: u32, expected: Option<(&str, Purpose, u16)>) {
        let headers = Headers::new(pairs.iter().copied()).unwrap();
        let expected = expected.map(|(request, purpose, port)| (request.to_owned(), purpose, port));
        assert_eq!(read(&headers, stream), expected, "{pairs:?}");
    }

    #[test]
    fn headers_say_this() {
        let data = ("streamType", "data");
        let error = ("streamType", "error");
        let port = ("port", "8080");
        check(
            &[data, port, ("requestID", "7")],
            3,
            Some(("7", Purpose::Data, 8080)),
        );
        check(
            &[error, port, ("requestID", "7")],
            1,
            Some(("7", Purpose::Error, 8080)),
        );
        check(&[error, port], 5, Some(("5", Purpose::Error, 8080)));
        check(&[data, port], 7, Some(("5", Purpose::Data, 8080)));
        check(
            &[data, port, ("requestID", "")],
            7,
            Some(("5", Purpose::Data, 8080)),
        );
        check(&[data, port], 1, None);
        check(&[data], 1, None);
        check(&[port], 1, None);
        check(&[("streamType", "stdin"), port], 1, None);
        for bad in ["0", "65536", "-1", "http", ""] {
            check(&[data, ("port", bad), ("requestID", "7")], 1, None);
        }
    }
}
