//! Questions to the API server of which the answer comes with the object: `TokenReview` and `SubjectAccessReview`.

use std::time::Duration;

use kube::api::{Api, PostParams};
use kube::core::ClusterResourceScope;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// As `DefaultAuthWebhookRetryBackoff` of k8s.io/apiserver has it, without its jitter: there is one process, not a fleet of them.
const TRIES: usize = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// For one try (`DelegatingAuthenticationOptions.TokenRequestTimeout`).
const ANSWER: Duration = Duration::from_secs(10);
/// Questions under way. Who sends one made-up token after the other waits, and so do others of that kind; the API server is not flooded.
const UNDER_WAY: usize = 32;

/// The API server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    #[error("the API server does not answer {kind}")]
    Call {
        kind: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("no answer to {kind} in {} s", ANSWER.as_secs())]
    Timeout { kind: &'static str },
    #[error("the API server answers {kind} with an error: {message}")]
    Evaluation { kind: &'static str, message: String },
    #[error("the API server's answer to {kind} says both yes and no")]
    Contradiction { kind: &'static str },
}

/// Asks reviews, a bounded number at a time.
pub(crate) struct Reviewer {
    client: Client,
    places: Semaphore,
}

impl Reviewer {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            places: Semaphore::new(UNDER_WAY),
        }
    }

    /// Asks again after what may pass: no connection, no answer in time, an overloaded or broken server.
    pub(crate) async fn ask<R>(&self, kind: &'static str, review: &R) -> Result<R, ReviewError>
    where
        R: Resource<Scope = ClusterResourceScope, DynamicType = ()>,
        R: Serialize + DeserializeOwned + Clone + std::fmt::Debug,
    {
        // Never closed, so there is always a place in the end.
        let _place = self.places.acquire().await;
        let api: Api<R> = Api::all(self.client.clone());
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match once(&api, kind, review).await {
                Err(error) if passes(&error) => {
                    tracing::debug!(kind, %error, "a review is asked again");
                    sleep(pause).await;
                    pause = pause * 3 / 2;
                }
                answer => return answer,
            }
        }
        once(&api, kind, review).await
    }
}

async fn once<R>(api: &Api<R>, kind: &'static str, review: &R) -> Result<R, ReviewError>
where
    R: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
{
    match timeout(ANSWER, api.create(&PostParams::default(), review)).await {
        Ok(answer) => answer.map_err(|source| ReviewError::Call {
            kind,
            source: Box::new(source),
        }),
        Err(_) => Err(ReviewError::Timeout { kind }),
    }
}

fn passes(error: &ReviewError) -> bool {
    match error {
        ReviewError::Timeout { .. } => true,
        ReviewError::Call { source, .. } => match source.as_ref() {
            kube::Error::Api(status) => status.code == 429 || status.code >= 500,
            _ => true,
        },
        ReviewError::Evaluation { .. } | ReviewError::Contradiction { .. } => false,
    }
}
