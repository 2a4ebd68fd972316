//! Approves the requests that this process files for its own Nodes. All others it leaves alone: it never denies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::WatchEvent;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use virtual_kubelet_core::ObservedNode;
use virtual_kubelet_core::serving::{Requestor, SigningRequest, Standing, Unfit, judge_names, node_of};

use super::REQUESTS;
use super::request;
use crate::cluster::{Cluster, stripped};
use crate::error::Error;
use crate::kubelet::FurtherNodes;
use crate::lists::read_to_end;

/// By what the API server selects this signer's requests.
const SELECTOR: &str = "fieldSelector=spec.signerName%3Dkubernetes.io%2Fkubelet-serving";
/// As those of the pod watch.
const WATCH_S: u32 = 290;
const WATCH_SILENCE: Duration = Duration::from_secs(150);
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(30);
/// How often it is looked whether a Node publishes now what a request asks for.
const AGAIN: Duration = Duration::from_secs(2);
/// Requests that may yet pass, and requests of which something was said.
const REMEMBERED: usize = 256;

/// Only the process that leads approves.
#[derive(Debug)]
pub struct Approver {
    cluster: Cluster,
    /// Name and provider id of the node that is always served.
    first: (String, String),
    further: watch::Receiver<FurtherNodes>,
    us: Requestor,
    /// Requests of ours that their Node does not bear out yet.
    waiting: BTreeMap<String, Value>,
    /// The UIDs of requests of which it was told why they are left alone.
    told: BTreeSet<String>,
    failures: u32,
}

impl Approver {
    /// `first` and `further` are our Nodes, by name and provider id.
    pub fn new(cluster: Cluster, first: (String, String), further: watch::Receiver<FurtherNodes>) -> Self {
        Self {
            cluster,
            first,
            further,
            us: Requestor::default(),
            waiting: BTreeMap::new(),
            told: BTreeSet::new(),
            failures: 0,
        }
    }

    /// Runs for ever; dropping the future ends it.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = self.follow().await {
                self.failures = self.failures.saturating_add(1);
                tracing::warn!(
                    error = error.chain(),
                    "following requests for certificates failed"
                );
            }
            let ceiling = BACKOFF
                .saturating_mul(1 << self.failures.min(10))
                .min(BACKOFF_CAP);
            sleep(ceiling.mul_f64(rand::random_range(0.5..1.0))).await;
        }
    }

    /// One list, and the watch from it until that ends.
    async fn follow(&mut self) -> Result<(), Error> {
        if self.us.username.is_empty() {
            self.us = whoami(&self.cluster).await?;
        }
        let list = format!("{REQUESTS}?{SELECTOR}");
        let (requests, from) = read_to_end(&self.cluster, &list, "CertificateSigningRequestList").await?;
        self.waiting.clear();
        for request in requests {
            self.consider(request).await;
        }
        let watch = format!("{list}&watch=true&timeoutSeconds={WATCH_S}&resourceVersion={from}");
        let mut stream = self.cluster.watch(&watch).await?;
        self.failures = 0;
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_waiting = !self.waiting.is_empty();
            tokio::select! {
                event = timeout(WATCH_SILENCE, stream.next()) => match event {
                    Ok(Some(Ok(WatchEvent::Added(request) | WatchEvent::Modified(request)))) => {
                        self.consider(request).await;
                    }
                    Ok(Some(Ok(WatchEvent::Deleted(request)))) => {
                        self.waiting.remove(&parsed(&request).metadata.name);
                    }
                    Ok(Some(Ok(WatchEvent::Bookmark(_)))) => {}
                    Ok(Some(Err(error))) => return Err(error),
                    // It is listed anew.
                    Ok(Some(Ok(WatchEvent::Error(_))) | None) | Err(_) => return Ok(()),
                },
                _ = again.tick(), if has_waiting => {
                    for request in std::mem::take(&mut self.waiting).into_values() {
                        self.consider(request).await;
                    }
                }
            }
        }
    }

    /// Approves it if it is right. A failed call leaves it for later.
    async fn consider(&mut self, object: Value) {
        let request = parsed(&object);
        self.waiting.remove(&request.metadata.name);
        if request.standing() != Standing::Pending {
            return;
        }
        let may_pass = match self.judge(&request).await {
            Ok(Ok(node)) => match self.approve(&object, &node).await {
                Ok(()) => {
                    tracing::info!(request = request.metadata.name, node, "approved a certificate");
                    false
                }
                Err(error) => Self::failed(&request, &error),
            },
            Ok(Err(unfit)) => {
                self.tell(&request, &unfit);
                unfit.may_pass()
            }
            Err(error) => Self::failed(&request, &error),
        };
        if may_pass && self.waiting.len() < REMEMBERED {
            self.waiting.insert(request.metadata.name, object);
        }
    }

    async fn judge(&self, request: &SigningRequest) -> Result<Result<String, Unfit>, Error> {
        let requested = request::read(&request.spec.request);
        let node = match node_of(&request.spec, requested.as_ref(), &self.us) {
            Ok(node) => node,
            Err(unfit) => return Ok(Err(unfit)),
        };
        // Only names of ours are asked for: one of a request may be anything.
        let ours = self.provider_id(node);
        let observed = match &ours {
            Some(_) => self.cluster.get(&format!("/api/v1/nodes/{node}")).await?,
            None => None,
        };
        let observed = observed.and_then(|node| serde_json::from_value::<ObservedNode>(node).ok());
        let requested = requested.as_ref().ok_or(Unfit::Unreadable);
        let judged =
            requested.and_then(|requested| judge_names(node, requested, ours.as_deref(), observed.as_ref()));
        Ok(judged.map(|()| node.to_owned()))
    }

    fn provider_id(&self, node: &str) -> Option<String> {
        let (first, provider_id) = &self.first;
        if node == first {
            return Some(provider_id.clone());
        }
        self.further.borrow().get(node).cloned()
    }

    /// By PUT of the version that was judged; its spec cannot change.
    async fn approve(&self, object: &Value, node: &str) -> Result<(), Error> {
        let mut approved = stripped(object.clone());
        let name = parsed(object).metadata.name;
        approved["status"]["conditions"] = json!([{
            "type": "Approved", "status": "True", "reason": "OutriggerApproved",
            "message": format!("outrigger-kubelet asks for the addresses that its Node {node} publishes"),
        }]);
        self.cluster
            .put(&format!("{REQUESTS}/{name}/approval"), &approved)
            .await?;
        Ok(())
    }

    /// Whether it is tried again: a conflict is seen by the watch.
    fn failed(request: &SigningRequest, error: &Error) -> bool {
        tracing::warn!(
            request = request.metadata.name,
            error = error.chain(),
            "judging or approving a certificate failed"
        );
        error.code() != Some(409)
    }

    /// Once for each request, and not for those of others.
    fn tell(&mut self, request: &SigningRequest, unfit: &Unfit) {
        if unfit.is_foreign() {
            tracing::debug!(request = request.metadata.name, %unfit, "a certificate of somebody else");
            return;
        }
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        if self.told.insert(request.metadata.uid.clone()) {
            tracing::warn!(request = request.metadata.name, why = %unfit, "a request for a certificate is left alone");
        }
    }
}

/// Who this process is to the API server, by its own word.
async fn whoami(cluster: &Cluster) -> Result<Requestor, Error> {
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let mut answer = cluster.post(path, &review).await?;
    let user = answer.pointer_mut("/status/userInfo").map(Value::take);
    let user: Option<Requestor> = user.and_then(|user| serde_json::from_value(user).ok());
    user.filter(|user| !user.username.is_empty())
        .ok_or(Error::Malformed {
            path: path.to_owned(),
            what: "a user",
        })
}

/// What is no request reads as one of nobody.
fn parsed(object: &Value) -> SigningRequest {
    serde_json::from_value(object.clone()).unwrap_or_default()
}
