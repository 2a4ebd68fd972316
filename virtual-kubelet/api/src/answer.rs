//! Answers, in the kubelet's form: texts, and JSON where it is asked for as such.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, std::io::Error>;
pub(crate) type Answer = Response<AnswerBody>;

const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const JSON: &str = "application/json";

pub(crate) fn of(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let body = Full::new(body.into())
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    with(answer, header::CONTENT_TYPE, content_type)
}

pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    of(status, TEXT, body)
}

/// As Go's `http.Error`, which ends a line.
pub(crate) fn line(status: StatusCode, text: &str) -> Answer {
    self::text(status, format!("{text}\n"))
}

pub(crate) fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => of(StatusCode::OK, JSON, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// 200 with what comes, each piece written at once.
pub(crate) fn stream(pieces: BoxStream<'static, std::io::Result<Bytes>>) -> Answer {
    let frames = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)));
    let answer = Response::new(UnsyncBoxBody::new(frames));
    with(answer, header::CONTENT_TYPE, TEXT)
}

/// 101, with these headers beside.
pub(crate) fn switching(headers: &[(HeaderName, HeaderValue)]) -> Answer {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    for (name, value) in headers {
        answer.headers_mut().append(name, value.clone());
    }
    answer
}

/// An answer that says no: plain data until it is given.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) words: String,
    pub(crate) headers: Vec<(HeaderName, &'static str)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, words: impl Into<String>) -> Self {
        Self {
            status,
            words: words.into(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let Refusal {
            status,
            words,
            headers,
        } = refusal;
        let answer = text(status, words);
        headers
            .into_iter()
            .fold(answer, |answer, (name, value)| with(answer, name, value))
    }
}

pub(crate) fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().append(name, HeaderValue::from_static(value));
    answer
}
