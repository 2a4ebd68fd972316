//! The HTTPS half of the hub's one port: enrolment and blobs. One request per connection; answers are capped while they are read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge_protocol::Digest;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::http::request::Builder;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;

use crate::dial::{DialError, Endpoint, dial};

/// One request, connection included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 4 << 20;
/// What one request asks of a blob, in bytes: over a slow link, too, it comes in time.
const PART: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum DeviceApiError {
    #[error("the hub was not reached")]
    Connect(#[from] DialError),
    #[error("{method} {path} failed")]
    Http {
        method: &'static str,
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{method} {path} was not answered in {} s", TIMEOUT.as_secs())]
    Timeout { method: &'static str, path: String },
    #[error("{method} {path} was answered with {status}: {detail}")]
    Status {
        method: &'static str,
        path: String,
        status: StatusCode,
        detail: String,
    },
}

impl DeviceApiError {
    /// Whether the hub understood the request and said no: asking again with the same words is pointless.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { status, .. }
            if status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS)
    }
}

/// Sends one request and returns the body of a 2xx answer.
///
/// # Errors
/// [`DeviceApiError`]; a `Status` carries the start of the problem's text.
pub async fn call(
    endpoint: &Endpoint,
    tls: Arc<ClientConfig>,
    method: &'static str,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes, DeviceApiError> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json");
    let answer = exchange(endpoint, tls, (method, path), request, body).await?;
    Ok(answer.into_body())
}

/// Appends the next part of a blob to what is there of it; whether that is all. Called again after an error it goes on where it was.
///
/// # Errors
/// [`DeviceApiError`]
pub async fn next_part(
    endpoint: &Endpoint,
    tls: Arc<ClientConfig>,
    digest: Digest,
    there: &mut Vec<u8>,
) -> Result<bool, DeviceApiError> {
    let (method, path) = ("GET", format!("/blobs/{digest}"));
    let (first, last) = (there.len(), there.len() + PART - 1);
    let request = Request::builder()
        .method(method)
        .uri(&path)
        .header("range", format!("bytes={first}-{last}"));
    let answer = exchange(endpoint, tls, (method, &path), request, Vec::new()).await?;
    join(there, answer).map_err(|why| DeviceApiError::Http {
        method,
        path,
        source: why.into(),
    })
}

/// Appends an answer to what is there of a blob; whether that is all.
fn join(there: &mut Vec<u8>, answer: Response<Bytes>) -> Result<bool, &'static str> {
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        // The whole of it.
        *there = answer.into_body().into();
        return Ok(true);
    }
    let range = answer.headers().get("content-range");
    let (first, total) = range
        .and_then(|range| {
            let (range, total) = range.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
            let (first, _) = range.split_once('-')?;
            Some((first.parse::<usize>().ok()?, total.parse::<usize>().ok()?))
        })
        .ok_or("the hub does not say which part it sends")?;
    let part = answer.into_body();
    if first != there.len() || part.is_empty() || total > MAX_ANSWER || there.len() + part.len() > total {
        return Err("the hub's answer is not the part that was asked for");
    }
    there.extend_from_slice(&part);
    Ok(there.len() == total)
}

/// One request over a connection of its own; a 2xx answer, its body capped.
async fn exchange(
    endpoint: &Endpoint,
    tls: Arc<ClientConfig>,
    (method, path): (&'static str, &str),
    request: Builder,
    body: Vec<u8>,
) -> Result<Response<Bytes>, DeviceApiError> {
    tokio::time::timeout(TIMEOUT, send(endpoint, tls, (method, path), request, body))
        .await
        .unwrap_or_else(|_| {
            Err(DeviceApiError::Timeout {
                method,
                path: path.to_owned(),
            })
        })
}

async fn send(
    endpoint: &Endpoint,
    tls: Arc<ClientConfig>,
    (method, path): (&'static str, &str),
    request: Builder,
    body: Vec<u8>,
) -> Result<Response<Bytes>, DeviceApiError> {
    let http = |source: Box<dyn std::error::Error + Send + Sync>| DeviceApiError::Http {
        method,
        path: path.to_owned(),
        source,
    };
    let stream = dial(endpoint, tls).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| http(error.into()))?;
    let request = request
        .header("host", &endpoint.host)
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| http(error.into()))?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| http(error.into()))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(&http)?.to_bytes();
        Ok::<_, DeviceApiError>(Response::from_parts(head, body))
    };
    // The connection is driven beside the request and dropped with it.
    let answer = tokio::select! {
        answer = answer => answer?,
        ended = connection => match ended {
            Ok(()) => return Err(http("the hub closed the connection before it answered".into())),
            Err(error) => return Err(http(error.into())),
        },
    };
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let detail = edge_protocol::text::sanitise(&String::from_utf8_lossy(answer.body()));
    Err(DeviceApiError::Status {
        method,
        path: path.to_owned(),
        status,
        detail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(there: &str, range: Option<&str>, part: &str, expect: Result<(bool, &str), ()>) {
        let mut body = there.as_bytes().to_vec();
        let answer = match range {
            Some(range) => Response::builder()
                .status(StatusCode::PARTIAL_CONTENT)
                .header("content-range", range),
            None => Response::builder(),
        };
        let answer = answer.body(Bytes::from(part.to_owned())).unwrap();
        let joined = join(&mut body, answer).map_err(drop);
        let found = joined.map(|all| (all, std::str::from_utf8(&body).unwrap()));
        assert_eq!(found, expect, "{range:?}");
    }

    #[test]
    fn a_blob_is_put_together_of_the_parts_that_were_asked_for() {
        check("", Some("bytes 0-1/4"), "ab", Ok((false, "ab")));
        check("ab", Some("bytes 2-3/4"), "cd", Ok((true, "abcd")));
        // A hub that knows no ranges gives all of it.
        check("ab", None, "abcd", Ok((true, "abcd")));
        for bad in [
            "bytes 0-1/4",
            "bytes 2-3/3",
            "bytes 2-3/*",
            "bytes 2-3/5000000",
            "lines 2-3/4",
            "",
        ] {
            check("ab", Some(bad), "cd", Err(()));
        }
        check("ab", Some("bytes 2-3/4"), "", Err(()));
    }
}
