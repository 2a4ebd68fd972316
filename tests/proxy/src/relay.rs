//! One client connection: each request is forwarded, or answered by the lie that is told about it.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use tokio::sync::Semaphore;

use crate::answer;
use crate::ledger::{Admission, Asked, Claim, Ledger, Place};
use crate::rule::{Dialect, Lie};
use crate::socket::Reset;
use crate::streams::{Body, Fate, passed, watched};
use crate::upstream::{Line, UpstreamError};

/// The longest list that is emptied. It is read whole, one at a time.
const MAX_LIST: usize = 64 << 20;

/// What all connections share.
pub(crate) struct Common {
    pub dialect: Dialect,
    pub ledger: Ledger,
    /// One permit: whoever holds a whole list in memory.
    pub rewriting: Semaphore,
}

pub(crate) struct Relay {
    pub common: Arc<Common>,
    pub line: Line,
    pub reset: Reset,
}

/// Why a request has no answer; its connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("refused, as told")]
    Refused,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the upstream's list cannot be read")]
    List(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Relay {
    pub async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, NoAnswer> {
        let asked = Asked::of(&request);
        let Admission { claim, place } = self.common.ledger.admit(&asked);
        let answer = match claim {
            None => self.pass(request, place, Fate::Pass).await,
            Some(claim) => self.lie(request, &asked, place, claim).await,
        };
        if let Err(error) = &answer {
            tracing::debug!(method = %asked.method, path = asked.path, %error, "no answer");
        }
        answer
    }

    async fn lie(
        &self,
        request: Request<Incoming>,
        asked: &Asked,
        place: Option<Place>,
        claim: Claim,
    ) -> Result<Response<Body>, NoAnswer> {
        let dialect = self.common.dialect;
        match claim.lie {
            Lie::Pass => {
                claim.served();
                self.pass(request, place, Fate::Pass).await
            }
            Lie::Delay { millis } => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                claim.served();
                self.pass(request, place, Fate::Pass).await
            }
            Lie::Refuse => {
                self.reset.ask();
                claim.served();
                Err(NoAnswer::Refused)
            }
            Lie::Status { code } => {
                claim.served();
                let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Ok(answer::refusal(dialect, status))
            }
            Lie::Expired => {
                claim.served();
                let of_watch = asked.is_watch.then(|| answer::expired_watch(dialect));
                Ok(of_watch.unwrap_or_else(|| answer::refusal(dialect, StatusCode::GONE)))
            }
            Lie::Cut { after_bytes: left } => {
                self.pass(
                    request,
                    place,
                    Fate::CutAfter {
                        left,
                        claim: Some(claim),
                    },
                )
                .await
            }
            Lie::NoBookmark { then } => {
                self.pass(
                    plain(request),
                    place,
                    Fate::UntilBookmark {
                        dialect,
                        then,
                        claim: Some(claim),
                    },
                )
                .await
            }
            Lie::EmptyList { version } => self.empty_list(plain(request), claim, version).await,
        }
    }

    async fn pass(
        &self,
        request: Request<Incoming>,
        place: Option<Place>,
        fate: Fate,
    ) -> Result<Response<Body>, NoAnswer> {
        let (head, body) = self.forward(request).await?.into_parts();
        let body = match place {
            // A refused watch is no stream that could be cut.
            Some(place) if head.status.is_success() => watched(body, place, fate),
            _ => passed(body),
        };
        Ok(Response::from_parts(head, body))
    }

    async fn empty_list(
        &self,
        request: Request<Incoming>,
        claim: Claim,
        version: Option<u64>,
    ) -> Result<Response<Body>, NoAnswer> {
        let (head, body) = self.forward(request).await?.into_parts();
        let kind = head.headers.get(CONTENT_TYPE);
        let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        if head.status != StatusCode::OK || !is_json {
            return Ok(Response::from_parts(head, passed(body)));
        }
        let _turn = self
            .common
            .rewriting
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let list = Limited::new(body, MAX_LIST)
            .collect()
            .await
            .map_err(NoAnswer::List)?
            .to_bytes();
        Ok(match answer::emptied(self.common.dialect, &list, version) {
            Some(emptied) => {
                claim.served();
                answer::with_body(head, emptied)
            }
            None => answer::with_body(head, list),
        })
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>, NoAnswer> {
        drop_hop_by_hop(request.headers_mut());
        let host = HeaderValue::from_str(self.line.authority().as_str());
        request
            .headers_mut()
            .insert(HOST, host.expect("an authority has only visible characters"));
        let mut answer = self.line.send(request).await?;
        drop_hop_by_hop(answer.headers_mut());
        Ok(answer)
    }
}

/// Asks for an answer that can be read without unpacking it.
fn plain(mut request: Request<Incoming>) -> Request<Incoming> {
    request.headers_mut().remove(ACCEPT_ENCODING);
    request
}

/// RFC 9110, section 7.6.1: these are about one connection, and there are two.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let known = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    let known = known.into_iter().chain([HeaderName::from_static("keep-alive")]);
    for name in named.into_iter().chain(known) {
        headers.remove(name);
    }
}
