//! Whether a user may do what it asks: the API server's word (`SubjectAccessReview`), remembered as the kubelet does.

mod attributes;

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::Client;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::review::{ReviewError, Reviewer};
use crate::user::User;

pub use attributes::Attributes;

const KIND: &str = "SubjectAccessReview";
/// The kubelet's `authorization.webhook.cacheAuthorizedTTL` and `cacheUnauthorizedTTL`.
const ALLOWED_FOR: Duration = Duration::from_mins(5);
const REFUSED_FOR: Duration = Duration::from_secs(30);
const CACHED: usize = 4096;

/// The API server did not say whether it is allowed.
#[derive(Debug, thiserror::Error)]
#[error("nobody says whether {user} may {verb} nodes/{subresource}")]
pub struct AuthorizationError {
    pub user: String,
    pub verb: &'static str,
    pub subresource: &'static str,
    #[source]
    pub source: ReviewError,
}

/// Asks the API server. One for all ports of a process.
pub struct Authorizer {
    reviewer: Reviewer,
    known: Mutex<Cache<[u8; 32], bool>>,
}

impl Authorizer {
    /// `client` may create `subjectaccessreviews`.
    pub fn new(client: Client) -> Self {
        Self {
            reviewer: Reviewer::new(client),
            known: Mutex::new(Cache::new(CACHED)),
        }
    }

    /// Whether one of the subresources is allowed on this node, the finest first. An empty node name stands for every node.
    ///
    /// # Errors
    /// [`AuthorizationError`] of the first that nobody decided, though another may be allowed, as with the kubelet.
    pub async fn allows(
        &self,
        user: &User,
        attributes: &Attributes,
        node: &str,
    ) -> Result<bool, AuthorizationError> {
        for subresource in attributes.subresources {
            let spec = spec(user, attributes.verb, subresource, node);
            let allowed = self.review(spec).await.map_err(|source| AuthorizationError {
                user: user.name.clone(),
                verb: attributes.verb,
                subresource,
                source,
            })?;
            if allowed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn review(&self, spec: SubjectAccessReviewSpec) -> Result<bool, ReviewError> {
        let key = key(&spec);
        if let Some(allowed) = self.known().get(&key, Instant::now()) {
            return Ok(allowed);
        }
        let review = SubjectAccessReview {
            spec,
            ..SubjectAccessReview::default()
        };
        let answer = self.reviewer.ask(KIND, &review).await?;
        let allowed = decide(&answer.status.unwrap_or_default())?;
        let good_for = if allowed { ALLOWED_FOR } else { REFUSED_FOR };
        self.known().put(key, allowed, good_for, Instant::now());
        Ok(allowed)
    }

    fn known(&self) -> MutexGuard<'_, Cache<[u8; 32], bool>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spec(user: &User, verb: &str, subresource: &str, node: &str) -> SubjectAccessReviewSpec {
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        version: Some("v1".to_owned()),
        resource: Some("nodes".to_owned()),
        subresource: Some(subresource.to_owned()),
        name: Some(node.to_owned()),
        ..ResourceAttributes::default()
    };
    SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    }
}

fn key(spec: &SubjectAccessReviewSpec) -> [u8; 32] {
    let text = serde_json::to_vec(spec).expect("texts and maps of texts are JSON");
    Sha256::digest(text).into()
}

fn decide(status: &SubjectAccessReviewStatus) -> Result<bool, ReviewError> {
    if status.allowed && status.denied.unwrap_or_default() {
        return Err(ReviewError::Contradiction { kind: KIND });
    }
    Ok(status.allowed)
}

/// What the kubelet tells whom it refuses.
pub(crate) fn refusal(user: &User, attributes: &Attributes) -> String {
    let mut text = format!("Forbidden (user={}, verb={}, ", user.name, attributes.verb);
    let subresources = attributes.subresources.join(" ");
    let _ = writeln!(text, "resource=nodes, subresource(s)=[{subresources}])");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_the_kubelets() {
        let user = User {
            name: "eve".into(),
            ..User::default()
        };
        let text = refusal(&user, &Attributes::of(&http::Method::GET, "/pods"));
        assert_eq!(
            text,
            "Forbidden (user=eve, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
        );
    }
}
