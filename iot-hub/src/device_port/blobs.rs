//! `GET /blobs/{digest}`: a blob is served to a device only if its present set names it (law 9).

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use edge_protocol::Digest;
use iot_hub_api::ProblemCode;

use super::{DevicePort, Peer, gate};
use crate::rest::problem::{Path, Refusal};

pub(super) async fn blob(
    State(port): State<DevicePort>,
    Extension(peer): Extension<Peer>,
    Path(digest): Path<Digest>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let named = peer
        .named
        .ok_or_else(|| Refusal::new(ProblemCode::Unauthenticated, "show the device's certificate"))?;
    // One answer for what does not exist and for what belongs to others.
    let found = port.pump.read(move |reading| {
        gate::admitted(reading.hub, &named)?;
        Ok(reading.hub.blob(&named.device, &digest).map(str::to_owned))
    });
    let body = found
        .await?
        .map_err(|_: iot_hub_mqtt::Refusal| {
            Refusal::new(ProblemCode::Forbidden, "the device is not admitted (any more)")
        })?
        .ok_or_else(|| Refusal::new(ProblemCode::NoSuchBlob, "your set names no such blob"))?
        .into_bytes();
    let range = headers
        .get(header::RANGE)
        .map(|value| value.to_str().unwrap_or_default());
    Ok(respond(digest, body, range))
}

fn respond(digest: Digest, mut body: Vec<u8>, range: Option<&str>) -> Response {
    let total = body.len();
    let common = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, format!("\"{digest}\"")),
    ];
    match range.map_or(Wanted::Whole, |range| wanted(range, total)) {
        Wanted::Whole => (StatusCode::OK, common, body).into_response(),
        Wanted::Part { first, last } => {
            body.truncate(last + 1);
            body.drain(..first);
            let content_range = [(header::CONTENT_RANGE, format!("bytes {first}-{last}/{total}"))];
            (StatusCode::PARTIAL_CONTENT, common, content_range, body).into_response()
        }
        Wanted::Outside => {
            let detail = format!("the blob has {total} bytes");
            let mut response = Refusal::new(ProblemCode::RangeNotSatisfiable, detail).into_response();
            let size = format!("bytes */{total}");
            response.headers_mut().insert(
                header::CONTENT_RANGE,
                size.parse().expect("digits are a header value"),
            );
            response
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    /// Both inclusive.
    Part {
        first: usize,
        last: usize,
    },
    Outside,
}

/// One range of RFC 9110, 14.1.2. What is not exactly one byte range is ignored, as the RFC allows.
fn wanted(range: &str, total: usize) -> Wanted {
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Wanted::Whole;
    };
    match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), _) if first >= total => Wanted::Outside,
        (Ok(first), Ok(last)) if first <= last => Wanted::Part {
            first,
            last: last.min(total - 1),
        },
        (Ok(first), Err(_)) if last.is_empty() => Wanted::Part {
            first,
            last: total - 1,
        },
        (Err(_), Ok(0)) if first.is_empty() => Wanted::Outside,
        (Err(_), Ok(suffix)) if first.is_empty() && total > 0 => Wanted::Part {
            first: total.saturating_sub(suffix),
            last: total - 1,
        },
        _ => Wanted::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |first, last| Wanted::Part { first, last };
        for (range, total, expect) in [
            ("bytes=0-3", 10, part(0, 3)),
            ("bytes=4-", 10, part(4, 9)),
            ("bytes=4-99", 10, part(4, 9)),
            ("bytes=-3", 10, part(7, 9)),
            ("bytes=-30", 10, part(0, 9)),
            ("bytes=10-", 10, Wanted::Outside),
            ("bytes=0-", 0, Wanted::Outside),
            ("bytes=-0", 10, Wanted::Outside),
            ("bytes=5-4", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Whole),
            ("lines=1-2", 10, Wanted::Whole),
            ("", 10, Wanted::Whole),
        ] {
            assert_eq!(wanted(range, total), expect, "{range} of {total}");
        }
    }
}
