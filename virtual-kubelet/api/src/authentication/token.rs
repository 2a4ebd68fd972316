//! Users by bearer token: the API server says whose one is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::Client;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::review::{ReviewError, Reviewer};
use crate::user::User;

const KIND: &str = "TokenReview";
/// The kubelet's `authentication.webhook.cacheTTL`, for known and unknown tokens alike.
const GOOD_FOR: Duration = Duration::from_mins(2);
const CACHED: usize = 4096;
/// How a browser, which cannot set `Authorization`, offers a token (`request/websocket/protocol.go` of k8s.io/apiserver).
const PROTOCOL_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The token of a request: `Authorization: Bearer`, else a WebSocket's first protocol that carries one.
pub(super) fn of(headers: &HeaderMap) -> Option<String> {
    bearer(headers).or_else(|| in_protocols(headers))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, rest) = value.split_once(' ')?;
    let token = rest.split(' ').next().unwrap_or_default();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

fn in_protocols(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let protocols = values.filter_map(|value| value.to_str().ok());
    let encoded = protocols
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(PROTOCOL_PREFIX))?;
    let token = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(token).ok().filter(|token| !token.is_empty())
}

/// The API server's word on tokens, remembered for a while. Only digests of tokens are held.
pub(super) struct TokenReviews {
    reviewer: Reviewer,
    known: Mutex<Cache<[u8; 32], Option<Arc<User>>>>,
}

impl TokenReviews {
    pub(super) fn new(client: Client) -> Self {
        Self {
            reviewer: Reviewer::new(client),
            known: Mutex::new(Cache::new(CACHED)),
        }
    }

    /// Whose token it is; `None` for nobody's.
    pub(super) async fn user(&self, token: &str) -> Result<Option<Arc<User>>, ReviewError> {
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(user) = self.known().get(&key, Instant::now()) {
            return Ok(user);
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let answer = self.reviewer.ask(KIND, &review).await?;
        let status = answer.status.unwrap_or_default();
        if let Some(message) = status.error.filter(|error| !error.is_empty()) {
            return Err(ReviewError::Evaluation { kind: KIND, message });
        }
        let user = status
            .authenticated
            .unwrap_or_default()
            .then(|| Arc::new(of_info(status.user.unwrap_or_default()).authenticated()));
        self.known().put(key, user.clone(), GOOD_FOR, Instant::now());
        Ok(user)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Cache<[u8; 32], Option<Arc<User>>>> {
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn of_info(info: UserInfo) -> User {
    User {
        name: info.username.unwrap_or_default(),
        uid: info.uid.unwrap_or_default(),
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)], expected: Option<&str>) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        assert_eq!(of(&headers).as_deref(), expected, "{headers:?}");
    }

    #[test]
    fn tokens_are_where_clients_put_them() {
        check(&[], None);
        check(&[("authorization", "Bearer abc")], Some("abc"));
        check(&[("authorization", "bearer abc ")], Some("abc"));
        check(&[("authorization", "Bearer ")], None);
        check(&[("authorization", "Basic abc")], None);
        let browser = "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
        check(&[("sec-websocket-protocol", browser)], Some("abc"));
        let garbled = "base64url.bearer.authorization.k8s.io.!";
        check(&[("sec-websocket-protocol", garbled)], None);
    }
}
