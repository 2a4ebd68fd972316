//! One timed call of the API server. Bodies are plain JSON, so that no field of a newer server is lost and none is invented.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::{HeaderValue, Method, Request};
use kube::Client;
use kube::core::WatchEvent;
use serde_json::Value;

use crate::error::Error;

/// For one call, from the first byte sent to the last received.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The field manager of everything applied here.
pub const FIELD_MANAGER: &str = "outrigger-kubelet";
const IMPERSONATE_USER: &str = "impersonate-user";

/// An object as the API server sent it, less `managedFields`.
pub(crate) fn stripped(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// How a patch's body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386: lists are replaced.
    Merge,
    Strategic,
    /// Server-side apply, forced.
    Apply,
}

impl PatchKind {
    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// A cluster's API server. Cloning is cheap.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Whom every request asks to be taken for, if not for who we are.
    as_user: Option<HeaderValue>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

impl Cluster {
    /// The client below, as who we are: for what has requests of its own.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn new(client: Client) -> Self {
        Self {
            client,
            as_user: None,
        }
    }

    /// The same API server by the same connections, asked as this node. The name is a Kubernetes name; with one that cannot be a header,
    /// every answer is a refusal.
    pub(crate) fn as_node(&self, node: &str) -> Self {
        let user = HeaderValue::from_str(&format!("system:node:{node}"));
        Self {
            client: self.client.clone(),
            // Never without the header: that would ask as ourselves. The API server refuses an anonymous user's wishes.
            as_user: Some(user.unwrap_or(HeaderValue::from_static("system:anonymous"))),
        }
    }

    /// The object at `path`, or `None` when the API server says that there is none. Idempotent.
    ///
    /// # Errors
    /// Every other answer, as with all methods here; only [`get`](Self::get) turns 404 into a value.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, Error> {
        match self.call("GET", Method::GET, path, None, &Value::Null).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.call("POST", Method::POST, path, Some("application/json"), body)
            .await
    }

    /// Replaces the object; with a resource version in `body` only if it is still that version.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.call("PUT", Method::PUT, path, Some("application/json"), body)
            .await
    }

    pub async fn patch(&self, path: &str, kind: PatchKind, body: &Value) -> Result<Value, Error> {
        let force = if kind == PatchKind::Apply {
            "&force=true"
        } else {
            ""
        };
        let path = format!("{path}?fieldManager={FIELD_MANAGER}{force}");
        self.call("PATCH", Method::PATCH, &path, Some(kind.content_type()), body)
            .await
    }

    /// `options` are `DeleteOptions`.
    pub async fn delete(&self, path: &str, options: &Value) -> Result<Value, Error> {
        self.call("DELETE", Method::DELETE, path, Some("application/json"), options)
            .await
    }

    /// The changes after a resource version, until the server ends the watch. Dropping the stream ends it too.
    pub async fn watch(
        &self,
        path: &str,
    ) -> Result<BoxStream<'static, Result<WatchEvent<Value>, Error>>, Error> {
        let request = self.request(Method::GET, path, None, &Value::Null)?;
        let opened = tokio::time::timeout(TIMEOUT, self.client.request_events::<Value>(request)).await;
        let stream = opened
            .map_err(|_| timeout("GET", path))?
            .map_err(|source| call("GET", path, source))?;
        let path = path.to_owned();
        Ok(stream
            .map(move |event: Result<WatchEvent<Value>, kube::Error>| {
                event.map_err(|source| call("GET", &path, source))
            })
            .boxed())
    }

    async fn call(
        &self,
        name: &'static str,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: &Value,
    ) -> Result<Value, Error> {
        let request = self.request(method, path, content_type, body)?;
        tokio::time::timeout(TIMEOUT, self.client.request::<Value>(request))
            .await
            .map_err(|_| timeout(name, path))?
            .map_err(|source| call(name, path, source))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: &Value,
    ) -> Result<Request<Vec<u8>>, Error> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(content_type) = content_type {
            request = request.header(http::header::CONTENT_TYPE, content_type);
        }
        if let Some(user) = &self.as_user {
            request = request.header(IMPERSONATE_USER, user);
        }
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        request
            .body(body)
            .map_err(|source| call("request", path, kube::Error::HttpError(source)))
    }
}

fn call(method: &'static str, path: &str, source: kube::Error) -> Error {
    Error::Call {
        method,
        path: path.to_owned(),
        source: Box::new(source),
    }
}

fn timeout(method: &'static str, path: &str) -> Error {
    Error::Timeout {
        method,
        path: path.to_owned(),
        seconds: TIMEOUT.as_secs(),
    }
}

/// Percent-encodes one value of a query.
pub(crate) fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend(
                [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])),
            );
        }
    }
    out
}
