//! One token of a pod's service account, bound to the pod, and renewed in time, by the rules of `pkg/kubelet/token/token_manager.go` in
//! Kubernetes 1.37. It is held in memory only, and no log shows it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::memory::{Held, PodId};
use super::stretch::Run;
use super::wanted::{Read, Token, TokenWanted, is_name};
use crate::error::Error;

const OLDEST: Duration = Duration::from_hours(24);
const JITTER: Duration = Duration::from_secs(10);

/// Whose token it is.
#[derive(Debug)]
pub(super) struct Bearer {
    pub(super) pod: PodId,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Runs for as long as the token is wanted.
pub(super) async fn keep(mut run: Run, bearer: Bearer, wanted: TokenWanted) {
    let account = &wanted.service_account;
    if !is_name(account) || !is_name(&bearer.namespace) {
        run.tell(Read::Missing);
        return;
    }
    let path = format!(
        "/api/v1/namespaces/{}/serviceaccounts/{account}/token",
        bearer.namespace
    );
    let asked = request(&bearer, &wanted);
    loop {
        match run
            .post(&path, &asked)
            .await
            .and_then(|answer| granted(&path, &answer))
        {
            Ok((token, life)) => {
                run.failures = 0;
                run.tell(Read::Present(Held::Token(token)));
                sleep(renewed_after(life, rand::random())).await;
            }
            Err(error) => run.failed(&error).await,
        }
    }
}

/// No node may ask for a token that is not bound to a pod of its own (`plugin/pkg/admission/noderestriction`).
fn request(bearer: &Bearer, wanted: &TokenWanted) -> Value {
    let audiences: Vec<&String> = wanted.audience.iter().collect();
    json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": audiences,
            "expirationSeconds": wanted.expiration_s,
            "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": bearer.name, "uid": bearer.pod.1 },
        },
    })
}

/// The token and how long it is good for, which the API server may have shortened. Its own clock does not matter here.
fn granted(path: &str, answer: &Value) -> Result<(Token, Duration), Error> {
    let malformed = |what| Error::Malformed {
        path: path.to_owned(),
        what,
    };
    let token = answer.pointer("/status/token").and_then(Value::as_str);
    let token = token
        .filter(|token| !token.is_empty())
        .ok_or(malformed("status.token"))?;
    let life = answer.pointer("/spec/expirationSeconds").and_then(Value::as_u64);
    let life = life.ok_or(malformed("spec.expirationSeconds"))?;
    Ok((Token::new(token), Duration::from_secs(life)))
}

/// At 80 % of its life and never older than a day, up to ten seconds sooner; `random` is in 0..1.
fn renewed_after(life: Duration, random: f64) -> Duration {
    let jitter = JITTER.mul_f64(random);
    let least = Duration::from_secs(1);
    (life.mul_f64(0.8).min(OLDEST)).saturating_sub(jitter).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(life: u64, random: f64, expected: u64) {
        let after = renewed_after(Duration::from_secs(life), random);
        assert_eq!(after, Duration::from_secs(expected));
    }

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life_and_after_a_day() {
        check(3600, 0.0, 2880);
        check(3600, 1.0, 2870);
        check(600, 0.5, 475);
        check(30 * 24 * 3600, 0.0, 24 * 3600);
        check(0, 1.0, 1);
    }

    #[test]
    fn a_token_is_never_shown() {
        let answer = json!({"spec": {"expirationSeconds": 600}, "status": {"token": "hunter2"}});
        let (token, life) = granted("/token", &answer).unwrap();
        assert_eq!((token.expose(), life), ("hunter2", Duration::from_mins(10)));
        let shown = format!("{:?}", Read::Present(Held::Token(token)));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(granted("/token", &json!({"status": {"token": ""}})).is_err());
    }
}
