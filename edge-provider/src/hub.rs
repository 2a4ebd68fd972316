//! The hub's side of the pump: what the hub says comes in as events, what the bridge decides goes out as calls.

use std::path::PathBuf;
use std::time::Duration;

use edge_protocol::PodUid;
use edge_protocol::v1::{DeploymentState, Source};
use edge_provider_core::pin::{OtherCluster, judge_pin};
use edge_provider_core::{HeldDeployment, Outcome};
use futures_util::StreamExt as _;
use iot_hub_client::api::{
    Change, Deployment, Device, DeviceEventRecord, ProblemCode, PutDeployment, Revision,
};
use iot_hub_client::{ApiToken, ClientError, ClientOptions, Disposition, HubClient};
use tokio::sync::{mpsc, watch};

use crate::options::HubOptions;
use crate::place::Place;

const PAUSE_CAP: Duration = Duration::from_secs(10);

/// Why the hub cannot even be asked.
#[derive(Debug, thiserror::Error)]
pub enum HubSetupError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the hub's client cannot be made")]
    Client(#[source] Box<ClientError>),
}

/// The client that the options describe; nothing is sent yet.
///
/// # Errors
/// [`HubSetupError`] names the file or the option.
pub fn client(options: &HubOptions) -> Result<HubClient, HubSetupError> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|source| HubSetupError::Read {
            path: path.clone(),
            source,
        })
    };
    let token = ApiToken::new(read(&options.token_file)?);
    let options = ClientOptions::new(&options.url, read(&options.ca_file)?, token);
    HubClient::new(options).map_err(|error| HubSetupError::Client(Box::new(error)))
}

/// What the hub says.
#[derive(Debug)]
pub enum HubEvent {
    /// All devices that the token may see.
    Devices(Vec<Device>),
    Device(Box<Device>),
    /// All deployments of ours, read to the end.
    Deployments(Vec<HeldDeployment>),
    Changed(Box<HeldDeployment>),
    Ended(PodUid),
    Happened(Box<DeviceEventRecord>),
    /// The hub no longer has all that devices told since it was last heard.
    Forgotten,
    Answers,
    Silent(String),
}

/// Lists and watches for ever.
#[derive(Debug)]
pub struct HubTask {
    client: HubClient,
    /// The UID of our cluster; nothing is asked before it is known.
    cluster: watch::Receiver<Option<String>>,
    ours: Ours,
    place: Place,
    /// Wishes for a list; many at once are one.
    list_asked: mpsc::Receiver<()>,
    events: mpsc::Sender<HubEvent>,
}

/// Whose deployments are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sources {
    /// Those of the one node.
    Node,
    /// Those of every node of our cluster.
    Cluster,
}

/// What the hub has for us, and how it is known to be our hub.
#[derive(Debug, Clone)]
pub struct Ours {
    pub sources: Sources,
    /// The node whose deployments of another cluster would say that it is not.
    pub node: String,
    /// The configuration names the cluster, so there is nothing to ask.
    pub configured: bool,
}

impl HubTask {
    pub fn new(
        client: HubClient,
        cluster: watch::Receiver<Option<String>>,
        ours: Ours,
        place: Place,
        list_asked: mpsc::Receiver<()>,
        events: mpsc::Sender<HubEvent>,
    ) -> Self {
        Self {
            client,
            cluster,
            ours,
            place,
            list_asked,
            events,
        }
    }

    /// Runs until nobody listens. Dropping the future ends it.
    ///
    /// # Errors
    /// [`OtherCluster`] before anything was told: no cluster is configured, and the hub knows this node from another one.
    pub async fn run(mut self) -> Result<(), OtherCluster> {
        let known = self.cluster.wait_for(Option::is_some).await;
        let Ok(Some(cluster)) = known.map(|cluster| cluster.clone()) else {
            return Ok(());
        };
        let source = Source {
            cluster_uid: cluster,
            node: self.ours.node.clone(),
        };
        self.place.restore().await;
        let mut failures = 0_u32;
        let mut pinned = self.ours.configured;
        while !self.events.is_closed() {
            let began = async {
                if !pinned {
                    let all = self.client.deployments(None).await?.items;
                    let live = all
                        .iter()
                        .filter(|held| !matches!(held.state, DeploymentState::Deleting { .. }));
                    if let Err(other) = judge_pin(&source, live.map(|held| &held.spec.source)) {
                        return Ok::<_, ClientError>(Err(other));
                    }
                }
                self.list(&source).await.map(Ok)
            };
            match began.await {
                Ok(from) => {
                    failures = 0;
                    pinned = true;
                    let from = self.place.after(from?);
                    self.follow(from, &source).await;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.tell_silent(&error).await;
                    let ceiling = Duration::from_millis(250)
                        .saturating_mul(1 << failures.min(8))
                        .min(PAUSE_CAP);
                    tokio::time::sleep(ceiling.mul_f64(rand::random::<f64>())).await;
                }
            }
        }
        Ok(())
    }

    async fn list(&self, source: &Source) -> Result<Revision, ClientError> {
        let filter = match self.ours.sources {
            Sources::Node => Some(source),
            Sources::Cluster => None,
        };
        let deployments = self.client.deployments(filter).await?;
        let devices = self.client.devices().await?;
        let ours = |deployment: &Deployment| self.is_ours(source, deployment);
        let held = deployments.items.into_iter().filter(ours).map(held).collect();
        self.tell(HubEvent::Answers).await;
        self.tell(HubEvent::Devices(devices.items)).await;
        self.tell(HubEvent::Deployments(held)).await;
        // The older of the two: what lies between is told twice, which changes nothing.
        Ok(deployments.revision)
    }

    fn is_ours(&self, source: &Source, deployment: &Deployment) -> bool {
        let of = &deployment.spec.source;
        match self.ours.sources {
            Sources::Node => of == source,
            Sources::Cluster => of.cluster_uid == source.cluster_uid,
        }
    }

    /// Returns when only a list can tell what was missed, or when one is asked for.
    async fn follow(&mut self, from: Revision, source: &Source) {
        let mut watch = self.client.watch(from);
        self.place.reached(from);
        let mut answers = true;
        loop {
            let item = tokio::select! {
                item = watch.next() => item,
                Some(()) = self.list_asked.recv() => return,
            };
            let Some(item) = item else { return };
            if self.events.is_closed() {
                return;
            }
            let event = match item {
                Ok(event) => event,
                Err(error) => {
                    answers = false;
                    self.tell_silent(&error).await;
                    continue;
                }
            };
            if !answers {
                answers = true;
                self.tell(HubEvent::Answers).await;
            }
            match event.change {
                Change::Device { device } => self.tell(HubEvent::Device(device)).await,
                Change::Deployment { deployment } if self.is_ours(source, &deployment) => {
                    self.tell(HubEvent::Changed(Box::new(held(*deployment)))).await;
                }
                Change::DeploymentEnded { uid } => self.tell(HubEvent::Ended(uid)).await,
                Change::DeviceEvent { record } => self.tell(HubEvent::Happened(Box::new(record))).await,
                Change::Resync => {
                    self.place.lost();
                    self.tell(HubEvent::Forgotten).await;
                    return;
                }
                Change::Deployment { .. } | Change::Bookmark | Change::Unknown => {}
            }
            self.place.reached(event.revision);
        }
    }

    async fn tell_silent(&self, error: &ClientError) {
        let message = chain(error);
        tracing::warn!(error = message, "the hub does not answer");
        self.tell(HubEvent::Silent(message)).await;
    }

    async fn tell(&self, event: HubEvent) {
        // A closed channel is noticed by the caller.
        let _ = self.events.send(event).await;
    }
}

fn held(deployment: Deployment) -> HeldDeployment {
    HeldDeployment {
        spec: deployment.spec,
        revision: deployment.revision,
        state: deployment.state,
        status: deployment.status,
    }
}

/// One call that the bridge asked for.
#[derive(Debug)]
pub enum HubCall {
    Put(Box<PutDeployment>),
    Delete {
        uid: PodUid,
        grace_period_s: Option<u32>,
    },
    Release {
        uid: PodUid,
    },
}

/// Executes a call. Idempotent, and bounded in time by the client.
pub async fn execute(client: &HubClient, call: HubCall) -> Outcome {
    let is_put = matches!(call, HubCall::Put(_));
    let result = match call {
        HubCall::Put(put) => client.put_deployment_with(&put).await,
        HubCall::Delete { uid, grace_period_s } => client.delete_deployment(&uid, grace_period_s).await,
        HubCall::Release { uid } => client.release_deployment(&uid).await,
    };
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => outcome(&error, is_put),
    }
}

/// What an error means for the bridge. Only the hub's own word that it will never take the document ends the tries.
fn outcome(error: &ClientError, is_put: bool) -> Outcome {
    let unavailable = || Outcome::Unavailable {
        message: chain(error),
    };
    if error.is_not_found() && !is_put {
        return Outcome::Missing;
    }
    let (Disposition::Reject, Some(problem)) = (error.disposition(), error.problem()) else {
        return unavailable();
    };
    let reason = match problem.code {
        ProblemCode::BadCondition => "BadCondition",
        ProblemCode::BadManifest => "BadManifest",
        ProblemCode::BadObject => "BadObject",
        ProblemCode::BadRequest | ProblemCode::BadValue => "RefusedByHub",
        ProblemCode::Forbidden => "TargetNotAllowed",
        ProblemCode::NotYours => "NotYours",
        ProblemCode::TooLarge => "TooLarge",
        // The pod should say so; it is put again, as every refused one.
        ProblemCode::LimitReached if is_put => "LimitReached",
        // Each of these may pass later, and what is not known may too.
        _ => return unavailable(),
    };
    let mut message = problem.detail.clone();
    if let Some(field) = &problem.field {
        message = format!("{field}: {message}");
    }
    if let Some(position) = problem.position {
        message = format!("{message} (at character {position})");
    }
    Outcome::Refused { reason, message }
}

/// An error with all its causes, for one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use iot_hub_client::api::Problem;

    use super::*;

    #[track_caller]
    fn check(code: ProblemCode, is_put: bool, expected: &str) {
        let error = ClientError::Refused {
            method: "PUT",
            path: "/deployments/u".into(),
            problem: Box::new(
                Problem::new(code, "why")
                    .at_field("target.condition")
                    .at_position(3),
            ),
        };
        let got = match outcome(&error, is_put) {
            Outcome::Done => "done".to_owned(),
            Outcome::Missing => "missing".to_owned(),
            Outcome::Unavailable { .. } => "retry".to_owned(),
            Outcome::Refused { reason, message } => format!("{reason}: {message}"),
        };
        assert_eq!(got, expected, "{code}");
    }

    #[test]
    fn a_call_in_a_log_shows_no_environment() {
        let spec = serde_json::from_value(serde_json::json!({
            "uid": "u1",
            "source": {"cluster_uid": "c", "node": "n"},
            "namespace": "shop",
            "name": "web",
            "target": {"condition": "*", "scope": "*"},
            "ready_policy": "all",
            "manifest": r#"{"env": [{"name": "PASSWORD", "value": "hunter2"}]}"#,
            "objects": [{"digest": edge_protocol::Digest::of("x"), "body": "hunter2"}],
        }))
        .unwrap();
        let logged = format!("{:?}", HubCall::Put(Box::new(spec)));
        assert!(logged.contains("u1") && !logged.contains("hunter2"), "{logged}");
    }

    #[test]
    fn only_the_hubs_own_refusal_ends_the_tries() {
        let refused = "BadCondition: target.condition: why (at character 3)";
        check(ProblemCode::BadCondition, true, refused);
        let limit = "LimitReached: target.condition: why (at character 3)";
        check(ProblemCode::LimitReached, true, limit);
        check(ProblemCode::LimitReached, false, "retry");
        check(ProblemCode::NoSuchDeployment, false, "missing");
        check(ProblemCode::NoSuchDeployment, true, "retry");
        for code in [
            ProblemCode::BeingDeleted,
            ProblemCode::Unauthenticated,
            ProblemCode::TooManyRequests,
            ProblemCode::Internal,
            ProblemCode::Unavailable,
            ProblemCode::Unknown,
        ] {
            check(code, true, "retry");
            check(code, false, "retry");
        }
        let proxy = ClientError::NotTheHub {
            method: "DELETE",
            path: "/x".into(),
            status: 404,
        };
        assert!(matches!(outcome(&proxy, false), Outcome::Unavailable { .. }));
    }
}
