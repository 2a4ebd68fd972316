//! Invented answers, in the form that the upstream itself would use.

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, TRANSFER_ENCODING};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::rule::Dialect;
use crate::streams::{Body, whole};

const EXPIRED: &str = "too old resource version";

/// A refusal with this status.
pub(crate) fn refusal(dialect: Dialect, status: StatusCode) -> Response<Body> {
    let (kind, body) = match dialect {
        Dialect::Kubernetes => ("application/json", kubernetes_status(status)),
        Dialect::Hub => ("application/problem+json", problem(status)),
    };
    respond(status, kind, body.to_string())
}

/// A watch whose one event says that its version is gone.
pub(crate) fn expired_watch(dialect: Dialect) -> Response<Body> {
    match dialect {
        Dialect::Kubernetes => {
            let event = json!({ "type": "ERROR", "object": kubernetes_status(StatusCode::GONE) });
            respond(StatusCode::OK, "application/json", format!("{event}\n"))
        }
        Dialect::Hub => {
            let event = json!({ "revision": 0, "change": { "kind": "resync" } });
            respond(
                StatusCode::OK,
                "text/event-stream",
                format!("id: 0\ndata: {event}\n\n"),
            )
        }
    }
}

/// The list without its items; `None` when this is no list.
pub(crate) fn emptied(dialect: Dialect, list: &[u8], version: Option<u64>) -> Option<Bytes> {
    let mut list: Map<String, Value> = serde_json::from_slice(list).ok()?;
    match list.get_mut("items")? {
        items @ (Value::Array(_) | Value::Null) => *items = json!([]),
        _ => return None,
    }
    match dialect {
        Dialect::Kubernetes => {
            let metadata = list.get_mut("metadata")?.as_object_mut()?;
            // More pages to come would spoil the lie.
            metadata.remove("continue");
            metadata.remove("remainingItemCount");
            if let Some(version) = version {
                metadata.insert("resourceVersion".to_owned(), version.to_string().into());
            }
        }
        Dialect::Hub => {
            let revision = list.get_mut("revision")?;
            if let Some(version) = version {
                *revision = version.into();
            }
        }
    }
    Some(Value::Object(list).to_string().into())
}

/// The head of the upstream's answer over another body.
pub(crate) fn with_body(mut head: Parts, body: Bytes) -> Response<Body> {
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, CONTENT_ENCODING, ETAG] {
        head.headers.remove(name);
    }
    Response::from_parts(head, whole(body))
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(whole(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// As `k8s.io/apimachinery/pkg/api/errors` makes them.
fn kubernetes_status(status: StatusCode) -> Value {
    let reason = match status.as_u16() {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message(status), "reason": reason, "code": status.as_u16(),
    })
}

/// As `iot-hub-api` writes them; it has no code of its own for 410.
fn problem(status: StatusCode) -> Value {
    let code = match status.as_u16() {
        400 => "bad-request",
        401 => "unauthenticated",
        403 => "forbidden",
        404 => "not-found",
        409 => "limit-reached",
        429 => "too-many-requests",
        500 => "internal",
        503 => "unavailable",
        _ => "unknown",
    };
    json!({
        "type": format!("urn:outrigger:problem:{code}"), "title": message(status), "status": status.as_u16(),
        "detail": message(status),
    })
}

fn message(status: StatusCode) -> &'static str {
    match status {
        StatusCode::GONE => EXPIRED,
        other => other.canonical_reason().unwrap_or("refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_loses_its_items_and_further_pages_and_nothing_else() {
        let check = |dialect, given: Value, version, expect: Option<Value>| {
            let found = emptied(dialect, given.to_string().as_bytes(), version);
            let found = found.map(|body| serde_json::from_slice::<Value>(&body).unwrap());
            assert_eq!(found, expect, "{given}");
        };
        let pods = |items: Value, metadata: Value| json!({ "kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items });
        let full = || {
            pods(
                json!([{}]),
                json!({ "resourceVersion": "7", "continue": "x", "remainingItemCount": 2 }),
            )
        };
        let kubernetes = Dialect::Kubernetes;
        check(
            kubernetes,
            full(),
            None,
            Some(pods(json!([]), json!({ "resourceVersion": "7" }))),
        );
        check(
            kubernetes,
            full(),
            Some(3),
            Some(pods(json!([]), json!({ "resourceVersion": "3" }))),
        );
        check(kubernetes, json!({ "kind": "Pod", "metadata": {} }), None, None);
        let hub = |revision: u64, items: Value| json!({ "revision": revision, "items": items });
        check(Dialect::Hub, hub(9, json!([1])), None, Some(hub(9, json!([]))));
        check(Dialect::Hub, hub(9, json!([1])), Some(2), Some(hub(2, json!([]))));
        check(Dialect::Hub, json!({ "items": 3 }), None, None);
        check(Dialect::Hub, json!([1]), None, None);
    }
}
